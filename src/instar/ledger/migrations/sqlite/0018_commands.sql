-- What an instance runs for a task that is none of its release's own, as JSON: a word an item, and its terminal; NULL: none.
ALTER TABLE instances ADD COLUMN command TEXT CHECK (command IS NULL OR json_valid(command));
CREATE TRIGGER instances_command BEFORE UPDATE OF command ON instances
  BEGIN SELECT raise(ABORT, 'an instance keeps its command'); END;

-- A task is one of the release's own ("before 1"), or was given to it ("run 1"): its name is no longer held to a form here.
DROP TRIGGER instances_purpose;
DROP TRIGGER instances_ended;
ALTER TABLE instances ADD COLUMN task_now TEXT CHECK (task_now <> '');
UPDATE instances SET task_now = task;
ALTER TABLE instances DROP COLUMN task;
ALTER TABLE instances RENAME COLUMN task_now TO task;
CREATE TRIGGER instances_purpose BEFORE UPDATE OF task, replacing ON instances
  BEGIN SELECT raise(ABORT, 'an instance keeps its purpose'); END;
CREATE TRIGGER instances_ended BEFORE UPDATE ON instances WHEN OLD.removed_at IS NOT NULL
  BEGIN SELECT raise(ABORT, 'a removed instance is never changed'); END;
CREATE INDEX tasks_of_environment ON tasks (environment, name);
