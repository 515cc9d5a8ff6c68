"""What all of the clients meet: authsvc, the adapter, S3 and an authorization server, for real."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from demo.s3 import serving_s3
from tests.support.bounds import TIMEOUT_SECONDS
from tests.support.node import installed, spawn_node
from tests.support.processes import Process, spawn
from tests.support.stack import ROLES, START_SECONDS
from tests.support.tokens import IdentityProvider
from tests.support.valkey import free_port

DEADLINE_SECONDS = TIMEOUT_SECONDS
MODERN = "2026-07-28"
BUCKETS = [f"shelf-{number:02}" for number in range(32)]
OF_ANALYST = BUCKETS[:3]
KEYS = ["data/0.txt", "data/1.txt"]
SCOPES = ("buckets.read", "objects.read")
PERMISSIONS = ["s3:ListBucket", "s3:GetObject"]

APP_ORIGIN = "http://app.localhost:*"
"""Origin of pages that the adapter lets in, besides its own."""


@dataclass(frozen=True)
class Stack:
    """What runs.

    Attributes:
        url: the MCP endpoint, and the audience of its tokens.
        idp: an issuer whose tokens a test makes itself.
        authorization_server: an issuer whose tokens are had by its flow.
        authsvc: the process, for its log.
        adapter_config: of the MCP endpoint.
    """

    url: str
    idp: IdentityProvider
    authorization_server: str
    authsvc: Process
    adapter_config: Path

    def token(self, role: str = "reader", **claims: object) -> str:
        """A token of alice as ``role``; the analyst's is the later one."""
        is_analyst = role == "analyst"
        return self.idp.token(
            claims={
                "aud": self.url,
                "roles": [role],
                "buckets": OF_ANALYST if is_analyst else BUCKETS,
                "iat": time.time() + is_analyst,
                **claims,
            }
        )


@contextmanager
def running_stack(folder: Path) -> Iterator[Stack]:
    """All of it, on loopback, with its files in ``folder``."""
    installed("oidc-provider")
    idp = IdentityProvider(time.time)
    idp.write_secret(folder)
    resource = f"http://127.0.0.1:{free_port()}/mcp"
    claims = {
        "reader": {"buckets": BUCKETS, "permissions": PERMISSIONS},
        "analyst": {"buckets": OF_ANALYST, "permissions": PERMISSIONS},
    }
    with ExitStack() as running:
        s3 = running.enter_context(
            serving_s3({bucket: dict.fromkeys(KEYS, b"text") for bucket in BUCKETS})
        )
        options = {"resources": {resource: "jwt"}, "claims": claims}
        server = running.enter_context(spawn_node("authorization_server.mjs", json.dumps(options)))
        issuer = str(server.wait_for("listening on", START_SECONDS)["address"])
        config = _authsvc_config(folder, resource, (idp.issuer, issuer))
        authsvc = running.enter_context(spawn("authsvc", "serve", "--config", str(config)))
        address = str(authsvc.wait_for("listening on", START_SECONDS)["address"])
        config = _adapter_config(folder, resource, issuer, authsvc=address, s3=s3)
        adapter = running.enter_context(spawn("mcp_adapter", "serve", "--config", str(config)))
        adapter.wait_for("listening on", START_SECONDS)
        yield Stack(resource, idp, issuer, authsvc, config)


def _authsvc_config(folder: Path, resource: str, issuers: tuple[str, str]) -> Path:
    made_here, discovered = issuers
    for role in ROLES:
        (folder / f"{role}.key").write_text(f"secret-of-{role}")
    credentials = "".join(
        f"""
[[credentials.static]]
role = "{role}"
access_key_id = "AKIA{role.upper()}"
secret_access_key_file = "{folder}/{role}.key"
"""
        for role in ROLES
    )
    path = folder / "authsvc.toml"
    path.write_text(
        f"""
listen = "unix:{folder}/authsvc.sock"
resources = ["{resource}"]
log_level = "debug"
drain_seconds = 0
[store]
path = "{folder}/authsvc.db"
[[issuers]]
issuer = "{made_here}"
algorithms = ["HS256"]
secret_file = "{folder}/secret"
[[issuers]]
issuer = "{discovered}"
algorithms = ["ES256"]
discover = true
{credentials}
"""
    )
    return path


def _adapter_config(folder: Path, resource: str, issuer: str, *, authsvc: str, s3: str) -> Path:
    path = folder / "adapter.toml"
    path.write_text(
        f"""
listen = "{resource.removeprefix("http://").removesuffix("/mcp")}"
resource = "{resource}"
authorization_servers = ["{issuer}"]
allowed_origins = ["{APP_ORIGIN}"]
[authsvc]
target = "{authsvc}"
deadline_seconds = 60
[s3]
endpoint_url = "{s3}"
region = "us-east-1"
"""
    )
    return path
