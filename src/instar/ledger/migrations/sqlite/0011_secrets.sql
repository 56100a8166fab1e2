-- The values of secrets in a ledger that several share: encrypted, by a key that is never here. One that no kept release needs
-- is taken out; which there was stays known by its digest, which is keyed.
CREATE TABLE secrets (
  environment INTEGER NOT NULL REFERENCES environments (id),
  name        TEXT NOT NULL CHECK (name <> ''),
  digest      TEXT NOT NULL CHECK (digest GLOB 'sha256:*' AND length(digest) = 71),
  value       TEXT CHECK (value <> ''),
  PRIMARY KEY (environment, name, digest)
) STRICT, WITHOUT ROWID;
CREATE TRIGGER secrets_once BEFORE INSERT ON secrets
  WHEN EXISTS (SELECT 1 FROM secrets
                WHERE environment = NEW.environment AND name = NEW.name AND digest = NEW.digest)
  BEGIN SELECT raise(ABORT, 'a secret is there once'); END;
CREATE TRIGGER secrets_unchanged BEFORE UPDATE ON secrets
  WHEN NEW.environment IS NOT OLD.environment OR NEW.name IS NOT OLD.name OR NEW.digest IS NOT OLD.digest
       OR (OLD.value IS NOT NULL AND NEW.value IS NOT NULL)
  BEGIN SELECT raise(ABORT, 'the value of a secret is only ever put in or taken out'); END;
CREATE TRIGGER secrets_kept BEFORE DELETE ON secrets
  BEGIN SELECT raise(ABORT, 'secrets are never deleted'); END;
