-- A row is a group: so many members that are started, weighed and ended together, of a role of its release. Only where
-- instances are on a network of this machine, it has an address.
ALTER TABLE instances ADD COLUMN members bigint NOT NULL DEFAULT 1 CHECK (members > 0);
ALTER TABLE instances ADD COLUMN role text COLLATE "C" NOT NULL DEFAULT '';
DROP INDEX instances_address;
CREATE UNIQUE INDEX instances_address ON instances (address) WHERE removed_at IS NULL AND address <> '';
CREATE TRIGGER instances_group BEFORE UPDATE OF members, role ON instances FOR EACH ROW EXECUTE FUNCTION unchanged();
