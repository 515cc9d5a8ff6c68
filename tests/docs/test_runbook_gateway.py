"""What the runbook says of a gateway is what a real Envoy answers, logs and counts."""

from __future__ import annotations

import json
import re
import time
from contextlib import AbstractContextManager
from pathlib import Path
from secrets import token_hex
from typing import Any

import httpx2
import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from authsvc.net.development_certificates import write_development_certificates
from tests.support.bounds import TIMEOUT_SECONDS
from tests.support.envoy import envoy
from tests.support.envoy_files import (
    EXAMPLE,
    FOLDER,
    check_of,
    clusters_of,
    loaded,
    manager_of,
)
from tests.support.processes import ROOT, Process, spawn
from tests.support.tokens import NOBODYS_DIGEST

RUNBOOK = (ROOT / "docs/runbook.md").read_text(encoding="utf-8")
SECTION = RUNBOOK.partition("\n## Behind a gateway\n")[2].partition("\n## ")[0]
ROWS = {
    (int(status), details)
    for statuses, details in re.findall(r"^\| ([\d, ]+) \| `([\w.]+)` \|", SECTION, re.MULTILINE)
    for status in statuses.split(", ")
}

RESOURCE = "http://127.0.0.1:8080/mcp"
SECRET = token_hex(32)
LOG = "type.googleapis.com/envoy.extensions.access_loggers.file.v3.FileAccessLog"
TLS = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext"
PING = {"json": {"jsonrpc": "2.0", "id": 1, "method": "ping"}}

Table = dict[str, Any]


AUTHSVC = """
listen = "127.0.0.1:0"
resources = ["http://127.0.0.1:8080/mcp"]
[store]
kind = "memory"
[[issuers]]
issuer = "https://idp.example.com"
algorithms = ["HS256"]
secret_file = "secret"
[[issuers]]
issuer = "http://127.0.0.1:1"
algorithms = ["ES256"]
jwks_url = "http://127.0.0.1:1/keys"
[assertions]
issuer = "https://authsvc.example.com"
listen = "127.0.0.1:0"
[ext_authz]
"""


class Gateway:
    """The example's Envoy with the deployed access log, where the server is unavailable.

    Args:
        folder: for its files.
        authsvc: the port of authsvc; 1 for none.
    """

    def __init__(self, folder: Path, authsvc: int = 1) -> None:
        self._folder = folder
        self._log, self._admin = folder / "access.log", folder / "admin"
        self.made: Table = loaded(EXAMPLE)
        self.made["admin"] = {"address": {"pipe": {"path": str(self._admin)}}}
        for cluster in self.made["static_resources"]["clusters"]:
            (endpoint,) = cluster["load_assignment"]["endpoints"][0]["lb_endpoints"]
            port = authsvc if cluster["name"] == "authsvc" else 1
            endpoint["endpoint"]["address"]["socket_address"]["port_value"] = port
        (self.host,) = self.manager["route_config"]["virtual_hosts"]
        self.host["domains"] = ["mcp.example.com"]
        deployed = manager_of(loaded(FOLDER / "envoy.yaml"))
        self.manager["local_reply_config"] = deployed["local_reply_config"]
        (log,) = deployed["access_log"]
        file = {**log["typed_config"], "@type": LOG, "path": str(self._log)}
        self.manager["access_log"] = [{"name": "file", "typed_config": file}]
        self.counted = ""
        self.logged: list[Table] = []
        self.responses: list[httpx2.Response] = []

    @property
    def manager(self) -> Table:
        """Its HttpConnectionManager."""
        return manager_of(self.made)

    @property
    def check(self) -> Table:
        """Its ExtAuthz."""
        return check_of(self.made)

    def answers(self, *requests: Table) -> list[tuple[int, str]]:
        """The status and the details of the answer to each POST, in order."""
        with envoy(self.made, self._folder) as listening:
            with _client(listening) as http:
                self.responses = [http.post(**{"url": "/mcp", **it}) for it in requests]
            with _client(self._admin) as http:
                self.counted = http.get("/stats/prometheus?filter=ext_authz").text
                self.counted += http.get("/clusters").text
        # It has ended, and written its log to the end.
        self.logged = list(map(json.loads, self._log.read_text().splitlines()))
        statuses = [it.status_code for it in self.responses]
        assert [int(it["status"]) for it in self.logged] == statuses
        return [(int(it["status"]), it["details"].partition("{")[0]) for it in self.logged]


