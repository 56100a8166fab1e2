-- The least that Instar needs of PostgreSQL. Once, in the ledger's database, by who may make roles:
--   instar ledger role | psql DATABASE
-- then give both a way in (pg_hba.conf, \password), and make the schema: as instar_owner, instar ledger upgrade

-- Makes the schema, and upgrades it when a new Instar comes. Nothing else is its own.
CREATE ROLE instar_owner LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE;
CREATE SCHEMA instar AUTHORIZATION instar_owner;

-- Works with it. It can delete nothing, and change no rule.
CREATE ROLE instar LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE;
GRANT USAGE ON SCHEMA instar TO instar;
ALTER DEFAULT PRIVILEGES FOR ROLE instar_owner IN SCHEMA instar GRANT SELECT, INSERT, UPDATE ON TABLES TO instar;
