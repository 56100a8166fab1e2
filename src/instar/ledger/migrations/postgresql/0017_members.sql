-- Which members of a group are to be replaced by its engine, each with why, who said so and when, as JSON; NULL: none ever was.
ALTER TABLE instances ADD COLUMN tainted_members json;

CREATE FUNCTION instances_members_rule() RETURNS trigger LANGUAGE plpgsql SET search_path FROM CURRENT AS $rule$
BEGIN
  IF OLD.tainted_members IS NOT NULL AND NEW.tainted_members IS NULL THEN
    RAISE EXCEPTION 'members that were tainted have been';
  END IF;
  RETURN NEW;
END $rule$;

CREATE TRIGGER instances_members_rule BEFORE UPDATE ON instances
  FOR EACH ROW EXECUTE FUNCTION instances_members_rule();
