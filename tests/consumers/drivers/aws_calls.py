"""For each line on standard input, a JSON object: makes one call of STS or IAM at AWS_ENDPOINT with botocore. Prints
the status, and the reply or the error. botocore parses the reply by its model of the service.

service, method, params: as `boto3.client(service).method(**params)`
generate_presigned_url returns only the url
region: by default eu-central-1, and for IAM us-east-1, the region of its host in the partition `aws`
keys: [ID, SECRET, TOKEN or null]; ahead: seconds that this client's clock is ahead
"""

import datetime
import json
import os
import sys

import botocore.auth
import botocore.session
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError
from botocore.parsers import ResponseParserError

REGIONS = {"sts": "eu-central-1", "iam": "us-east-1"}
SESSION = botocore.session.Session()
ONCE = Config(retries={"total_max_attempts": 1})
NOW = botocore.auth.get_current_datetime


def client(call):
    key, secret, token = call["keys"]
    return SESSION.create_client(
        call["service"],
        region_name=call.get("region", REGIONS[call["service"]]),
        endpoint_url=os.environ["AWS_ENDPOINT"],
        aws_access_key_id=key,
        aws_secret_access_key=secret,
        aws_session_token=token,
        config=ONCE,
    )


def result_of(call):
    ahead = datetime.timedelta(seconds=call.get("ahead", 0))
    botocore.auth.get_current_datetime = lambda *arguments, **options: NOW(*arguments, **options) + ahead
    try:
        reply = getattr(client(call), call["method"])(**call.get("params", {}))
        if isinstance(reply, str):
            return {"url": reply}
        metadata = reply.pop("ResponseMetadata")
        return {"status": metadata["HTTPStatusCode"], "id": metadata.get("RequestId"), "reply": reply}
    except ClientError as error:
        metadata = error.response["ResponseMetadata"]
        failure = error.response["Error"]
        result = {"code": failure["Code"], "message": failure.get("Message", "")}
        return {"status": metadata["HTTPStatusCode"], "id": metadata.get("RequestId"), **result}
    except (BotoCoreError, ResponseParserError) as error:
        return {"exception": type(error).__name__}


for line in sys.stdin:
    print(json.dumps(result_of(json.loads(line)), default=str), flush=True)
