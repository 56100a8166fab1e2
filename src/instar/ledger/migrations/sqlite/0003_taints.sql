-- Instances that are to be replaced because somebody said so, opened a shell in them, or they are not what was baked.

-- Why, who, when, from when on, and whether without traffic until then.
ALTER TABLE instances ADD COLUMN taint TEXT CHECK (taint IS NULL OR json_valid(taint));

-- Replacements before that don't count: an alarm was over then.
ALTER TABLE environments ADD COLUMN counted_since TEXT;

-- Two more reasons for an instance outside a rollout. A column's rule can't be changed, so the column is made anew.
DROP TRIGGER instances_purpose;
DROP TRIGGER instances_ended;
DROP INDEX instances_replacing;
ALTER TABLE instances RENAME COLUMN replacing TO replaced_for;
ALTER TABLE instances ADD COLUMN replacing TEXT
  CHECK (replacing IN ('ended', 'unwell', 'old', 'hot', 'drifted', 'tainted'));
UPDATE instances SET replacing = replaced_for WHERE replaced_for IS NOT NULL;
ALTER TABLE instances DROP COLUMN replaced_for;
CREATE INDEX instances_replacing ON instances (environment, created_at) WHERE replacing IS NOT NULL;
CREATE TRIGGER instances_ended BEFORE UPDATE ON instances WHEN OLD.removed_at IS NOT NULL
  BEGIN SELECT raise(ABORT, 'a removed instance is never changed'); END;
CREATE TRIGGER instances_purpose BEFORE UPDATE OF task, replacing ON instances
  BEGIN SELECT raise(ABORT, 'an instance keeps its purpose'); END;
CREATE TRIGGER instances_tainted BEFORE UPDATE OF taint ON instances WHEN NEW.taint IS NULL AND OLD.taint IS NOT NULL
  BEGIN SELECT raise(ABORT, 'a taint stays until the instance is gone'); END;
