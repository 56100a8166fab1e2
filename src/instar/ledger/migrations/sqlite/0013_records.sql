-- Addresses and processes are the records of the provider that has them, and no longer here. What these columns said of
-- groups that are not removed is kept as it was, for their provider to take over; nothing is added to it, ever.
DROP TRIGGER environments_removed;
DROP INDEX instances_address;
DROP INDEX instances_drifted;
DROP INDEX instances_endings;
DROP INDEX instances_present;
DROP INDEX instances_replacing;
ALTER TABLE tasks RENAME TO tasks_before;
ALTER TABLE instances RENAME TO instances_before;

-- stem is SERVICE-ENVIRONMENT-RELEASE. Two environments can share one (a-b/c and a/b-c): k counts within the stem. made: its
-- provider has made it, though it may not have begun yet.
CREATE TABLE instances (
  serial      INTEGER PRIMARY KEY,
  id          TEXT NOT NULL UNIQUE CHECK (id = stem || '-' || k),
  environment INTEGER NOT NULL,
  release     INTEGER NOT NULL,
  role        TEXT NOT NULL,
  stem        TEXT NOT NULL,
  k           INTEGER NOT NULL CHECK (k > 0),
  members     INTEGER NOT NULL CHECK (members > 0),
  task        TEXT CHECK (task GLOB 'before [0-9]*' OR task GLOB 'after [0-9]*'),
  replacing   TEXT CHECK (replacing IN ('ended', 'unwell', 'old', 'hot', 'drifted', 'tainted')),
  created_at  TEXT NOT NULL,
  made        INTEGER NOT NULL DEFAULT 0 CHECK (made IN (0, 1)),
  started_at  TEXT,
  taint       TEXT CHECK (taint IS NULL OR json_valid(taint)),
  drifted_at  TEXT,
  ending      TEXT CHECK (ending IS NULL OR json_valid(ending)),
  ended_at    TEXT CHECK ((ended_at IS NULL) = (ending IS NULL)),
  removed_at  TEXT,
  UNIQUE (stem, k),
  FOREIGN KEY (environment, release) REFERENCES releases (environment, number)
) STRICT;
INSERT INTO instances (serial, id, environment, release, role, stem, k, members, task, replacing, created_at, made,
                       started_at, taint, drifted_at, ending, ended_at, removed_at)
  SELECT serial, id, environment, release, role, stem, k, members, task, replacing, created_at, boot_id IS NOT NULL,
         started_at, taint, drifted_at, ending, ended_at, removed_at
    FROM instances_before ORDER BY serial;

CREATE TABLE provider_records (
  instance TEXT PRIMARY KEY REFERENCES instances (id),
  value    TEXT NOT NULL CHECK (json_valid(value))
) STRICT;
INSERT INTO provider_records (instance, value)
  SELECT id,
         json_object('address', address,
                     'process', CASE WHEN boot_id IS NULL THEN NULL
                                     ELSE json_object('boot_id', boot_id, 'pid', pid, 'start_time', start_time) END)
    FROM instances_before WHERE removed_at IS NULL AND address <> '';

CREATE TABLE tasks (
  environment INTEGER NOT NULL,
  release     INTEGER NOT NULL,
  name        TEXT NOT NULL,
  instance    TEXT NOT NULL UNIQUE REFERENCES instances (id),
  began_at    TEXT NOT NULL,
  ended_at    TEXT,
  outcome     TEXT CHECK (outcome <> ''),
  CHECK ((ended_at IS NULL) = (outcome IS NULL)),
  PRIMARY KEY (environment, release, name),
  FOREIGN KEY (environment, release) REFERENCES releases (environment, number)
) STRICT;
INSERT INTO tasks (rowid, environment, release, name, instance, began_at, ended_at, outcome)
  SELECT rowid, environment, release, name, instance, began_at, ended_at, outcome FROM tasks_before;
DROP TABLE tasks_before;
DROP TABLE instances_before;

CREATE INDEX instances_present ON instances (environment) WHERE removed_at IS NULL;
CREATE INDEX instances_replacing ON instances (environment, created_at) WHERE replacing IS NOT NULL;
CREATE INDEX instances_endings ON instances (environment, release, ended_at) WHERE ending IS NOT NULL;
CREATE INDEX instances_drifted ON instances (environment, drifted_at) WHERE drifted_at IS NOT NULL;

CREATE TRIGGER environments_removed BEFORE UPDATE OF removed_at ON environments
  WHEN NEW.removed_at IS NOT NULL
       AND (NOT NEW.destroying OR NEW.active IS NOT NULL
            OR EXISTS (SELECT 1 FROM instances WHERE environment = OLD.id AND removed_at IS NULL))
  BEGIN SELECT raise(ABORT, 'an environment has gone when nothing is left of it'); END;

CREATE TRIGGER instances_begin BEFORE INSERT ON instances
  WHEN NEW.made OR NEW.started_at IS NOT NULL OR NEW.removed_at IS NOT NULL OR NEW.taint IS NOT NULL
  BEGIN SELECT raise(ABORT, 'an instance begins as a plan'); END;
CREATE TRIGGER instances_endless BEFORE INSERT ON instances WHEN NEW.ending IS NOT NULL
  BEGIN SELECT raise(ABORT, 'an instance begins without an end'); END;
CREATE TRIGGER instances_added BEFORE INSERT ON instances
  WHEN EXISTS (SELECT 1 FROM environments WHERE id = NEW.environment AND (destroying OR removed_at IS NOT NULL))
  BEGIN SELECT raise(ABORT, 'nothing is added to an environment that goes'); END;
