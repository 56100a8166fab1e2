-- The ledger on PostgreSQL, as SQLite's migrations 1 to 5 have made it there. Nothing is ever deleted: what ended carries
-- the time when it did. Times are UTC, 2026-01-31T12:00:00.000000Z. JSON is kept as it was written, to the character.
-- A rule is a function of its table; what it holds is told by what it says when it is broken.

-- One row: the version of this schema.
CREATE TABLE ledger (
  one     integer PRIMARY KEY DEFAULT 1 CHECK (one = 1),
  version integer NOT NULL CHECK (version > 0)
);

-- One line each of what was decided and done. hash = SHA-256 of the hash before it and of this line, see docs/ledger.md;
-- the checks keep the line's separator (|) and line breaks out of every field but the last.
CREATE TABLE events (
  seq     bigint PRIMARY KEY,
  at      text COLLATE "C" NOT NULL CHECK (at ~ '^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z$'),
  actor   text COLLATE "C" NOT NULL CHECK (actor <> '' AND actor !~ '[|\x01-\x1f]'),
  kind    text COLLATE "C" NOT NULL CHECK (kind ~ '^[a-z-]+$'),
  place   text COLLATE "C" CHECK (place ~ '^[^/]+/.' AND place !~ '[|\x01-\x1f]'),
  release bigint,
  image   text COLLATE "C" CHECK (image ~ '^sha256:' AND length(image) = 71),
  detail  json NOT NULL CHECK (detail::text !~ '[\x01-\x1f]'),
  hash    text COLLATE "C" NOT NULL CHECK (length(hash) = 64)
);
CREATE INDEX events_of_place ON events (place, seq);

-- An environment from its first deploy to its destruction. Made again later, it is another row.
CREATE TABLE environments (
  id            bigint PRIMARY KEY,
  service       text COLLATE "C" NOT NULL CHECK (service <> '' AND service !~ '[/|]'),
  environment   text COLLATE "C" NOT NULL CHECK (environment <> '' AND environment !~ '[/|]'),
  active        bigint,
  destroying    integer NOT NULL DEFAULT 0 CHECK (destroying IN (0, 1)),
  created_at    text COLLATE "C" NOT NULL,
  removed_at    text COLLATE "C",
  alarm         text COLLATE "C" CHECK (alarm <> ''),
  alarm_holds   integer NOT NULL DEFAULT 1 CHECK (alarm_holds IN (0, 1)),
  counted_since text COLLATE "C",
  project       text COLLATE "C" CHECK (project ~ '^[0-9a-f]{32}$')
);
CREATE INDEX environments_of_place ON environments (service, environment);
CREATE UNIQUE INDEX environments_present ON environments (service, environment) WHERE removed_at IS NULL;

-- The highest version is the one that holds.
CREATE TABLE settings (
  environment bigint NOT NULL REFERENCES environments (id),
  version     integer NOT NULL CHECK (version > 0),
  value       json NOT NULL,
  created_at  text COLLATE "C" NOT NULL,
  PRIMARY KEY (environment, version)
);

-- configuration is the canonical JSON that configuration_digest is the SHA-256 of.
CREATE TABLE releases (
  environment          bigint NOT NULL REFERENCES environments (id),
  number               bigint NOT NULL CHECK (number > 0),
  image                text COLLATE "C" NOT NULL CHECK (image ~ '^sha256:' AND length(image) = 71),
  configuration        json NOT NULL,
  configuration_digest text COLLATE "C" NOT NULL
                       CHECK (configuration_digest ~ '^sha256:' AND length(configuration_digest) = 71),
  created_at           text COLLATE "C" NOT NULL,
  ran_well             integer NOT NULL DEFAULT 0 CHECK (ran_well IN (0, 1)),
  last_active_at       text COLLATE "C",
  pinned               integer NOT NULL DEFAULT 0 CHECK (pinned IN (0, 1)),
  PRIMARY KEY (environment, number)
);
CREATE INDEX releases_recent ON releases (environment, last_active_at) WHERE ran_well = 1;
ALTER TABLE environments ADD CONSTRAINT environments_active
  FOREIGN KEY (id, active) REFERENCES releases (environment, number);

