"""For each line on standard input: writes, lists, reads and deletes an object at S3_ENDPOINT with botocore. Prints
whether the object was read back unchanged, or the error."""

import json
import os
import sys

import botocore.session
from botocore.config import Config

SETTINGS = Config(s3={"addressing_style": "path"}, retries={"total_max_attempts": 1})
client = botocore.session.get_session().create_client("s3", endpoint_url=os.environ["S3_ENDPOINT"], config=SETTINGS)
for number, _ in enumerate(sys.stdin):
    location = {"Bucket": "proof", "Key": f"botocore/{number} ü+~"}
    try:
        client.put_object(Body=b"x" * 100_000, **location)
        listed = [each["Key"] for each in client.list_objects_v2(Bucket="proof", Prefix="botocore/")["Contents"]]
        same = client.get_object(**location)["Body"].read() == b"x" * 100_000
        client.delete_object(**location)
        result = {"same": same and location["Key"] in listed}
    except Exception as error:
        result = {"error": f"{type(error).__name__}: {error}"}
    print(json.dumps(result), flush=True)
