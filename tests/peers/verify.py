"""Verifies requests with the `standardwebhooks` package: verify.py REQUESTS.json, each with secret, headers and body."""
import json
import sys

from standardwebhooks import Webhook, WebhookVerificationError

requests = json.load(open(sys.argv[1], encoding="utf-8"))
for request in requests:
    Webhook(request["secret"]).verify(request["body"], request["headers"])
    try:
        Webhook(request["secret"]).verify(request["body"] + " ", request["headers"])
    except WebhookVerificationError:
        continue
    sys.exit("a changed body was taken")
print(f"verified {len(requests)}")
