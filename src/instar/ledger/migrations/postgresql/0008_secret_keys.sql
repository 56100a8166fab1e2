-- By which key the digests of secrets are made in this ledger: a hash of it, so that another machine's is told from it. The
-- key itself is never here.
CREATE TABLE secret_keys (
  one         integer PRIMARY KEY CHECK (one = 1),
  fingerprint text COLLATE "C" NOT NULL CHECK (fingerprint ~ '^sha256:' AND length(fingerprint) = 71)
);
CREATE TRIGGER secret_keys_unchanged BEFORE UPDATE ON secret_keys FOR EACH STATEMENT EXECUTE FUNCTION unchanged();
CREATE TRIGGER secret_keys_kept BEFORE DELETE OR TRUNCATE ON secret_keys FOR EACH STATEMENT EXECUTE FUNCTION kept();
