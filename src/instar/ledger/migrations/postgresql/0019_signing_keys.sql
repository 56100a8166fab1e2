-- By which key a provider signs what it makes where others can make things too, and by which it knows that again. Whoever reads
-- the ledger could sign as well. It is made when it is needed first.
CREATE TABLE signing_keys (
  one   integer PRIMARY KEY CHECK (one = 1),
  value text COLLATE "C" NOT NULL CHECK (value ~ '^[0-9a-f]{64}$')
);
CREATE TRIGGER signing_keys_unchanged BEFORE UPDATE ON signing_keys FOR EACH STATEMENT EXECUTE FUNCTION unchanged();
CREATE TRIGGER signing_keys_kept BEFORE DELETE OR TRUNCATE ON signing_keys FOR EACH STATEMENT EXECUTE FUNCTION kept();
