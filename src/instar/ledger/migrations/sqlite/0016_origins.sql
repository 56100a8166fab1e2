-- Where a release comes from, as JSON: who made it, on which machine, of which commit, and why; NULL: an older Instar made it.
ALTER TABLE releases ADD COLUMN origin TEXT CHECK (origin IS NULL OR json_valid(origin));
DROP TRIGGER releases_unchanged;
CREATE TRIGGER releases_unchanged
  BEFORE UPDATE OF environment, number, image, configuration, configuration_digest, created_at, origin ON releases
  BEGIN SELECT raise(ABORT, 'a release is never changed'); END;
