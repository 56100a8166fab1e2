-- A chain of hashes for each environment, and one for what is about none. The one chain of before is closed by an event, and
-- each chain begins with that event's hash.
CREATE INDEX events_closing ON events (seq) WHERE kind = 'chain-closed';
INSERT INTO events (seq, at, actor, kind, place, release, image, detail, hash)
  SELECT seq + 1, now, 'instar', 'chain-closed', NULL, NULL, NULL, '{}',
         encode(sha256(convert_to(
           hash || '|' || (seq + 1) || '|' || now || '|instar|chain-closed||||{}' || chr(10), 'UTF8')), 'hex')
    FROM (SELECT seq, hash,
                 greatest(at, to_char(clock_timestamp() AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"')) AS now
            FROM events ORDER BY seq DESC LIMIT 1) AS last;

-- From which event on what the tables say of an environment follows from its events: the one that made it, or one that says
-- how it was. NULL: that is still to be written.
ALTER TABLE environments ADD COLUMN provable_from bigint;
-- When an instance was first found to be no longer what was baked, and was to be replaced for it.
ALTER TABLE instances ADD COLUMN drifted_at text COLLATE "C";
CREATE INDEX instances_drifted ON instances (environment, drifted_at) WHERE drifted_at IS NOT NULL;

CREATE FUNCTION environments_provable_rule() RETURNS trigger LANGUAGE plpgsql SET search_path FROM CURRENT AS $rule$
BEGIN
  IF OLD.provable_from IS NOT NULL AND NEW.provable_from IS DISTINCT FROM OLD.provable_from THEN
    RAISE EXCEPTION 'from when on an environment is provable is written once';
  END IF;
  RETURN NEW;
END $rule$;
CREATE TRIGGER environments_provable_rule BEFORE UPDATE ON environments
  FOR EACH ROW EXECUTE FUNCTION environments_provable_rule();

CREATE FUNCTION instances_drifted_rule() RETURNS trigger LANGUAGE plpgsql SET search_path FROM CURRENT AS $rule$
BEGIN
  IF OLD.drifted_at IS NOT NULL AND NEW.drifted_at IS DISTINCT FROM OLD.drifted_at THEN
    RAISE EXCEPTION 'when an instance had drifted stays known';
  END IF;
  RETURN NEW;
END $rule$;
CREATE TRIGGER instances_drifted_rule BEFORE UPDATE ON instances
  FOR EACH ROW EXECUTE FUNCTION instances_drifted_rule();
