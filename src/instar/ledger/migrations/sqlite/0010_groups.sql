-- A row is a group: so many members that are started, weighed and ended together, of a role of its release. Only where
-- instances are on a network of this machine, it has an address.
ALTER TABLE instances ADD COLUMN members INTEGER NOT NULL DEFAULT 1 CHECK (members > 0);
ALTER TABLE instances ADD COLUMN role TEXT NOT NULL DEFAULT '';
DROP INDEX instances_address;
CREATE UNIQUE INDEX instances_address ON instances (address) WHERE removed_at IS NULL AND address <> '';
CREATE TRIGGER instances_group BEFORE UPDATE OF members, role ON instances
  BEGIN SELECT raise(ABORT, 'a group keeps its size and its role'); END;
DROP TRIGGER instances_once;
CREATE TRIGGER instances_once BEFORE INSERT ON instances
  WHEN EXISTS (SELECT 1 FROM instances WHERE serial = NEW.serial)
       OR EXISTS (SELECT 1 FROM instances WHERE id = NEW.id OR (stem = NEW.stem AND k = NEW.k))
       OR EXISTS (SELECT 1 FROM instances WHERE address = NEW.address AND address <> '' AND removed_at IS NULL)
  BEGIN SELECT raise(ABORT, 'an instance is never replaced'); END;
