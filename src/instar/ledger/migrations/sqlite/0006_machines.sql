-- Which machine an environment is on, where its provider runs instances on the machine that asks it: NULL where it doesn't,
-- or nobody has said yet. In a ledger of one machine that goes without saying.
ALTER TABLE environments ADD COLUMN machine TEXT CHECK (machine <> '');
CREATE TRIGGER environments_machine BEFORE UPDATE OF machine ON environments
  WHEN OLD.machine IS NOT NULL AND NEW.machine IS NOT OLD.machine
  BEGIN SELECT raise(ABORT, 'an environment keeps its machine'); END;
