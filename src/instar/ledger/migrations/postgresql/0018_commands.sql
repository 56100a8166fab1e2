-- What an instance runs for a task that is none of its release's own, as JSON: a word an item, and its terminal; NULL: none.
ALTER TABLE instances ADD COLUMN command json;

CREATE FUNCTION instances_command_rule() RETURNS trigger LANGUAGE plpgsql SET search_path FROM CURRENT AS $rule$
BEGIN
  IF OLD.command::text IS DISTINCT FROM NEW.command::text THEN
    RAISE EXCEPTION 'an instance keeps its command';
  END IF;
  RETURN NEW;
END $rule$;

CREATE TRIGGER instances_command_rule BEFORE UPDATE ON instances
  FOR EACH ROW EXECUTE FUNCTION instances_command_rule();

-- A task is one of the release's own ("before 1"), or was given to it ("run 1"): its name is no longer held to a form here.
ALTER TABLE instances DROP CONSTRAINT instances_task_check;
ALTER TABLE instances ADD CONSTRAINT instances_task_check CHECK (task <> '');

CREATE INDEX tasks_of_environment ON tasks (environment, name);