CREATE TABLE rollouts (
  id          bigint PRIMARY KEY,
  environment bigint NOT NULL REFERENCES environments (id),
  kind        text COLLATE "C" NOT NULL CHECK (kind IN ('deploy', 'promote', 'rollback')),
  source      bigint,
  target      bigint NOT NULL,
  state       text COLLATE "C" NOT NULL DEFAULT 'running' CHECK (state IN ('running', 'done', 'failed')),
  actor       text COLLATE "C" NOT NULL,
  started_at  text COLLATE "C" NOT NULL,
  ended_at    text COLLATE "C",
  detail      json NOT NULL DEFAULT '{}',
  stage       json NOT NULL DEFAULT '{}',
  CHECK ((state = 'running') = (ended_at IS NULL)),
  FOREIGN KEY (environment, source) REFERENCES releases (environment, number),
  FOREIGN KEY (environment, target) REFERENCES releases (environment, number)
);
CREATE UNIQUE INDEX rollouts_running ON rollouts (environment) WHERE state = 'running';

-- stem is SERVICE-ENVIRONMENT-RELEASE. Two environments can share one (a-b/c and a/b-c): k counts within the stem.
-- task: which of its release's tasks an instance runs instead of the service. replacing: why it was planned outside a
-- rollout. taint: why it is to be replaced, who said so and when. ending: how it came to its end.
CREATE TABLE instances (
  serial      bigint PRIMARY KEY,
  id          text COLLATE "C" NOT NULL UNIQUE,
  environment bigint NOT NULL,
  release     bigint NOT NULL,
  stem        text COLLATE "C" NOT NULL,
  k           bigint NOT NULL CHECK (k > 0),
  address     text COLLATE "C" NOT NULL,
  boot_id     text COLLATE "C",
  pid         bigint CHECK (pid > 0),
  start_time  bigint CHECK (start_time >= 0),
  created_at  text COLLATE "C" NOT NULL,
  started_at  text COLLATE "C",
  removed_at  text COLLATE "C",
  task        text COLLATE "C" CHECK (task ~ '^(before|after) [0-9]'),
  replacing   text COLLATE "C" CHECK (replacing IN ('ended', 'unwell', 'old', 'hot', 'drifted', 'tainted')),
  taint       json,
  ending      json,
  ended_at    text COLLATE "C",
  CHECK (id = stem || '-' || k),
  CHECK ((boot_id IS NULL) = (pid IS NULL) AND (pid IS NULL) = (start_time IS NULL)),
  CHECK ((ended_at IS NULL) = (ending IS NULL)),
  UNIQUE (stem, k),
  FOREIGN KEY (environment, release) REFERENCES releases (environment, number)
);
CREATE UNIQUE INDEX instances_address ON instances (address) WHERE removed_at IS NULL;
CREATE INDEX instances_present ON instances (environment) WHERE removed_at IS NULL;
CREATE INDEX instances_replacing ON instances (environment, created_at) WHERE replacing IS NOT NULL;
CREATE INDEX instances_endings ON instances (environment, release, ended_at) WHERE ending IS NOT NULL;

-- A task is begun once for a release, whatever comes of it.
CREATE TABLE tasks (
  environment bigint NOT NULL,
  release     bigint NOT NULL,
  name        text COLLATE "C" NOT NULL,
  instance    text COLLATE "C" NOT NULL UNIQUE REFERENCES instances (id),
  began_at    text COLLATE "C" NOT NULL,
  ended_at    text COLLATE "C",
  outcome     text COLLATE "C" CHECK (outcome <> ''),
  CHECK ((ended_at IS NULL) = (outcome IS NULL)),
  PRIMARY KEY (environment, release, name),
  FOREIGN KEY (environment, release) REFERENCES releases (environment, number)
);

CREATE FUNCTION kept() RETURNS trigger LANGUAGE plpgsql SET search_path FROM CURRENT AS $rule$
BEGIN
  RAISE EXCEPTION 'rows of % are never deleted', TG_TABLE_NAME;
END $rule$;

CREATE FUNCTION unchanged() RETURNS trigger LANGUAGE plpgsql SET search_path FROM CURRENT AS $rule$
BEGIN
  RAISE EXCEPTION 'rows of % are never changed', TG_TABLE_NAME;
END $rule$;

