"""Make the bucket of OLMO_STORE where it is missing. Asks for that bucket only: a key of one bucket may not list them all."""

from __future__ import annotations

import os
import sys

import boto3
from botocore.exceptions import BotoCoreError, ClientError


def main() -> None:
    """Look for the bucket and make it if there is none; ends with one line on standard error when it can do neither."""
    scheme, _, rest = os.environ["OLMO_STORE"].partition("://")
    name = rest.partition("/")[0]
    if scheme != "s3" or not name:
        sys.exit(f"bucket      OLMO_STORE is {os.environ['OLMO_STORE']!r}: give s3://bucket/prefix")
    try:
        s3 = boto3.client("s3")
        try:
            s3.head_bucket(Bucket=name)
            return
        except ClientError as error:
            if error.response["ResponseMetadata"]["HTTPStatusCode"] != 404:
                raise
        # AWS refuses the name of its first region here and, in any other, a request without a name. (None: none is set.)
        region = boto3.session.Session().region_name
        elsewhere = region not in (None, "us-east-1")
        where = {"CreateBucketConfiguration": {"LocationConstraint": region}} if elsewhere else {}
        s3.create_bucket(Bucket=name, **where)
    except (BotoCoreError, ClientError) as error:
        sys.exit(f"bucket      {name}: {error}; make it, or mend AWS_* and OLMO_STORE")
    sys.stdout.write(f"bucket      {name} made\n")
    # Uploads in parts that a kill has interrupted are invisible and would stay for ever.
    rule = {"ID": "parts", "Status": "Enabled", "Filter": {"Prefix": ""}}
    rule["AbortIncompleteMultipartUpload"] = {"DaysAfterInitiation": 2}
    try:
        s3.put_bucket_lifecycle_configuration(Bucket=name, LifecycleConfiguration={"Rules": [rule]})
    except (BotoCoreError, ClientError) as error:
        sys.stdout.write(f"bucket      {name}: no rule against parts of uploads that were interrupted ({error})\n")


if __name__ == "__main__":
    main()
