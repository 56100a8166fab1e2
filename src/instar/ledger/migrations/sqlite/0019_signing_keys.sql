-- By which key a provider signs what it makes where others can make things too, and by which it knows that again. Whoever reads
-- the ledger could sign as well. It is made when it is needed first.
CREATE TABLE signing_keys (
  one   INTEGER PRIMARY KEY CHECK (one = 1),
  value TEXT NOT NULL CHECK (length(value) = 64 AND value NOT GLOB '*[^0-9a-f]*')
) STRICT;
CREATE TRIGGER signing_keys_once BEFORE INSERT ON signing_keys WHEN EXISTS (SELECT 1 FROM signing_keys)
  BEGIN SELECT raise(ABORT, 'a ledger has one key'); END;
CREATE TRIGGER signing_keys_unchanged BEFORE UPDATE ON signing_keys
  BEGIN SELECT raise(ABORT, 'the key of a ledger is never changed'); END;
CREATE TRIGGER signing_keys_kept BEFORE DELETE ON signing_keys
  BEGIN SELECT raise(ABORT, 'the key of a ledger is never deleted'); END;