CREATE FUNCTION require_open(wanted bigint) RETURNS void LANGUAGE plpgsql SET search_path FROM CURRENT AS $rule$
BEGIN
  IF EXISTS (SELECT 1 FROM environments WHERE id = wanted AND (destroying = 1 OR removed_at IS NOT NULL)) THEN
    RAISE EXCEPTION 'nothing is added to an environment that goes';
  END IF;
END $rule$;

CREATE FUNCTION ledger_rule() RETURNS trigger LANGUAGE plpgsql SET search_path FROM CURRENT AS $rule$
BEGIN
  IF NEW.version < OLD.version THEN
    RAISE EXCEPTION 'a schema does not become older';
  END IF;
  RETURN NEW;
END $rule$;

CREATE FUNCTION events_rule() RETURNS trigger LANGUAGE plpgsql SET search_path FROM CURRENT AS $rule$
BEGIN
  IF NEW.seq <> (SELECT coalesce(max(seq), 0) + 1 FROM events) THEN
    RAISE EXCEPTION 'events are only ever added at the end';
  END IF;
  RETURN NEW;
END $rule$;

CREATE FUNCTION settings_rule() RETURNS trigger LANGUAGE plpgsql SET search_path FROM CURRENT AS $rule$
BEGIN
  PERFORM require_open(NEW.environment);
  RETURN NEW;
END $rule$;

CREATE FUNCTION environments_rule() RETURNS trigger LANGUAGE plpgsql SET search_path FROM CURRENT AS $rule$
BEGIN
  IF TG_OP = 'INSERT' THEN
    IF NEW.active IS NOT NULL OR NEW.destroying <> 0 OR NEW.removed_at IS NOT NULL OR NEW.alarm IS NOT NULL THEN
      RAISE EXCEPTION 'an environment begins with nothing in it';
    END IF;
    RETURN NEW;
  END IF;
  IF OLD.removed_at IS NOT NULL THEN
    RAISE EXCEPTION 'a removed environment is never changed';
  END IF;
  IF (NEW.id, NEW.service, NEW.environment, NEW.created_at)
     IS DISTINCT FROM (OLD.id, OLD.service, OLD.environment, OLD.created_at) THEN
    RAISE EXCEPTION 'an environment keeps its name';
  END IF;
  IF OLD.project IS NOT NULL AND NEW.project IS DISTINCT FROM OLD.project
     AND NOT EXISTS (SELECT 1 FROM events
                      WHERE seq = (SELECT max(seq) FROM events) AND kind = 'name-adopted'
                        AND place = OLD.service || '/' || OLD.environment
                        AND detail ->> 'project' = NEW.project) THEN
    RAISE EXCEPTION 'another project takes a name over only with an event that tells of it';
  END IF;
  IF NEW.destroying < OLD.destroying THEN
    RAISE EXCEPTION 'a destruction is not taken back';
  END IF;
  IF NEW.removed_at IS NOT NULL
     AND (NEW.destroying = 0 OR NEW.active IS NOT NULL
          OR EXISTS (SELECT 1 FROM instances WHERE environment = OLD.id AND removed_at IS NULL)) THEN
    RAISE EXCEPTION 'an environment has gone when nothing is left of it';
  END IF;
  IF OLD.counted_since IS NOT NULL AND (NEW.counted_since IS NULL OR NEW.counted_since < OLD.counted_since) THEN
    RAISE EXCEPTION 'failures that no longer count are not counted again';
  END IF;
  RETURN NEW;
END $rule$;

CREATE FUNCTION releases_rule() RETURNS trigger LANGUAGE plpgsql SET search_path FROM CURRENT AS $rule$
BEGIN
  IF TG_OP = 'INSERT' THEN
    IF NEW.ran_well <> 0 OR NEW.last_active_at IS NOT NULL OR NEW.pinned <> 0 THEN
      RAISE EXCEPTION 'a release begins as one that has not run';
    END IF;
    PERFORM require_open(NEW.environment);
    IF EXISTS (SELECT 1 FROM environments n
                 JOIN environments o ON o.service = n.service AND o.environment = n.environment
                 JOIN releases r ON r.environment = o.id
                WHERE n.id = NEW.environment AND r.number >= NEW.number) THEN
      RAISE EXCEPTION 'a release number is never used again';
    END IF;
    RETURN NEW;
  END IF;
  IF (NEW.environment, NEW.number, NEW.image, NEW.configuration::text, NEW.configuration_digest, NEW.created_at)
     IS DISTINCT FROM
     (OLD.environment, OLD.number, OLD.image, OLD.configuration::text, OLD.configuration_digest, OLD.created_at) THEN
    RAISE EXCEPTION 'a release is never changed';
  END IF;
  IF NEW.ran_well < OLD.ran_well
     OR (OLD.last_active_at IS NOT NULL
         AND (NEW.last_active_at IS NULL OR NEW.last_active_at < OLD.last_active_at)) THEN
    RAISE EXCEPTION 'a release that ran well has run well';
  END IF;
  RETURN NEW;
