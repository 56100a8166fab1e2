-- The ledger's first form. Nothing is ever deleted: what ended carries the time when it did.
-- Times are UTC, 2026-01-31T12:00:00.000000Z. A place is SERVICE/ENVIRONMENT; neither part has a slash in it.

PRAGMA application_id = 0x696e7374;  -- "inst"

-- One line each of what was decided and done. hash = SHA-256 of the hash before it and of this line, see docs/ledger.md;
-- the checks keep the line's separator (|) and line breaks out of every field but the last.
CREATE TABLE events (
  seq     INTEGER PRIMARY KEY,
  at      TEXT NOT NULL CHECK (at GLOB '????-??-??T??:??:??.??????Z'),
  actor   TEXT NOT NULL CHECK (actor <> '' AND actor NOT GLOB '*[|' || char(1) || '-' || char(31) || ']*'),
  kind    TEXT NOT NULL CHECK (kind <> '' AND kind NOT GLOB '*[^a-z-]*'),
  place   TEXT CHECK (place GLOB '?*/?*' AND place NOT GLOB '*[|' || char(1) || '-' || char(31) || ']*'),
  release INTEGER,
  image   TEXT CHECK (image GLOB 'sha256:*' AND length(image) = 71),
  detail  TEXT NOT NULL CHECK (json_valid(detail) AND detail NOT GLOB '*[' || char(1) || '-' || char(31) || ']*'),
  hash    TEXT NOT NULL CHECK (length(hash) = 64)
) STRICT;
CREATE INDEX events_of_place ON events (place, seq);

-- A place from its first deploy to its destruction. Made again later, it is another row.
CREATE TABLE environments (
  id          INTEGER PRIMARY KEY,
  service     TEXT NOT NULL CHECK (service <> '' AND service NOT GLOB '*[/|]*'),
  environment TEXT NOT NULL CHECK (environment <> '' AND environment NOT GLOB '*[/|]*'),
  active      INTEGER,
  destroying  INTEGER NOT NULL DEFAULT 0 CHECK (destroying IN (0, 1)),
  created_at  TEXT NOT NULL,
  removed_at  TEXT,
  FOREIGN KEY (id, active) REFERENCES releases (environment, number)
) STRICT;
CREATE INDEX environments_of_place ON environments (service, environment);
CREATE UNIQUE INDEX environments_present ON environments (service, environment) WHERE removed_at IS NULL;

-- The highest version is the one that holds.
CREATE TABLE settings (
  environment INTEGER NOT NULL REFERENCES environments (id),
  version     INTEGER NOT NULL CHECK (version > 0),
  value       TEXT NOT NULL CHECK (json_valid(value)),
  created_at  TEXT NOT NULL,
  PRIMARY KEY (environment, version)
) STRICT;

-- configuration is the canonical JSON that configuration_digest is the SHA-256 of.
CREATE TABLE releases (
  environment          INTEGER NOT NULL REFERENCES environments (id),
  number               INTEGER NOT NULL CHECK (number > 0),
  image                TEXT NOT NULL CHECK (image GLOB 'sha256:*' AND length(image) = 71),
  configuration        TEXT NOT NULL CHECK (json_valid(configuration)),
  configuration_digest TEXT NOT NULL CHECK (configuration_digest GLOB 'sha256:*' AND length(configuration_digest) = 71),
  created_at           TEXT NOT NULL,
  ran_well             INTEGER NOT NULL DEFAULT 0 CHECK (ran_well IN (0, 1)),
  last_active_at       TEXT,
  PRIMARY KEY (environment, number)
) STRICT;

CREATE INDEX releases_recent ON releases (environment, last_active_at) WHERE ran_well = 1;

CREATE TABLE rollouts (
  id          INTEGER PRIMARY KEY,
  environment INTEGER NOT NULL REFERENCES environments (id),
  kind        TEXT NOT NULL CHECK (kind IN ('deploy', 'promote', 'rollback')),
  source      INTEGER,
  target      INTEGER NOT NULL,
  state       TEXT NOT NULL DEFAULT 'running' CHECK (state IN ('running', 'done', 'failed')),
  actor       TEXT NOT NULL,
  started_at  TEXT NOT NULL,
  ended_at    TEXT,
  detail      TEXT NOT NULL DEFAULT '{}' CHECK (json_valid(detail)),
  CHECK ((state = 'running') = (ended_at IS NULL)),
  FOREIGN KEY (environment, source) REFERENCES releases (environment, number),
  FOREIGN KEY (environment, target) REFERENCES releases (environment, number)
) STRICT;
CREATE UNIQUE INDEX rollouts_running ON rollouts (environment) WHERE state = 'running';

