-- The values of secrets in a ledger that several share: encrypted, by a key that is never here. One that no kept release needs
-- is taken out; which there was stays known by its digest, which is keyed.
CREATE TABLE secrets (
  environment bigint NOT NULL REFERENCES environments (id),
  name        text COLLATE "C" NOT NULL CHECK (name <> ''),
  digest      text COLLATE "C" NOT NULL CHECK (digest ~ '^sha256:' AND length(digest) = 71),
  value       text COLLATE "C" CHECK (value <> ''),
  PRIMARY KEY (environment, name, digest)
);

CREATE FUNCTION secrets_rule() RETURNS trigger LANGUAGE plpgsql SET search_path FROM CURRENT AS $rule$
BEGIN
  IF (NEW.environment, NEW.name, NEW.digest) IS DISTINCT FROM (OLD.environment, OLD.name, OLD.digest)
     OR (OLD.value IS NOT NULL AND NEW.value IS NOT NULL) THEN
    RAISE EXCEPTION 'the value of a secret is only ever put in or taken out';
  END IF;
  RETURN NEW;
END $rule$;

CREATE TRIGGER secrets_rule BEFORE UPDATE ON secrets FOR EACH ROW EXECUTE FUNCTION secrets_rule();
CREATE TRIGGER secrets_kept BEFORE DELETE OR TRUNCATE ON secrets FOR EACH STATEMENT EXECUTE FUNCTION kept();
