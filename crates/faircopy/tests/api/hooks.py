"""What the requests of Schemathesis need beyond the description of the API."""

import base64
import hashlib
import hmac
import os
import time

import schemathesis
from requests.auth import AuthBase

WEBHOOK = "/webhooks/clerk"
SEQUENCE = "Faircopy-Min-Sequence"
STALENESS = "Faircopy-Max-Staleness"
# The largest number that is valid; what is beyond it must be refused.
LARGEST = 2**63 - 1
# The lists whose cursors are sealed; the `after` of the change feed is a number that anybody may name.
SEALED = {
    "/v1/me/organizations",
    "/v1/organization/members",
    "/admin/v1/deliveries",
    "/admin/v1/drift",
    "/admin/v1/erasures",
    "/admin/v1/jobs",
    "/admin/v1/members",
    "/admin/v1/organizations",
    "/admin/v1/users",
}
given_out = {path: set() for path in SEALED}


class Signed(AuthBase):
    """Signs a delivery as Svix does: over the very bytes that are sent."""

    def __call__(self, request):
        body = request.body or b""
        if isinstance(body, str):
            body = body.encode()
        secret = base64.b64decode(os.environ["CLERK_WEBHOOK_SIGNING_SECRET"].removeprefix("whsec_"))
        at = str(int(time.time()))
        signed = f"{_text(request.headers['svix-id'])}.{at}.".encode() + body
        digest = hmac.new(secret, signed, hashlib.sha256).digest()
        request.headers["svix-timestamp"] = at
        request.headers["svix-signature"] = "v1," + base64.b64encode(digest).decode()
        return request


def _text(value):
    return value.decode() if isinstance(value, bytes) else value


@schemathesis.hook
def before_call(context, case, kwargs):
    # A signature cannot be made up. What is meant to be refused goes as it was made.
    valid = case.meta is None or case.meta.generation.mode.is_positive
    if valid and case.operation.path == WEBHOOK and case.method == "POST" and "svix-id" in (case.headers or {}):
        kwargs["auth"] = Signed()
    # Nor can a cursor: of those that look valid, only the ones that this very list gave out are sent.
    if valid and case.operation.path in SEALED and "after" in (case.query or {}):
        if case.query["after"] not in given_out[case.operation.path]:
            del case.query["after"]
    # Whose members is always said, of an organization or of a user: the description cannot say "one of them".
    if valid and case.operation.path == "/admin/v1/members":
        case.query = case.query or {}
        if ("user" in case.query) == ("organization" in case.query):
            case.query.pop("organization", None)
            case.query["user"] = "user_api_ada"
    # A change that is not here yet is waited for, 2 seconds each time: tests/server/sessions.rs tries that. Here numbers
    # that are valid become 0 or 1, which the copy has.
    wanted = (case.headers or {}).get(SEQUENCE)
    if wanted is not None and _text(wanted).isdecimal() and int(_text(wanted)) <= LARGEST:
        case.headers[SEQUENCE] = str(int(_text(wanted)) % 2)


@schemathesis.hook
def after_call(context, case, response):
    if case.operation.path in SEALED and case.method == "GET" and response.status_code == 200:
        given_out[case.operation.path].add(response.json()["next"])


@schemathesis.check
def a_503_was_asked_for(ctx, response, case):
    """The service is never unavailable here; the copy may be staler, or further behind, than a reader wishes."""
    if response.status_code != 503:
        return
    code = response.json().get("code")
    sent = {name.lower() for name in response.request.headers}
    if code == "clerk-not-configured":
        return  # There is no Clerk here.
    wishes = {"copy-stale": STALENESS, "copy-behind": SEQUENCE}
    assert code in wishes and wishes[code].lower() in sent, f"nobody asked for this 503: {response.text}"
