#!/bin/sh
# Once the server answers: the bucket, then pools, deployments and automations. May run any number of times.
set -eu
: "${PREFECT_API_URL:?address of the server, http://server:4200/api}"
: "${PREFECT_API_AUTH_STRING:?password of the server}"
: "${OLMO_STORE:?where artifacts go, s3://bucket/prefix}"
cd "$OLMO_PROJECT"
python - <<'END'
import os
import boto3

name = os.environ["OLMO_STORE"].removeprefix("s3://").partition("/")[0]
s3 = boto3.client("s3")
if name not in [bucket["Name"] for bucket in s3.list_buckets()["Buckets"]]:
    s3.create_bucket(Bucket=name)
    # Uploads in parts that a kill has interrupted are invisible and would stay for ever.
    rule = {"ID": "parts", "Status": "Enabled", "Filter": {"Prefix": ""}}
    rule["AbortIncompleteMultipartUpload"] = {"DaysAfterInitiation": 2}
    try:
        s3.put_bucket_lifecycle_configuration(Bucket=name, LifecycleConfiguration={"Rules": [rule]})
    except s3.exceptions.ClientError as error:
        print(f"bucket      {name}: no rule against parts of uploads that were interrupted ({error.response['Error']['Code']})")
    print(f"bucket      {name} made")
END
exec python -m flows.command.main deploy
