"""`./test api`: starts the real binary on a fresh SQLite file, puts a few deliveries in, and lets Schemathesis try the API.

usage: run.py <faircopy binary>

Ends with the status of Schemathesis, whatever happens the service is stopped. The session's key is made for this run.
"""

import base64
import hashlib
import hmac
import json
import os
import secrets
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path

HERE = Path(__file__).resolve().parent
ISSUER = "https://clerk.example.com"
USER, COLLEAGUE, ORGANIZATION = "user_api_ada", "user_api_ben", "org_api"
READY_WITHIN_SECONDS = 30
# A run takes less than two minutes; the token must outlive it.
TOKEN_LIFE_SECONDS = 1800


# The admin API in parts, each with a service of its own: each operation is tried with a wrong token too, and ten are taken from one
# address in a minute.
PARTS = ("jobs", "destinations", "activity|alerts|doctor|erasures|overview", "explain|users|organizations|members")
# Answers without an end are listened to by tests/server/dashboard.rs and live.rs.
ENDLESS = "^/(admin/)?v1/live"
RUNS = (
    ("--exclude-path-regex", f"^/admin/v1/({'|'.join(PARTS)})|{ENDLESS}"),
    *(("--include-path-regex", f"^/admin/v1/({part})") for part in PARTS),
)


def main():
    return max([run(sys.argv[1], operations) for operations in RUNS])


def run(binary, operations):
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        key = folder / "key.pem"
        openssl("genpkey", "-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048", "-out", str(key))
        settings = {
            "DATABASE_URL": f"sqlite://{folder / 'faircopy.db'}",
            "FAIRCOPY_LISTEN": f"127.0.0.1:{free_port()}",
            "FAIRCOPY_ADMIN_TOKEN": secrets.token_hex(32),
            "CLERK_WEBHOOK_SIGNING_SECRET": "whsec_" + base64.b64encode(secrets.token_bytes(24)).decode(),
            "CLERK_JWT_ISSUER_DOMAIN": ISSUER,
            "CLERK_JWT_KEY": openssl("pkey", "-in", str(key), "-pubout").decode(),
        }
        url = "http://" + settings["FAIRCOPY_LISTEN"]
        with open(folder / "log", "wb") as log:
            service = subprocess.Popen([binary, "serve"], env=settings, cwd=folder, stdout=log, stderr=log)
        try:
            wait(url, service)
            fill(url, settings["CLERK_WEBHOOK_SIGNING_SECRET"])
            status = schemathesis(url, settings, token(key), operations)
            if service.poll() is not None:
                print(f"the service ended with {service.returncode}")
                status = status or 1
            if status:
                print((folder / "log").read_text(errors="replace")[-4000:])
            return status
        finally:
            service.terminate()
            try:
                service.wait(20)
            except subprocess.TimeoutExpired:
                service.kill()


