"""For each line on standard input: signs one request with botocore, and prints the access key or the error."""

import json
import sys

import botocore.session
from botocore.awsrequest import AWSResponse

KEYS = []


class Empty:
    def stream(self, **_):
        return [b"<ListAllMyBucketsResult/>"]


def answer(request, **_):
    """Replaces the network."""
    credential = request.headers["Authorization"].decode().split("Credential=")[1]
    KEYS.append(credential.split("/")[0])
    return AWSResponse(request.url, 200, {}, Empty())


client = botocore.session.Session(profile="dev").create_client("s3", region_name="eu-central-1")
client.meta.events.register("before-send.s3", answer)
for _ in sys.stdin:
    try:
        client.list_buckets()
        result = {"key": KEYS[-1]}
    except Exception as error:
        result = {"error": f"{type(error).__name__}: {error}".splitlines()[0]}
    print(json.dumps(result), flush=True)
