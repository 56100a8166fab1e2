-- What the tables say of themselves, held: what only grows, what is written once, and that no row takes another's place.

-- Which project's an environment is: the id in its lock. An environment from before has none until its next deploy.
ALTER TABLE environments ADD COLUMN project TEXT CHECK (length(project) = 32 AND project NOT GLOB '*[^0-9a-f]*');
CREATE TRIGGER environments_project BEFORE UPDATE OF project ON environments
  WHEN OLD.project IS NOT NULL AND NEW.project IS NOT OLD.project
       AND NOT EXISTS (SELECT 1 FROM events
                        WHERE seq = (SELECT max(seq) FROM events) AND kind = 'name-adopted'
                          AND place = OLD.service || '/' || OLD.environment
                          AND json_extract(detail, '$.project') = NEW.project)
  BEGIN SELECT raise(ABORT, 'another project takes a name over only with an event that tells of it'); END;

-- A row that is new begins at the beginning.
CREATE TRIGGER environments_begin BEFORE INSERT ON environments
  WHEN NEW.active IS NOT NULL OR NEW.destroying <> 0 OR NEW.removed_at IS NOT NULL OR NEW.alarm IS NOT NULL
  BEGIN SELECT raise(ABORT, 'an environment begins with nothing in it'); END;
CREATE TRIGGER releases_begin BEFORE INSERT ON releases
  WHEN NEW.ran_well <> 0 OR NEW.last_active_at IS NOT NULL OR NEW.pinned <> 0
  BEGIN SELECT raise(ABORT, 'a release begins as one that has not run'); END;
CREATE TRIGGER rollouts_begin BEFORE INSERT ON rollouts WHEN NEW.state <> 'running'
  BEGIN SELECT raise(ABORT, 'a rollout begins as one that runs'); END;
CREATE TRIGGER instances_begin BEFORE INSERT ON instances
  WHEN NEW.boot_id IS NOT NULL OR NEW.started_at IS NOT NULL OR NEW.removed_at IS NOT NULL OR NEW.taint IS NOT NULL
  BEGIN SELECT raise(ABORT, 'an instance begins as a plan'); END;
CREATE TRIGGER tasks_begin BEFORE INSERT ON tasks WHEN NEW.outcome IS NOT NULL
  BEGIN SELECT raise(ABORT, 'a task begins without an end'); END;

-- To an environment that goes or has gone nothing is added, and numbers are never used again, in a later one neither.
CREATE TRIGGER settings_added BEFORE INSERT ON settings
  WHEN EXISTS (SELECT 1 FROM environments WHERE id = NEW.environment AND (destroying OR removed_at IS NOT NULL))
  BEGIN SELECT raise(ABORT, 'nothing is added to an environment that goes'); END;
CREATE TRIGGER releases_added BEFORE INSERT ON releases
  WHEN EXISTS (SELECT 1 FROM environments WHERE id = NEW.environment AND (destroying OR removed_at IS NOT NULL))
  BEGIN SELECT raise(ABORT, 'nothing is added to an environment that goes'); END;
CREATE TRIGGER releases_numbered BEFORE INSERT ON releases
  WHEN EXISTS (SELECT 1 FROM environments n
                 JOIN environments o ON o.service = n.service AND o.environment = n.environment
                 JOIN releases r ON r.environment = o.id
                WHERE n.id = NEW.environment AND r.number >= NEW.number)
  BEGIN SELECT raise(ABORT, 'a release number is never used again'); END;
CREATE TRIGGER rollouts_added BEFORE INSERT ON rollouts
  WHEN EXISTS (SELECT 1 FROM environments WHERE id = NEW.environment AND (destroying OR removed_at IS NOT NULL))
  BEGIN SELECT raise(ABORT, 'nothing is added to an environment that goes'); END;
CREATE TRIGGER instances_added BEFORE INSERT ON instances
  WHEN EXISTS (SELECT 1 FROM environments WHERE id = NEW.environment AND (destroying OR removed_at IS NOT NULL))
  BEGIN SELECT raise(ABORT, 'nothing is added to an environment that goes'); END;

-- What was decided of an environment is not taken back, and it has gone only when nothing is left of it.
CREATE TRIGGER environments_destroying BEFORE UPDATE OF destroying ON environments WHEN NEW.destroying < OLD.destroying
  BEGIN SELECT raise(ABORT, 'a destruction is not taken back'); END;
CREATE TRIGGER environments_removed BEFORE UPDATE OF removed_at ON environments
  WHEN NEW.removed_at IS NOT NULL
       AND (NOT NEW.destroying OR NEW.active IS NOT NULL
            OR EXISTS (SELECT 1 FROM instances WHERE environment = OLD.id AND removed_at IS NULL))
  BEGIN SELECT raise(ABORT, 'an environment has gone when nothing is left of it'); END;
CREATE TRIGGER environments_counted BEFORE UPDATE OF counted_since ON environments
  WHEN OLD.counted_since IS NOT NULL AND (NEW.counted_since IS NULL OR NEW.counted_since < OLD.counted_since)
  BEGIN SELECT raise(ABORT, 'failures that no longer count are not counted again'); END;