-- stem is SERVICE-ENVIRONMENT-RELEASE. Two places can share one (a-b/c and a/b-c): k counts within the stem.
CREATE TABLE instances (
  serial      INTEGER PRIMARY KEY,
  id          TEXT NOT NULL UNIQUE CHECK (id = stem || '-' || k),
  environment INTEGER NOT NULL,
  release     INTEGER NOT NULL,
  stem        TEXT NOT NULL,
  k           INTEGER NOT NULL CHECK (k > 0),
  address     TEXT NOT NULL,
  boot_id     TEXT,
  pid         INTEGER CHECK (pid > 0),
  start_time  INTEGER CHECK (start_time >= 0),
  created_at  TEXT NOT NULL,
  started_at  TEXT,
  removed_at  TEXT,
  CHECK ((boot_id IS NULL) = (pid IS NULL) AND (pid IS NULL) = (start_time IS NULL)),
  UNIQUE (stem, k),
  FOREIGN KEY (environment, release) REFERENCES releases (environment, number)
) STRICT;
CREATE UNIQUE INDEX instances_address ON instances (address) WHERE removed_at IS NULL;
CREATE INDEX instances_present ON instances (environment) WHERE removed_at IS NULL;

-- What is written stays written. The rules on insertion are there because INSERT OR REPLACE asks no rule on deletion.
CREATE TRIGGER events_in_order BEFORE INSERT ON events
  WHEN NEW.seq <> (SELECT coalesce(max(seq), 0) + 1 FROM events)
  BEGIN SELECT raise(ABORT, 'events are only ever added at the end'); END;
CREATE TRIGGER events_unchanged BEFORE UPDATE ON events
  BEGIN SELECT raise(ABORT, 'events are never changed'); END;
CREATE TRIGGER events_kept BEFORE DELETE ON events
  BEGIN SELECT raise(ABORT, 'events are never deleted'); END;

CREATE TRIGGER environments_unchanged BEFORE UPDATE OF id, service, environment, created_at ON environments
  BEGIN SELECT raise(ABORT, 'an environment keeps its name'); END;
CREATE TRIGGER environments_ended BEFORE UPDATE ON environments WHEN OLD.removed_at IS NOT NULL
  BEGIN SELECT raise(ABORT, 'a removed environment is never changed'); END;
CREATE TRIGGER environments_kept BEFORE DELETE ON environments
  BEGIN SELECT raise(ABORT, 'environments are never deleted'); END;

CREATE TRIGGER settings_once BEFORE INSERT ON settings
  WHEN EXISTS (SELECT 1 FROM settings WHERE environment = NEW.environment AND version >= NEW.version)
  BEGIN SELECT raise(ABORT, 'settings are never replaced'); END;
CREATE TRIGGER settings_unchanged BEFORE UPDATE ON settings
  BEGIN SELECT raise(ABORT, 'a version of settings is never changed'); END;
CREATE TRIGGER settings_kept BEFORE DELETE ON settings
  BEGIN SELECT raise(ABORT, 'settings are never deleted'); END;

CREATE TRIGGER releases_once BEFORE INSERT ON releases
  WHEN EXISTS (SELECT 1 FROM releases WHERE environment = NEW.environment AND number >= NEW.number)
  BEGIN SELECT raise(ABORT, 'releases are never replaced'); END;
CREATE TRIGGER releases_unchanged
  BEFORE UPDATE OF environment, number, image, configuration, configuration_digest, created_at ON releases
  BEGIN SELECT raise(ABORT, 'a release is never changed'); END;
CREATE TRIGGER releases_kept BEFORE DELETE ON releases
  BEGIN SELECT raise(ABORT, 'releases are never deleted'); END;

CREATE TRIGGER rollouts_unchanged
  BEFORE UPDATE OF id, environment, kind, source, target, actor, started_at ON rollouts
  BEGIN SELECT raise(ABORT, 'a rollout keeps its aim'); END;
CREATE TRIGGER rollouts_ended BEFORE UPDATE ON rollouts WHEN OLD.state <> 'running'
  BEGIN SELECT raise(ABORT, 'an ended rollout is never changed'); END;
CREATE TRIGGER rollouts_kept BEFORE DELETE ON rollouts
  BEGIN SELECT raise(ABORT, 'rollouts are never deleted'); END;

CREATE TRIGGER instances_unchanged
  BEFORE UPDATE OF serial, id, environment, release, stem, k, address, created_at ON instances
  BEGIN SELECT raise(ABORT, 'an instance keeps its name and address'); END;
CREATE TRIGGER instances_ended BEFORE UPDATE ON instances WHEN OLD.removed_at IS NOT NULL
  BEGIN SELECT raise(ABORT, 'a removed instance is never changed'); END;
CREATE TRIGGER instances_kept BEFORE DELETE ON instances
  BEGIN SELECT raise(ABORT, 'instances are never deleted'); END;