CREATE TRIGGER instances_once BEFORE INSERT ON instances
  WHEN EXISTS (SELECT 1 FROM instances WHERE serial = NEW.serial)
       OR EXISTS (SELECT 1 FROM instances WHERE id = NEW.id OR (stem = NEW.stem AND k = NEW.k))
  BEGIN SELECT raise(ABORT, 'an instance is never replaced'); END;
CREATE TRIGGER instances_unchanged
  BEFORE UPDATE OF serial, id, environment, release, stem, k, created_at ON instances
  BEGIN SELECT raise(ABORT, 'an instance keeps its name'); END;
CREATE TRIGGER instances_group BEFORE UPDATE OF members, role ON instances
  BEGIN SELECT raise(ABORT, 'a group keeps its size and its role'); END;
CREATE TRIGGER instances_purpose BEFORE UPDATE OF task, replacing ON instances
  BEGIN SELECT raise(ABORT, 'an instance keeps its purpose'); END;
CREATE TRIGGER instances_made BEFORE UPDATE OF made ON instances WHEN NEW.made < OLD.made
  BEGIN SELECT raise(ABORT, 'an instance that was made has been made'); END;
CREATE TRIGGER instances_started BEFORE UPDATE OF started_at ON instances
  WHEN OLD.started_at IS NOT NULL AND NEW.started_at IS NOT OLD.started_at
  BEGIN SELECT raise(ABORT, 'an instance keeps when it started'); END;
CREATE TRIGGER instances_drifted BEFORE UPDATE OF drifted_at ON instances
  WHEN OLD.drifted_at IS NOT NULL AND NEW.drifted_at IS NOT OLD.drifted_at
  BEGIN SELECT raise(ABORT, 'when an instance had drifted stays known'); END;
CREATE TRIGGER instances_ending BEFORE UPDATE OF ending, ended_at ON instances
  WHEN OLD.ending IS NOT NULL AND (NEW.ending IS NOT OLD.ending OR NEW.ended_at IS NOT OLD.ended_at)
  BEGIN SELECT raise(ABORT, 'how an instance ended is never changed'); END;
CREATE TRIGGER instances_tainted BEFORE UPDATE OF taint ON instances
  WHEN OLD.taint IS NOT NULL
       AND (NEW.taint IS NULL
            OR json_remove(NEW.taint, '$.due_at', '$.isolated') IS NOT json_remove(OLD.taint, '$.due_at', '$.isolated')
            OR julianday(json_extract(NEW.taint, '$.due_at')) IS NULL
            OR julianday(json_extract(NEW.taint, '$.due_at')) > julianday(json_extract(OLD.taint, '$.due_at'))
            OR coalesce(json_extract(NEW.taint, '$.isolated'), 0) < json_extract(OLD.taint, '$.isolated'))
  BEGIN SELECT raise(ABORT, 'a taint stays until the instance is gone'); END;
CREATE TRIGGER instances_ended BEFORE UPDATE ON instances WHEN OLD.removed_at IS NOT NULL
  BEGIN SELECT raise(ABORT, 'a removed instance is never changed'); END;
CREATE TRIGGER instances_row BEFORE UPDATE ON instances WHEN NEW.rowid <> OLD.rowid
  BEGIN SELECT raise(ABORT, 'a row keeps its number'); END;
CREATE TRIGGER instances_kept BEFORE DELETE ON instances
  BEGIN SELECT raise(ABORT, 'instances are never deleted'); END;

CREATE TRIGGER provider_records_added BEFORE INSERT ON provider_records
  BEGIN SELECT raise(ABORT, 'a provider keeps its own records'); END;
CREATE TRIGGER provider_records_unchanged BEFORE UPDATE ON provider_records
  BEGIN SELECT raise(ABORT, 'what a provider takes over is never changed'); END;
CREATE TRIGGER provider_records_kept BEFORE DELETE ON provider_records
  BEGIN SELECT raise(ABORT, 'what a provider takes over is never deleted'); END;

CREATE TRIGGER tasks_begin BEFORE INSERT ON tasks WHEN NEW.outcome IS NOT NULL
  BEGIN SELECT raise(ABORT, 'a task begins without an end'); END;
CREATE TRIGGER tasks_once BEFORE INSERT ON tasks
  WHEN EXISTS (SELECT 1 FROM tasks
                WHERE environment = NEW.environment AND release = NEW.release AND name = NEW.name)
  BEGIN SELECT raise(ABORT, 'a task is begun once for a release'); END;
CREATE TRIGGER tasks_instance BEFORE INSERT ON tasks
  WHEN EXISTS (SELECT 1 FROM tasks WHERE instance = NEW.instance OR rowid = NEW.rowid)
  BEGIN SELECT raise(ABORT, 'a task is never replaced'); END;
CREATE TRIGGER tasks_unchanged BEFORE UPDATE OF environment, release, name, instance, began_at ON tasks
  BEGIN SELECT raise(ABORT, 'a task keeps its name'); END;
CREATE TRIGGER tasks_ended BEFORE UPDATE ON tasks WHEN OLD.outcome IS NOT NULL
  BEGIN SELECT raise(ABORT, 'an ended task is never changed'); END;
CREATE TRIGGER tasks_row BEFORE UPDATE ON tasks WHEN NEW.rowid <> OLD.rowid
  BEGIN SELECT raise(ABORT, 'a row keeps its number'); END;
CREATE TRIGGER tasks_kept BEFORE DELETE ON tasks
  BEGIN SELECT raise(ABORT, 'tasks are never deleted'); END;
