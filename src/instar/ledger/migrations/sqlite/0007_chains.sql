-- A chain of hashes for each environment, and one for what is about none. The one chain of before is closed by an event, and
-- each chain begins with that event's hash. sha256() is there while a ledger is migrated.
CREATE INDEX events_closing ON events (seq) WHERE kind = 'chain-closed';
INSERT INTO events (seq, at, actor, kind, place, release, image, detail, hash)
  SELECT seq + 1, now, 'instar', 'chain-closed', NULL, NULL, NULL, '{}',
         sha256(hash || '|' || (seq + 1) || '|' || now || '|instar|chain-closed||||{}' || char(10))
    FROM (SELECT seq, hash, max(at, strftime('%Y-%m-%dT%H:%M:%f000Z', 'now')) AS now
            FROM events ORDER BY seq DESC LIMIT 1);

-- From which event on what the tables say of an environment follows from its events: the one that made it, or one that says
-- how it was. NULL: that is still to be written.
ALTER TABLE environments ADD COLUMN provable_from INTEGER;
CREATE TRIGGER environments_provable BEFORE UPDATE OF provable_from ON environments
  WHEN OLD.provable_from IS NOT NULL AND NEW.provable_from IS NOT OLD.provable_from
  BEGIN SELECT raise(ABORT, 'from when on an environment is provable is written once'); END;

-- When an instance was first found to be no longer what was baked, and was to be replaced for it.
ALTER TABLE instances ADD COLUMN drifted_at TEXT;
CREATE INDEX instances_drifted ON instances (environment, drifted_at) WHERE drifted_at IS NOT NULL;
CREATE TRIGGER instances_drifted BEFORE UPDATE OF drifted_at ON instances
  WHEN OLD.drifted_at IS NOT NULL AND NEW.drifted_at IS NOT OLD.drifted_at
  BEGIN SELECT raise(ABORT, 'when an instance had drifted stays known'); END;
