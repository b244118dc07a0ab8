#!/bin/sh
# Once the server answers: the bucket, then pools, deployments and automations. May run any number of times.
set -eu
: "${PREFECT_API_URL:?address of the server, http://server:4200/api}"
: "${PREFECT_API_AUTH_STRING:?password of the server}"
: "${OLMO_STORE:?where artifacts go, s3://bucket/prefix}"
cd "$OLMO_PROJECT"
python deployments/compose/bucket.py
exec python -m flows.command.main deploy
