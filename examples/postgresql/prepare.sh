#!/bin/sh
# Make the database where there is none. Killed in the middle, it begins anew: the folder gets its name at the end.
set -eu
[ ! -d "$PGDATA" ] || exit 0
made=$PGDATA.new
rm -rf "$made"
initdb -D "$made" --username "$PGUSER" --encoding UTF8 --locale C.UTF-8 --pwfile /run/secrets/PASSWORD
echo 'CREATE DATABASE app' | postgres --single -D "$made" postgres >/dev/null
mv "$made" "$PGDATA"
