-- Which members of a group are to be replaced by its engine, each with why, who said so and when, as JSON; NULL: none ever was.
ALTER TABLE instances ADD COLUMN tainted_members TEXT CHECK (tainted_members IS NULL OR json_valid(tainted_members));
CREATE TRIGGER instances_members BEFORE UPDATE OF tainted_members ON instances
  WHEN OLD.tainted_members IS NOT NULL AND NEW.tainted_members IS NULL
  BEGIN SELECT raise(ABORT, 'members that were tainted have been'); END;
