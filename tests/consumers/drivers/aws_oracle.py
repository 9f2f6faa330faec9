"""What botocore says: the endpoints of its rules, and the signatures of its SigV4.

Each line on standard input is a request in JSON. Each line of output is the answer.
"""

import datetime
import json
import sys

import botocore.auth
import botocore.awsrequest
import botocore.credentials
import botocore.endpoint_provider
import botocore.loaders

LOADER = botocore.loaders.Loader()
PARTITIONS = LOADER.load_data("partitions")
PROVIDERS = {
    service: botocore.endpoint_provider.EndpointProvider(
        LOADER.load_service_model(service, "endpoint-rule-set-1"), PARTITIONS
    )
    for service in ("sts", "iam")
}


def regions():
    names = [name for partition in PARTITIONS["partitions"] for name in partition["regions"]]
    return [name for name in names if not name.endswith("-global")]


def endpoint(service, region, fips, dual_stack):
    parameters = {"Region": region, "UseFIPS": fips, "UseDualStack": dual_stack}
    if service == "sts":
        parameters["UseGlobalEndpoint"] = False
    resolved = PROVIDERS[service].resolve_endpoint(**parameters)
    schemes = resolved.properties.get("authSchemes", [{}])
    return [resolved.url, schemes[0].get("signingRegion", region)]


def signature(request):
    time = datetime.datetime.fromtimestamp(request["time"], datetime.timezone.utc)
    botocore.auth.get_current_datetime = lambda *_: time.replace(tzinfo=None)
    keys = botocore.credentials.Credentials(*request["keys"])
    signed = botocore.awsrequest.AWSRequest(
        method="POST",
        url=request["url"],
        data=request["body"].encode(),
        headers={"Content-Type": request["content_type"]},
    )
    botocore.auth.SigV4Auth(keys, request["service"], request["region"]).add_auth(signed)
    return signed.headers["Authorization"]


for line in sys.stdin:
    request = json.loads(line)
    match request["what"]:
        case "regions":
            answer = regions()
        case "endpoint":
            answer = endpoint(*request["parameters"])
        case "signature":
            answer = signature(request)
    print(json.dumps(answer), flush=True)