END $rule$;

CREATE FUNCTION rollouts_rule() RETURNS trigger LANGUAGE plpgsql SET search_path FROM CURRENT AS $rule$
BEGIN
  IF TG_OP = 'INSERT' THEN
    IF NEW.state <> 'running' THEN
      RAISE EXCEPTION 'a rollout begins as one that runs';
    END IF;
    PERFORM require_open(NEW.environment);
    RETURN NEW;
  END IF;
  IF OLD.state <> 'running' THEN
    RAISE EXCEPTION 'an ended rollout is never changed';
  END IF;
  IF (NEW.id, NEW.environment, NEW.kind, NEW.source, NEW.target, NEW.actor, NEW.started_at)
     IS DISTINCT FROM (OLD.id, OLD.environment, OLD.kind, OLD.source, OLD.target, OLD.actor, OLD.started_at) THEN
    RAISE EXCEPTION 'a rollout keeps its aim';
  END IF;
  IF NEW.state = 'running' AND NEW.detail::text IS DISTINCT FROM OLD.detail::text THEN
    RAISE EXCEPTION 'what came of a rollout is written when it ends';
  END IF;
  RETURN NEW;
END $rule$;

CREATE FUNCTION instances_rule() RETURNS trigger LANGUAGE plpgsql SET search_path FROM CURRENT AS $rule$
BEGIN
  IF TG_OP = 'INSERT' THEN
    IF NEW.boot_id IS NOT NULL OR NEW.started_at IS NOT NULL OR NEW.removed_at IS NOT NULL OR NEW.taint IS NOT NULL THEN
      RAISE EXCEPTION 'an instance begins as a plan';
    END IF;
    IF NEW.ending IS NOT NULL THEN
      RAISE EXCEPTION 'an instance begins without an end';
    END IF;
    PERFORM require_open(NEW.environment);
    RETURN NEW;
  END IF;
  IF OLD.removed_at IS NOT NULL THEN
    RAISE EXCEPTION 'a removed instance is never changed';
  END IF;
  IF (NEW.serial, NEW.id, NEW.environment, NEW.release, NEW.stem, NEW.k, NEW.address, NEW.created_at)
     IS DISTINCT FROM
     (OLD.serial, OLD.id, OLD.environment, OLD.release, OLD.stem, OLD.k, OLD.address, OLD.created_at) THEN
    RAISE EXCEPTION 'an instance keeps its name and address';
  END IF;
  IF (NEW.task, NEW.replacing) IS DISTINCT FROM (OLD.task, OLD.replacing) THEN
    RAISE EXCEPTION 'an instance keeps its purpose';
  END IF;
  IF (NEW.boot_id, NEW.pid, NEW.start_time) IS NOT DISTINCT FROM (OLD.boot_id, OLD.pid, OLD.start_time) THEN
    IF OLD.started_at IS NOT NULL AND NEW.started_at IS DISTINCT FROM OLD.started_at THEN
      RAISE EXCEPTION 'an instance keeps when it started';
    END IF;
  ELSIF NEW.boot_id IS NULL OR NEW.started_at IS NOT NULL THEN
    RAISE EXCEPTION 'an instance keeps when it started';
  END IF;
  IF OLD.taint IS NOT NULL AND NEW.taint::text IS DISTINCT FROM OLD.taint::text
     AND (NEW.taint IS NULL
          OR NEW.taint::jsonb - 'due_at' - 'isolated' IS DISTINCT FROM OLD.taint::jsonb - 'due_at' - 'isolated'
          OR NEW.taint ->> 'due_at' IS NULL
          OR (NEW.taint ->> 'due_at')::timestamptz > (OLD.taint ->> 'due_at')::timestamptz
          OR coalesce((NEW.taint ->> 'isolated')::boolean, false) < (OLD.taint ->> 'isolated')::boolean) THEN
    RAISE EXCEPTION 'a taint stays until the instance is gone';
  END IF;
  IF OLD.ending IS NOT NULL
     AND (NEW.ending::text IS DISTINCT FROM OLD.ending::text OR NEW.ended_at IS DISTINCT FROM OLD.ended_at) THEN
    RAISE EXCEPTION 'how an instance ended is never changed';
  END IF;
  RETURN NEW;
