#!/bin/sh
# The Prefect server, on PostgreSQL and never without a password. The settings are those that `olmo up` gives its own server
# (flows/command/services.py); a test compares them.
set -eu
: "${PREFECT_SERVER_API_AUTH_STRING:?user:password that everybody is asked for}"
: "${POSTGRES_PASSWORD:?password of the database}"
case "$PREFECT_SERVER_API_AUTH_STRING" in
  ?*:????????*) ;;
  *) echo "PREFECT_SERVER_API_AUTH_STRING: give user:password, the password of 8 characters at least" >&2; exit 1 ;;
esac
# Put together here, in the environment: a command line would show it to everybody on the machine.
PREFECT_API_DATABASE_CONNECTION_URL="$(python -c '
import os, urllib.parse
of = os.environ.get
name, secret = (urllib.parse.quote(of(key, "prefect"), safe="") for key in ("POSTGRES_USER", "POSTGRES_PASSWORD"))
where = of("POSTGRES_HOST", "postgres") + ":" + of("POSTGRES_PORT", "5432") + "/" + of("POSTGRES_DB", "prefect")
print(f"postgresql+asyncpg://{name}:{secret}@{where}")')"
export PREFECT_API_DATABASE_CONNECTION_URL
export DO_NOT_TRACK=1
export PREFECT_LOGGING_COLORS=false
export PREFECT_PLUGINS_ENABLED=false
export PREFECT_SERVER_ANALYTICS_ENABLED=false
export PREFECT_SERVER_UI_SHOW_PROMOTIONAL_CONTENT=false
export PREFECT_SERVER_UI_API_URL=/api
export PREFECT_SERVER_CORS_ALLOWED_ORIGINS="${OLMO_ORIGIN:-http://127.0.0.1:4200}"
export PREFECT_SERVER_CSRF_PROTECTION_ENABLED=true
export PREFECT_RESULTS_PERSIST_BY_DEFAULT=false
export PREFECT_RESULTS_DEFAULT_SERIALIZER=json
export PREFECT_SERVER_SERVICES_SCHEDULER_LOOP_SECONDS=10
# Not in the project's directory: pyproject.toml there holds settings for clients.
mkdir -p "$OLMO_HOME"
cd "$OLMO_HOME"
exec python -m prefect server start --host "${OLMO_HOST:-0.0.0.0}" --port "${OLMO_PORT:-4200}"
