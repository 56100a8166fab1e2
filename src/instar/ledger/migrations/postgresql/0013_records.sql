-- Addresses and processes are the records of the provider that has them, and no longer here. What these columns said of
-- groups that are not removed is kept as it was, for their provider to take over; nothing is added to it, ever.
CREATE TABLE provider_records (
  instance text COLLATE "C" PRIMARY KEY REFERENCES instances (id),
  value    json NOT NULL
);
INSERT INTO provider_records (instance, value)
  SELECT id,
         json_build_object('address', address,
                           'process', CASE WHEN boot_id IS NULL THEN NULL
                                           ELSE json_build_object('boot_id', boot_id, 'pid', pid,
                                                                  'start_time', start_time) END)
    FROM instances WHERE removed_at IS NULL AND address <> '';
CREATE FUNCTION provider_records_rule() RETURNS trigger LANGUAGE plpgsql SET search_path FROM CURRENT AS $rule$
BEGIN
  RAISE EXCEPTION 'a provider keeps its own records';
END $rule$;
CREATE TRIGGER provider_records_rule BEFORE INSERT ON provider_records
  FOR EACH ROW EXECUTE FUNCTION provider_records_rule();
CREATE TRIGGER provider_records_unchanged BEFORE UPDATE ON provider_records
  FOR EACH STATEMENT EXECUTE FUNCTION unchanged();
CREATE TRIGGER provider_records_kept BEFORE DELETE OR TRUNCATE ON provider_records
  FOR EACH STATEMENT EXECUTE FUNCTION kept();

-- made: its provider has made it, though it may not have begun yet. It is said of removed ones, too, as it was known.
ALTER TABLE instances ADD COLUMN made integer NOT NULL DEFAULT 0 CHECK (made IN (0, 1));
ALTER TABLE instances DISABLE TRIGGER instances_rule;
UPDATE instances SET made = 1 WHERE boot_id IS NOT NULL;
ALTER TABLE instances ENABLE TRIGGER instances_rule;
ALTER TABLE instances DROP COLUMN address, DROP COLUMN boot_id, DROP COLUMN pid, DROP COLUMN start_time;

CREATE OR REPLACE FUNCTION instances_rule() RETURNS trigger LANGUAGE plpgsql SET search_path FROM CURRENT AS $rule$
BEGIN
  IF TG_OP = 'INSERT' THEN
    IF NEW.made <> 0 OR NEW.started_at IS NOT NULL OR NEW.removed_at IS NOT NULL OR NEW.taint IS NOT NULL THEN
      RAISE EXCEPTION 'an instance begins as a plan';
    END IF;
    IF NEW.ending IS NOT NULL THEN
      RAISE EXCEPTION 'an instance begins without an end';
    END IF;
    PERFORM require_open(NEW.environment);
    RETURN NEW;
  END IF;
  IF OLD.removed_at IS NOT NULL THEN
    RAISE EXCEPTION 'a removed instance is never changed';
  END IF;
  IF (NEW.serial, NEW.id, NEW.environment, NEW.release, NEW.stem, NEW.k, NEW.created_at)
     IS DISTINCT FROM
     (OLD.serial, OLD.id, OLD.environment, OLD.release, OLD.stem, OLD.k, OLD.created_at) THEN
    RAISE EXCEPTION 'an instance keeps its name';
  END IF;
  IF (NEW.task, NEW.replacing) IS DISTINCT FROM (OLD.task, OLD.replacing) THEN
    RAISE EXCEPTION 'an instance keeps its purpose';
  END IF;
  IF NEW.made < OLD.made THEN
    RAISE EXCEPTION 'an instance that was made has been made';
  END IF;
  IF OLD.started_at IS NOT NULL AND NEW.started_at IS DISTINCT FROM OLD.started_at THEN
    RAISE EXCEPTION 'an instance keeps when it started';
  END IF;
  IF OLD.taint IS NOT NULL AND NEW.taint::text IS DISTINCT FROM OLD.taint::text
     AND (NEW.taint IS NULL
          OR NEW.taint::jsonb - 'due_at' - 'isolated' IS DISTINCT FROM OLD.taint::jsonb - 'due_at' - 'isolated'
          OR NEW.taint ->> 'due_at' IS NULL
          OR (NEW.taint ->> 'due_at')::timestamptz > (OLD.taint ->> 'due_at')::timestamptz
          OR coalesce((NEW.taint ->> 'isolated')::boolean, false) < (OLD.taint ->> 'isolated')::boolean) THEN
    RAISE EXCEPTION 'a taint stays until the instance is gone';
  END IF;
  IF OLD.ending IS NOT NULL
     AND (NEW.ending::text IS DISTINCT FROM OLD.ending::text OR NEW.ended_at IS DISTINCT FROM OLD.ended_at) THEN
    RAISE EXCEPTION 'how an instance ended is never changed';
  END IF;
  RETURN NEW;
END $rule$;
