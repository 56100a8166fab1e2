-- Which machine tells of an event that is of no machine's environment: the one that asked first. All others leave it alone.
CREATE TABLE notices (
  event   bigint PRIMARY KEY REFERENCES events (seq),
  machine text COLLATE "C" NOT NULL CHECK (machine <> '')
);
CREATE TRIGGER notices_unchanged BEFORE UPDATE ON notices FOR EACH STATEMENT EXECUTE FUNCTION unchanged();
CREATE TRIGGER notices_kept BEFORE DELETE OR TRUNCATE ON notices FOR EACH STATEMENT EXECUTE FUNCTION kept();

-- Which boots of a machine have acted, each with a number: the one with the highest is the machine. Its times are the
-- database's, and say when it acted last.
CREATE TABLE boots (
  machine  text COLLATE "C" NOT NULL CHECK (machine <> ''),
  boot     text COLLATE "C" NOT NULL CHECK (boot <> ''),
  number   bigint NOT NULL CHECK (number > 0),
  first_at timestamptz NOT NULL DEFAULT clock_timestamp(),
  last_at  timestamptz NOT NULL DEFAULT clock_timestamp(),
  PRIMARY KEY (machine, boot),
  UNIQUE (machine, number)
);

CREATE FUNCTION boots_rule() RETURNS trigger LANGUAGE plpgsql SET search_path FROM CURRENT AS $rule$
BEGIN
  IF (NEW.machine, NEW.boot, NEW.first_at) IS DISTINCT FROM (OLD.machine, OLD.boot, OLD.first_at)
     OR NEW.number < OLD.number THEN
    RAISE EXCEPTION 'the number of a boot only grows';
  END IF;
  RETURN NEW;
END $rule$;

CREATE TRIGGER boots_rule BEFORE UPDATE ON boots FOR EACH ROW EXECUTE FUNCTION boots_rule();
CREATE TRIGGER boots_kept BEFORE DELETE OR TRUNCATE ON boots FOR EACH STATEMENT EXECUTE FUNCTION kept();