END $rule$;

CREATE FUNCTION tasks_rule() RETURNS trigger LANGUAGE plpgsql SET search_path FROM CURRENT AS $rule$
BEGIN
  IF TG_OP = 'INSERT' THEN
    IF NEW.outcome IS NOT NULL THEN
      RAISE EXCEPTION 'a task begins without an end';
    END IF;
    RETURN NEW;
  END IF;
  IF OLD.outcome IS NOT NULL THEN
    RAISE EXCEPTION 'an ended task is never changed';
  END IF;
  IF (NEW.environment, NEW.release, NEW.name, NEW.instance, NEW.began_at)
     IS DISTINCT FROM (OLD.environment, OLD.release, OLD.name, OLD.instance, OLD.began_at) THEN
    RAISE EXCEPTION 'a task keeps its name';
  END IF;
  RETURN NEW;
END $rule$;

CREATE TRIGGER ledger_rule BEFORE UPDATE ON ledger FOR EACH ROW EXECUTE FUNCTION ledger_rule();
CREATE TRIGGER ledger_kept BEFORE DELETE OR TRUNCATE ON ledger FOR EACH STATEMENT EXECUTE FUNCTION kept();
CREATE TRIGGER events_rule BEFORE INSERT ON events FOR EACH ROW EXECUTE FUNCTION events_rule();
CREATE TRIGGER events_unchanged BEFORE UPDATE ON events FOR EACH STATEMENT EXECUTE FUNCTION unchanged();
CREATE TRIGGER events_kept BEFORE DELETE OR TRUNCATE ON events FOR EACH STATEMENT EXECUTE FUNCTION kept();
CREATE TRIGGER settings_rule BEFORE INSERT ON settings FOR EACH ROW EXECUTE FUNCTION settings_rule();
CREATE TRIGGER settings_unchanged BEFORE UPDATE ON settings FOR EACH STATEMENT EXECUTE FUNCTION unchanged();
CREATE TRIGGER settings_kept BEFORE DELETE OR TRUNCATE ON settings FOR EACH STATEMENT EXECUTE FUNCTION kept();
CREATE TRIGGER environments_rule BEFORE INSERT OR UPDATE ON environments
  FOR EACH ROW EXECUTE FUNCTION environments_rule();
CREATE TRIGGER environments_kept BEFORE DELETE OR TRUNCATE ON environments FOR EACH STATEMENT EXECUTE FUNCTION kept();
CREATE TRIGGER releases_rule BEFORE INSERT OR UPDATE ON releases FOR EACH ROW EXECUTE FUNCTION releases_rule();
CREATE TRIGGER releases_kept BEFORE DELETE OR TRUNCATE ON releases FOR EACH STATEMENT EXECUTE FUNCTION kept();
CREATE TRIGGER rollouts_rule BEFORE INSERT OR UPDATE ON rollouts FOR EACH ROW EXECUTE FUNCTION rollouts_rule();
CREATE TRIGGER rollouts_kept BEFORE DELETE OR TRUNCATE ON rollouts FOR EACH STATEMENT EXECUTE FUNCTION kept();
CREATE TRIGGER instances_rule BEFORE INSERT OR UPDATE ON instances FOR EACH ROW EXECUTE FUNCTION instances_rule();
CREATE TRIGGER instances_kept BEFORE DELETE OR TRUNCATE ON instances FOR EACH STATEMENT EXECUTE FUNCTION kept();
CREATE TRIGGER tasks_rule BEFORE INSERT OR UPDATE ON tasks FOR EACH ROW EXECUTE FUNCTION tasks_rule();
CREATE TRIGGER tasks_kept BEFORE DELETE OR TRUNCATE ON tasks FOR EACH STATEMENT EXECUTE FUNCTION kept();
