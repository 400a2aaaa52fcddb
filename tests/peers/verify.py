"""Verifies requests: verify.py REQUESTS.json, each with secret, headers and body. Where the secret is a public key, with `cryptography`; else
with the `standardwebhooks` package."""
import base64
import json
import sys

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from standardwebhooks import Webhook, WebhookVerificationError


def verify_public(secret, body, headers):
    key = Ed25519PublicKey.from_public_bytes(base64.b64decode(secret.removeprefix("whpk_")))
    message = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.{body}".encode()
    for signature in headers["webhook-signature"].split(" "):
        version, _, encoded = signature.partition(",")
        try:
            if version == "v1a":
                return key.verify(base64.b64decode(encoded), message)
        except InvalidSignature:
            continue
    raise WebhookVerificationError("no signature is of this key")


def verify(secret, body, headers):
    if secret.startswith("whpk_"):
        verify_public(secret, body, headers)
    else:
        Webhook(secret).verify(body, headers)


requests = json.load(open(sys.argv[1], encoding="utf-8"))
for request in requests:
    verify(request["secret"], request["body"], request["headers"])
    try:
        verify(request["secret"], request["body"] + " ", request["headers"])
    except WebhookVerificationError:
        continue
    sys.exit("a changed body was taken")
print(f"verified {len(requests)}")
