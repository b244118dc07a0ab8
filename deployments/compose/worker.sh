#!/bin/sh
# A worker of a pool: worker.sh cpu, worker.sh gpu. It runs flows in the project's directory, with this environment.
set -eu
: "${PREFECT_API_URL:?address of the server, http://server:4200/api}"
: "${PREFECT_API_AUTH_STRING:?password of the server}"
: "${OLMO_STORE:?where artifacts go, s3://bucket/prefix}"
export DO_NOT_TRACK=1
export PREFECT_LOGGING_COLORS=false
export PREFECT_PLUGINS_ENABLED=false
export PREFECT_RESULTS_PERSIST_BY_DEFAULT=false
export PREFECT_RESULTS_DEFAULT_SERIALIZER=json
export PREFECT_FLOWS_HEARTBEAT_FREQUENCY=60
export PREFECT_WORKER_QUERY_SECONDS=2
mkdir -p "$OLMO_HOME"
cd "$OLMO_PROJECT"
exec python -m prefect worker start --pool "$1" --type process --name "$1@$(uname -n)" --no-create-pool-if-not-found