-- That a release ran well, and when it last had the traffic, stays known.
CREATE TRIGGER releases_ran BEFORE UPDATE OF ran_well, last_active_at ON releases
  WHEN NEW.ran_well < OLD.ran_well
       OR (OLD.last_active_at IS NOT NULL AND (NEW.last_active_at IS NULL OR NEW.last_active_at < OLD.last_active_at))
  BEGIN SELECT raise(ABORT, 'a release that ran well has run well'); END;

CREATE TRIGGER rollouts_detail BEFORE UPDATE OF detail ON rollouts
  WHEN NEW.state = 'running' AND NEW.detail IS NOT OLD.detail
  BEGIN SELECT raise(ABORT, 'what came of a rollout is written when it ends'); END;

-- When an instance started, it has: another process of it has not started yet.
CREATE TRIGGER instances_started BEFORE UPDATE OF boot_id, pid, start_time, started_at ON instances
  WHEN CASE WHEN NEW.boot_id IS OLD.boot_id AND NEW.pid IS OLD.pid AND NEW.start_time IS OLD.start_time
            THEN OLD.started_at IS NOT NULL AND NEW.started_at IS NOT OLD.started_at
            ELSE NEW.boot_id IS NULL OR NEW.started_at IS NOT NULL END
  BEGIN SELECT raise(ABORT, 'an instance keeps when it started'); END;

-- Of several taints the first says why; it can become due earlier and be isolated, and neither is taken back.
DROP TRIGGER instances_tainted;
CREATE TRIGGER instances_tainted BEFORE UPDATE OF taint ON instances
  WHEN OLD.taint IS NOT NULL
       AND (NEW.taint IS NULL
            OR json_remove(NEW.taint, '$.due_at', '$.isolated') IS NOT json_remove(OLD.taint, '$.due_at', '$.isolated')
            OR julianday(json_extract(NEW.taint, '$.due_at')) IS NULL
            OR julianday(json_extract(NEW.taint, '$.due_at')) > julianday(json_extract(OLD.taint, '$.due_at'))
            OR coalesce(json_extract(NEW.taint, '$.isolated'), 0) < json_extract(OLD.taint, '$.isolated'))
  BEGIN SELECT raise(ABORT, 'a taint stays until the instance is gone'); END;

-- INSERT OR REPLACE and UPDATE OR REPLACE delete what stands in their way and ask no rule on deletion: by a key, or by
-- the number that SQLite gives each row.
CREATE TRIGGER environments_once BEFORE INSERT ON environments
  WHEN EXISTS (SELECT 1 FROM environments
                WHERE id = NEW.id
                   OR (service = NEW.service AND environment = NEW.environment AND removed_at IS NULL))
  BEGIN SELECT raise(ABORT, 'an environment is never replaced'); END;
CREATE TRIGGER rollouts_once BEFORE INSERT ON rollouts
  WHEN EXISTS (SELECT 1 FROM rollouts
                WHERE id = NEW.id OR (environment = NEW.environment AND state = 'running'))
  BEGIN SELECT raise(ABORT, 'a rollout is never replaced'); END;
CREATE TRIGGER instances_once BEFORE INSERT ON instances
  WHEN EXISTS (SELECT 1 FROM instances WHERE serial = NEW.serial)
       OR EXISTS (SELECT 1 FROM instances WHERE id = NEW.id OR (stem = NEW.stem AND k = NEW.k))
       OR EXISTS (SELECT 1 FROM instances WHERE address = NEW.address AND removed_at IS NULL)
  BEGIN SELECT raise(ABORT, 'an instance is never replaced'); END;
CREATE TRIGGER tasks_instance BEFORE INSERT ON tasks
  WHEN EXISTS (SELECT 1 FROM tasks WHERE instance = NEW.instance OR rowid = NEW.rowid)
  BEGIN SELECT raise(ABORT, 'a task is never replaced'); END;
CREATE TRIGGER settings_row BEFORE INSERT ON settings WHEN EXISTS (SELECT 1 FROM settings WHERE rowid = NEW.rowid)
  BEGIN SELECT raise(ABORT, 'settings are never replaced'); END;
CREATE TRIGGER releases_row BEFORE INSERT ON releases WHEN EXISTS (SELECT 1 FROM releases WHERE rowid = NEW.rowid)
  BEGIN SELECT raise(ABORT, 'releases are never replaced'); END;
CREATE TRIGGER environments_row BEFORE UPDATE ON environments WHEN NEW.rowid <> OLD.rowid
  BEGIN SELECT raise(ABORT, 'a row keeps its number'); END;
CREATE TRIGGER releases_kept_row BEFORE UPDATE ON releases WHEN NEW.rowid <> OLD.rowid
  BEGIN SELECT raise(ABORT, 'a row keeps its number'); END;
CREATE TRIGGER rollouts_row BEFORE UPDATE ON rollouts WHEN NEW.rowid <> OLD.rowid
  BEGIN SELECT raise(ABORT, 'a row keeps its number'); END;
CREATE TRIGGER instances_row BEFORE UPDATE ON instances WHEN NEW.rowid <> OLD.rowid
  BEGIN SELECT raise(ABORT, 'a row keeps its number'); END;
CREATE TRIGGER tasks_row BEFORE UPDATE ON tasks WHEN NEW.rowid <> OLD.rowid
  BEGIN SELECT raise(ABORT, 'a row keeps its number'); END;
