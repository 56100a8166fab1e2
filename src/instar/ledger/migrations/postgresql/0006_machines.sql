-- The right to act on an environment: who has it, until when, and a number that only grows. What is written with an older
-- number is refused. Its times are the database's, so that no machine's clock has a say in it.
CREATE TABLE leases (
  place   text COLLATE "C" PRIMARY KEY CHECK (place ~ '^[^/]+/.'),
  number  bigint NOT NULL CHECK (number >= 0),
  machine text COLLATE "C",
  holder  text COLLATE "C",
  since   timestamptz,
  ends_at timestamptz,
  CHECK ((machine IS NULL) = (holder IS NULL) AND (holder IS NULL) = (since IS NULL) AND (since IS NULL) = (ends_at IS NULL))
);

CREATE FUNCTION leases_rule() RETURNS trigger LANGUAGE plpgsql SET search_path FROM CURRENT AS $rule$
BEGIN
  IF NEW.place <> OLD.place OR NEW.number < OLD.number THEN
    RAISE EXCEPTION 'the number of a lease only grows';
  END IF;
  IF NEW.number = OLD.number AND NEW.holder IS DISTINCT FROM OLD.holder AND NEW.holder IS NOT NULL THEN
    RAISE EXCEPTION 'another holder has another number';
  END IF;
  RETURN NEW;
END $rule$;

CREATE TRIGGER leases_rule BEFORE UPDATE ON leases FOR EACH ROW EXECUTE FUNCTION leases_rule();
CREATE TRIGGER leases_kept BEFORE DELETE OR TRUNCATE ON leases FOR EACH STATEMENT EXECUTE FUNCTION kept();

-- Which machine an environment is on, where its provider runs instances on the machine that asks it: NULL where it doesn't,
-- or nobody has said yet.
ALTER TABLE environments ADD COLUMN machine text COLLATE "C" CHECK (machine <> '');

CREATE FUNCTION environments_machine_rule() RETURNS trigger LANGUAGE plpgsql SET search_path FROM CURRENT AS $rule$
BEGIN
  IF OLD.machine IS NOT NULL AND NEW.machine IS DISTINCT FROM OLD.machine THEN
    RAISE EXCEPTION 'an environment keeps its machine';
  END IF;
  RETURN NEW;
END $rule$;

CREATE TRIGGER environments_machine_rule BEFORE UPDATE ON environments
  FOR EACH ROW EXECUTE FUNCTION environments_machine_rule();