def schemathesis(url, settings, session_token, operations):
    environment = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
    environment |= {
        "ADMIN_TOKEN": settings["FAIRCOPY_ADMIN_TOKEN"],
        "SESSION_TOKEN": session_token,
        "CLERK_WEBHOOK_SIGNING_SECRET": settings["CLERK_WEBHOOK_SIGNING_SECRET"],
        "NO_PROXY": "127.0.0.1",
        "SCHEMATHESIS_HOOKS": str(HERE / "hooks.py"),
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    command = [
        str(Path(sys.executable).with_name("schemathesis")),
        "--config-file", str(HERE / "schemathesis.toml"), "--no-color", "run", "openapi.json", "--url", url,
        "--phases", "examples,coverage,fuzzing,stateful", "--checks", "all", *operations,
    ]
    # A folder that goes with the run: Schemathesis leaves files where it works. The description is the served one, but out
    # of a file: Schemathesis leaves out the operation that it has loaded a description from.
    with tempfile.TemporaryDirectory() as folder:
        with urllib.request.urlopen(f"{url}/openapi.json", timeout=5) as answer:
            (Path(folder) / "openapi.json").write_bytes(answer.read())
        return subprocess.run(command, env=environment, cwd=folder, check=False).returncode


def wait(url, service):
    end = time.monotonic() + READY_WITHIN_SECONDS
    while time.monotonic() < end and service.poll() is None:
        try:
            with urllib.request.urlopen(f"{url}/readyz", timeout=5) as answer:
                if answer.status == 200:
                    return
        except (urllib.error.URLError, OSError):
            time.sleep(0.05)
    raise SystemExit("the service did not become ready")


def fill(url, secret):
    """Two colleagues in one organization: every read has something to show."""
    at = int(time.time() * 1000)
    organization = {
        "object": "organization", "id": ORGANIZATION, "name": "Analytical Engines", "slug": "engines", "created_by": USER,
        "public_metadata": {"workspaceId": "ws_api"}, "created_at": at, "updated_at": at,
    }
    deliver(url, secret, "organization.created", organization)
    for user, first_name in ((USER, "Ada"), (COLLEAGUE, "Ben")):
        person = {
            "object": "user", "id": user, "first_name": first_name, "last_name": "Lovelace", "email_addresses": [],
            "public_metadata": {"theme": "dark"}, "created_at": at, "updated_at": at,
        }
        deliver(url, secret, "user.created", person)
        membership = {
            "object": "organization_membership", "id": f"orgmem_{user}", "role": "org:admin",
            "permissions": ["org:docs:read"], "organization": organization, "public_user_data": {"user_id": user},
            "created_at": at, "updated_at": at,
        }
        deliver(url, secret, "organizationMembership.created", membership)
    # One that goes, so that there is a deletion.
    gone = organization | {"id": "org_api_gone", "public_metadata": {}}
    deliver(url, secret, "organization.created", gone)
    end = {"object": "organization", "id": "org_api_gone", "deleted": True, "updated_at": at}
    deliver(url, secret, "organization.deleted", end)


def deliver(url, secret, event_type, data):
    body = json.dumps({"object": "event", "type": event_type, "timestamp": data["updated_at"], "data": data}).encode()
    message, at = f"msg_{secrets.token_hex(8)}", str(int(time.time()))
    key = base64.b64decode(secret.removeprefix("whsec_"))
    digest = hmac.new(key, f"{message}.{at}.".encode() + body, hashlib.sha256).digest()
    headers = {
        "content-type": "application/json", "svix-id": message, "svix-timestamp": at,
        "svix-signature": "v1," + base64.b64encode(digest).decode(),
    }
    with urllib.request.urlopen(urllib.request.Request(f"{url}/webhooks/clerk", body, headers), timeout=15) as answer:
        outcome = json.load(answer)["outcome"]
    if outcome != "applied":
        raise SystemExit(f"{event_type} was {outcome}")


def token(key):
    """A session token of Clerk's version 2."""
    now = int(time.time())
    header = {"alg": "RS256", "typ": "JWT", "kid": "ins_api"}
    claims = {
        "iss": ISSUER, "sub": USER, "sid": "sess_api", "iat": now, "nbf": now - 10, "exp": now + TOKEN_LIFE_SECONDS, "v": 2,
        "sts": "active", "azp": "https://app.example.com", "o": {"id": ORGANIZATION, "rol": "admin", "slg": "engines"},
    }
    signed = b".".join(base64url(json.dumps(part).encode()) for part in (header, claims))
    signature = openssl("dgst", "-sha256", "-sign", str(key), given=signed)
    return (signed + b"." + base64url(signature)).decode()


def base64url(data):
    return base64.urlsafe_b64encode(data).rstrip(b"=")


def openssl(*arguments, given=None):
    return subprocess.run(["openssl", *arguments], input=given, capture_output=True, check=True).stdout


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


if __name__ == "__main__":
    sys.exit(main())
