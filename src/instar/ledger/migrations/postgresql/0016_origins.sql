-- Where a release comes from, as JSON: who made it, on which machine, of which commit, and why; NULL: an older Instar made it.
ALTER TABLE releases ADD COLUMN origin text COLLATE "C";

CREATE OR REPLACE FUNCTION releases_rule() RETURNS trigger LANGUAGE plpgsql SET search_path FROM CURRENT AS $rule$
BEGIN
  IF TG_OP = 'INSERT' THEN
    IF NEW.ran_well <> 0 OR NEW.last_active_at IS NOT NULL OR NEW.pinned <> 0 THEN
      RAISE EXCEPTION 'a release begins as one that has not run';
    END IF;
    PERFORM require_open(NEW.environment);
    IF EXISTS (SELECT 1 FROM environments n
                 JOIN environments o ON o.service = n.service AND o.environment = n.environment
                 JOIN releases r ON r.environment = o.id
                WHERE n.id = NEW.environment AND r.number >= NEW.number) THEN
      RAISE EXCEPTION 'a release number is never used again';
    END IF;
    RETURN NEW;
  END IF;
  IF (NEW.environment, NEW.number, NEW.image, NEW.configuration::text, NEW.configuration_digest, NEW.created_at,
      NEW.origin)
     IS DISTINCT FROM
     (OLD.environment, OLD.number, OLD.image, OLD.configuration::text, OLD.configuration_digest, OLD.created_at,
      OLD.origin) THEN
    RAISE EXCEPTION 'a release is never changed';
  END IF;
  IF NEW.ran_well < OLD.ran_well
     OR (OLD.last_active_at IS NOT NULL
         AND (NEW.last_active_at IS NULL OR NEW.last_active_at < OLD.last_active_at)) THEN
    RAISE EXCEPTION 'a release that ran well has run well';
  END IF;
  RETURN NEW;
END $rule$;
