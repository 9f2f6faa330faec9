"""For each line on standard input: an object is put, listed, read and deleted by botocore's S3 client at S3_ENDPOINT. Says
that it was the same, or what the service refused."""

import json
import os
import sys

import botocore.session
from botocore.config import Config

SETTINGS = Config(s3={"addressing_style": "path"}, retries={"total_max_attempts": 1})
client = botocore.session.get_session().create_client("s3", endpoint_url=os.environ["S3_ENDPOINT"], config=SETTINGS)
for number, _ in enumerate(sys.stdin):
    place = {"Bucket": "proof", "Key": f"botocore/{number} ü+~"}
    try:
        client.put_object(Body=b"x" * 100_000, **place)
        listed = [each["Key"] for each in client.list_objects_v2(Bucket="proof", Prefix="botocore/")["Contents"]]
        same = client.get_object(**place)["Body"].read() == b"x" * 100_000
        client.delete_object(**place)
        said = {"same": same and place["Key"] in listed}
    except Exception as error:
        said = {"error": f"{type(error).__name__}: {error}"}
    print(json.dumps(said), flush=True)
