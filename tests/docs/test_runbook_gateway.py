"""What the runbook says of a gateway is what a real Envoy answers, logs and counts."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import httpx2
import pytest
import yaml  # type: ignore[import-untyped] # it has no stubs

from tests.support.bounds import TIMEOUT_SECONDS
from tests.support.envoy import envoy
from tests.support.processes import ROOT

RUNBOOK = (ROOT / "docs/runbook.md").read_text(encoding="utf-8")
SECTION = RUNBOOK.partition("\n## Behind a gateway\n")[2].partition("\n## ")[0]
ROWS = {
    (int(status), details)
    for statuses, details in re.findall(r"^\| ([\d, ]+) \| `([\w.]+)` \|", SECTION, re.MULTILINE)
    for status in statuses.split(", ")
}

LOG = "type.googleapis.com/envoy.extensions.access_loggers.file.v3.FileAccessLog"
PING = {"json": {"jsonrpc": "2.0", "id": 1, "method": "ping"}}

Table = dict[str, Any]


class Gateway:
    """The example's Envoy, where authsvc and the server are unavailable.

    Args:
        folder: for its files.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._log, self._admin = folder / "access.log", folder / "admin"
        self.made: Table = yaml.safe_load((ROOT / "examples/behind_envoy/envoy.yaml").read_text())
        self.made["admin"] = {"address": {"pipe": {"path": str(self._admin)}}}
        for cluster in self.made["static_resources"]["clusters"]:
            (endpoint,) = cluster["load_assignment"]["endpoints"][0]["lb_endpoints"]
            endpoint["endpoint"]["address"]["socket_address"]["port_value"] = 1
        (self.host,) = self.manager["route_config"]["virtual_hosts"]
        self.host["domains"] = ["mcp.example.com"]
        line = {"details": "%RESPONSE_CODE_DETAILS%"}
        file = {"@type": LOG, "path": str(self._log), "log_format": {"json_format": line}}
        self.manager["access_log"] = [{"name": "file", "typed_config": file}]
        self.counted = ""

    @property
    def manager(self) -> Table:
        """Its HttpConnectionManager."""
        (listener,) = self.made["static_resources"]["listeners"]
        found: Table = listener["filter_chains"][0]["filters"][0]["typed_config"]
        return found

    @property
    def check(self) -> Table:
        """Its ExtAuthz."""
        found: Table = self.manager["http_filters"][0]["typed_config"]
        return found

    def answers(self, *requests: Table) -> list[tuple[int, str]]:
        """The status and the details of the answer to each POST, in order."""
        with envoy(self.made, self._folder) as listening:
            with _client(listening) as http:
                statuses = [
                    http.post(**{"url": "/mcp", **request}).status_code for request in requests
                ]
            with _client(self._admin) as http:
                self.counted = http.get("/stats/prometheus?filter=ext_authz").text
                self.counted += http.get("/clusters").text
        # It has ended, and written its log to the end.
        lines = map(json.loads, self._log.read_text().splitlines())
        return list(zip(statuses, (it["details"] for it in lines), strict=True))


def _client(path: Path) -> httpx2.Client:
    transport = httpx2.HTTPTransport(uds=str(path))
    return httpx2.Client(
        base_url="http://mcp.example.com", transport=transport, timeout=TIMEOUT_SECONDS
    )


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
    ((status, details),) = gateway.answers(PING)
    # It has come as far as the server, which is not there.
    assert (status, details.partition("{")[0]) == (503, "upstream_reset_before_response_started")
    assert re.search(
        r"^envoy_http_ext_authz_failure_mode_allowed\{.*\} 1$", gateway.counted, re.MULTILINE
    )


def test_the_alerts_are_about_counters_that_there_are(gateway: Gateway) -> None:
    gateway.answers(PING)
    alerts = (ROOT / "deploy/monitoring/alerts.yaml").read_text(encoding="utf-8")
    named = set(re.findall(r"envoy_\w+", alerts))
    assert len(named) == 2
    assert named <= set(re.findall(r"^(envoy_\w+)\{", gateway.counted, re.MULTILINE))
