-- By which key the digests of secrets are made in this ledger: a hash of it, so that another machine's is told from it. The
-- key itself is never here.
CREATE TABLE secret_keys (
  one         INTEGER PRIMARY KEY CHECK (one = 1),
  fingerprint TEXT NOT NULL CHECK (fingerprint GLOB 'sha256:*' AND length(fingerprint) = 71)
) STRICT;
CREATE TRIGGER secret_keys_once BEFORE INSERT ON secret_keys WHEN EXISTS (SELECT 1 FROM secret_keys)
  BEGIN SELECT raise(ABORT, 'a ledger has one key'); END;
CREATE TRIGGER secret_keys_unchanged BEFORE UPDATE ON secret_keys
  BEGIN SELECT raise(ABORT, 'the key of a ledger is never changed'); END;
CREATE TRIGGER secret_keys_kept BEFORE DELETE ON secret_keys
  BEGIN SELECT raise(ABORT, 'the key of a ledger is never deleted'); END;
