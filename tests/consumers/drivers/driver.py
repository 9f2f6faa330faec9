"""For each line on standard input: calls GetCallerIdentity at STS_ENDPOINT with botocore, one client and the default
credential chain. Prints the account or the error. `threads N`: N threads call it at once, each with its own client of
one new session."""

import json
import os
import sys
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import botocore.session
from botocore.config import Config


def new_client(session):
    once = Config(retries={"total_max_attempts": 1})
    return session.create_client("sts", endpoint_url=os.environ["STS_ENDPOINT"], config=once)


def account(client):
    return client.get_caller_identity()["Account"]


def chain(error):
    """An exception and its causes in one line."""
    messages = []
    while error is not None:
        messages.append(f"{type(error).__module__}.{type(error).__name__}: {error}")
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    return " ".join(": ".join(messages).split())


def at_once(number):
    session = botocore.session.get_session()
    together = Barrier(number)

    def ask(_):
        together.wait()
        try:
            return account(new_client(session)), None
        except Exception as error:
            return None, chain(error)

    with ThreadPoolExecutor(number) as pool:
        answers = list(pool.map(ask, range(number)))
    errors = [error for _, error in answers if error]
    return {"accounts": number - len(errors), "errors": errors}


client = None
for line in sys.stdin:
    words = line.split()
    try:
        if words[:1] == ["threads"]:
            result = at_once(int(words[1]))
        else:
            client = client or new_client(botocore.session.get_session())
            result = {"account": account(client)}
    except Exception as error:
        result = {"error": chain(error)}
    print(json.dumps(result), flush=True)
