-- Rollouts that go in stages, tasks of a release, replacements that are counted, pins and alarms.

-- Where a running rollout is: shares of traffic given, what was counted when, what somebody asked for meanwhile.
ALTER TABLE rollouts ADD COLUMN stage TEXT NOT NULL DEFAULT '{}' CHECK (json_valid(stage));

-- task: which of its release's tasks an instance runs instead of the service. replacing: why it was planned outside a
-- rollout ("ended", "unwell", "old", "hot").
ALTER TABLE instances ADD COLUMN task TEXT CHECK (task GLOB 'before [0-9]*' OR task GLOB 'after [0-9]*');
ALTER TABLE instances ADD COLUMN replacing TEXT CHECK (replacing IN ('ended', 'unwell', 'old', 'hot'));
CREATE INDEX instances_replacing ON instances (environment, created_at) WHERE replacing IS NOT NULL;

ALTER TABLE releases ADD COLUMN pinned INTEGER NOT NULL DEFAULT 0 CHECK (pinned IN (0, 1));

-- Why nothing of it is replaced any more until somebody deploys or rolls back.
ALTER TABLE environments ADD COLUMN alarm TEXT CHECK (alarm <> '');

-- A task is begun once for a release, whatever comes of it.
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

CREATE TRIGGER tasks_once BEFORE INSERT ON tasks
  WHEN EXISTS (SELECT 1 FROM tasks
                WHERE environment = NEW.environment AND release = NEW.release AND name = NEW.name)
  BEGIN SELECT raise(ABORT, 'a task is begun once for a release'); END;
CREATE TRIGGER tasks_unchanged BEFORE UPDATE OF environment, release, name, instance, began_at ON tasks
  BEGIN SELECT raise(ABORT, 'a task keeps its name'); END;
CREATE TRIGGER tasks_ended BEFORE UPDATE ON tasks WHEN OLD.outcome IS NOT NULL
  BEGIN SELECT raise(ABORT, 'an ended task is never changed'); END;
CREATE TRIGGER tasks_kept BEFORE DELETE ON tasks
  BEGIN SELECT raise(ABORT, 'tasks are never deleted'); END;
CREATE TRIGGER instances_purpose BEFORE UPDATE OF task, replacing ON instances
  BEGIN SELECT raise(ABORT, 'an instance keeps its purpose'); END;