def _client(path: Path) -> httpx2.Client:
    transport = httpx2.HTTPTransport(uds=str(path))
    return httpx2.Client(
        base_url="http://mcp.example.com", transport=transport, timeout=TIMEOUT_SECONDS
    )


UNSERVED = (503, "upstream_reset_before_response_started")
"""What has come as far as the server, which is not there."""


@pytest.fixture
def gateway(tmp_path: Path) -> Gateway:
    return Gateway(tmp_path)


def test_what_a_gateway_answers_by_itself(gateway: Gateway) -> None:
    too_long = b"x" * (gateway.check["with_request_body"]["max_request_bytes"] + 1)
    found = gateway.answers(
        PING, {"content": too_long}, {**PING, "headers": {"mcp_id": "1"}}, {**PING, "url": "/other"}
    )
    assert found == [
        (503, "ext_authz_error"),
        (413, "request_payload_too_large"),
        (400, "http1.unexpected_underscore"),
        (404, "route_not_found"),
    ]
    assert set(found) <= ROWS
    # Those that a client of MCP gets for its calls are JSON-RPC.
    unavailable, too_large, *_ = gateway.responses
    for answer in (unavailable, too_large):
        assert answer.headers["content-type"] == "application/json"
        error = answer.json()["error"]
        assert answer.json() == {"jsonrpc": "2.0", "id": None, "error": error}
        assert (error["code"], bool(error["message"])) == (answer.status_code, True)
    assert unavailable.headers["retry-after"] == "1"
    assert 'envoy_http_ext_authz_error{envoy_ext_authz_prefix="authsvc"' in gateway.counted
    for counter in re.findall(r"\^authsvc::\.\*(\w+)", SECTION):
        assert re.search(rf"^authsvc::.*{counter}", gateway.counted, re.MULTILINE), counter


def test_without_a_status_of_its_own_an_error_is_403(gateway: Gateway) -> None:
    del gateway.check["status_on_error"]
    (found,) = gateway.answers(PING)
    assert found == (403, "ext_authz_error")
    assert found in ROWS


def test_an_open_gateway_counts_what_has_passed(gateway: Gateway) -> None:
    gateway.check["failure_mode_allow"] = True
    assert gateway.answers(PING) == [UNSERVED]
    assert {gateway.logged[0]["rpc"], gateway.logged[0]["outcome"]} == {None}
    assert re.search(
        r"^envoy_http_ext_authz_failure_mode_allowed\{.*\} 1$", gateway.counted, re.MULTILINE
    )


def call(**headers: str) -> Table:
    params = {"name": "whoami"}
    return {
        "json": {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params},
        "headers": headers,
    }


def bearer(issuer: str, algorithm: str, key: Any) -> str:  # noqa: ANN401 - as PyJWT takes it
    audience, now = "http://127.0.0.1:8080/mcp", time.time()
    claims = {"iss": issuer, "sub": "ada", "aud": audience, "iat": now, "exp": now + 600}
    return f"Bearer {jwt.encode(claims, key, algorithm=algorithm, headers={'kid': 'a'})}"


def serving(folder: Path, configuration: str = AUTHSVC) -> AbstractContextManager[Process]:
    (folder / "secret").write_text(SECRET)
    (folder / "secret").chmod(0o600)
    (folder / "authsvc.toml").write_text(configuration)
    return spawn("authsvc", "serve", "--config", "authsvc.toml", cwd=folder)


