-- How instances came to their end, written before what is left of one is removed; alarms that let replacements go on.

-- Why ("exited", "signal", "out-of-memory", "restart", "unknown": by itself; "unwell", "instar": it was ended), in words
-- for people, and what is known besides. Of an instance that an older Instar removed nothing is known.
ALTER TABLE instances ADD COLUMN ending TEXT CHECK (ending IS NULL OR json_valid(ending));
ALTER TABLE instances ADD COLUMN ended_at TEXT CHECK ((ended_at IS NULL) = (ending IS NULL));
CREATE INDEX instances_endings ON instances (environment, release, ended_at) WHERE ending IS NOT NULL;
CREATE TRIGGER instances_endless BEFORE INSERT ON instances WHEN NEW.ending IS NOT NULL
  BEGIN SELECT raise(ABORT, 'an instance begins without an end'); END;
CREATE TRIGGER instances_ending BEFORE UPDATE OF ending, ended_at ON instances
  WHEN OLD.ending IS NOT NULL AND (NEW.ending IS NOT OLD.ending OR NEW.ended_at IS NOT OLD.ended_at)
  BEGIN SELECT raise(ABORT, 'how an instance ended is never changed'); END;

-- Whether nothing is replaced as long as the alarm stands.
ALTER TABLE environments ADD COLUMN alarm_holds INTEGER NOT NULL DEFAULT 1 CHECK (alarm_holds IN (0, 1));