def port_of(authsvc: Process) -> int:
    address = authsvc.wait_for("listening on 127", TIMEOUT_SECONDS)["address"]
    return int(str(address).rpartition(":")[2])


def test_what_authsvc_has_decided(tmp_path: Path) -> None:
    unknown = bearer("http://127.0.0.1:1", "ES256", ec.generate_private_key(ec.SECP256R1()))
    known = bearer("https://idp.example.com", "HS256", SECRET.encode())
    with serving(tmp_path) as authsvc:
        gateway = Gateway(tmp_path, port_of(authsvc))
        found = gateway.answers(
            call(),
            call(Authorization="Bearer x"),
            call(Authorization=unknown),
            call(Authorization=known),
            PING,
        )
        assert found == [
            (401, "ext_authz_denied"),
            (401, "ext_authz_denied"),
            (503, "ext_authz_denied"),
            UNSERVED,
            UNSERVED,
        ]
        assert set(found) - {UNSERVED} <= ROWS
        assert [it["reason"] for it in gateway.logged] == [
            *(None, "TOKEN_MALFORMED", "KEYS_UNAVAILABLE"),
            *(None, None),
        ]
        # What authsvc has answered stays as it is.
        denied = gateway.responses[2]
        assert denied.json()["error"]["data"] == {"reason": "KEYS_UNAVAILABLE"}
        assert denied.headers.get_list("retry-after") == ["1"]
        # What was checked can be told from what was not.
        assert [it["rpc"] for it in gateway.logged] == [*["tools/call"] * 4, "ping"]
        assert [it["outcome"] for it in gateway.logged[3:]] == ["created", "anonymous"]


def test_a_resource_that_authsvc_does_not_know(tmp_path: Path) -> None:
    with serving(tmp_path) as authsvc:
        gateway = Gateway(tmp_path, port_of(authsvc))
        (override,) = gateway.host["typed_per_filter_config"].values()
        override["check_settings"]["context_extensions"]["resource"] = "https://unknown.example"
        (found,) = gateway.answers(PING)
        assert found == (403, "ext_authz_denied")
        assert found in ROWS
        assert gateway.logged[0]["reason"] == "CALLER_NOT_ALLOWED"
        event = authsvc.wait_for("a caller was denied", TIMEOUT_SECONDS)
        assert event["resource"] == "https://unknown.example"


def test_a_gateway_that_authsvc_does_not_know(tmp_path: Path) -> None:
    write_development_certificates(tmp_path, client_name="spiffe://dev/none")
    tls = '[tls]\ncertificate_file = "server.pem"\nkey_file = "server.key"\n'
    registered = f'[[callers]]\nname = "other"\nresources = ["{RESOURCE}"]\n'
    registered += f'service_token_sha256 = ["{NOBODYS_DIGEST}"]\n'
    changed = AUTHSVC.replace(f'resources = ["{RESOURCE}"]', "") + tls + registered
    with serving(tmp_path, changed) as authsvc:
        gateway = Gateway(tmp_path, port_of(authsvc))
        authority = {"trusted_ca": {"filename": str(tmp_path / "ca.pem")}}
        config = {"@type": TLS, "common_tls_context": {"validation_context": authority}}
        socket = {"name": "envoy.transport_sockets.tls", "typed_config": config}
        clusters_of(gateway.made)["authsvc"]["transport_socket"] = socket
        (found,) = gateway.answers(PING)
        assert found == (503, "ext_authz_error")
        assert found in ROWS
        assert authsvc.wait_for("a caller was denied", TIMEOUT_SECONDS)["event_type"] == (
            "CALLER_DENIED"
        )


def test_the_alerts_are_about_counters_that_there_are(gateway: Gateway) -> None:
    gateway.answers(PING)
    alerts = (ROOT / "deploy/monitoring/alerts.yaml").read_text(encoding="utf-8")
    named = set(re.findall(r"envoy_\w+", alerts))
    assert len(named) == 4
    assert named <= set(re.findall(r"^(envoy_\w+)\{", gateway.counted, re.MULTILINE))
