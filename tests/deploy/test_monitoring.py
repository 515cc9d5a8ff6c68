"""Dashboard, alerts and page name what the running programs really expose."""

from __future__ import annotations

import asyncio
import json
import re
import secrets
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx2
import pytest
import yaml  # type: ignore[import-untyped] # it has no stubs
from prometheus_client.parser import text_string_to_metric_families

from authsvc.console.config import AuthsvcSettings, ConsoleSettings, MetricsSettings
from authsvc.console.server import running as console_running
from authsvc.console.telemetry import ConsoleMetrics
from authsvc.net.certificate_files import CertificateFiles
from tests.support.bounds import TIMEOUT_SECONDS
from tests.support.operators import write_tls
from tests.support.processes import ROOT, Process
from tests.support.stack import LOCAL_CALLER, RESOURCE, ROLES, start_adapter, start_authsvc
from tests.support.tokens import IdentityProvider
from tests.support.valkey import free_port

MONITORING = ROOT / "deploy" / "monitoring"
METRICS = '[metrics]\nlisten = "127.0.0.1:0"\n'
BOUND_SECONDS = TIMEOUT_SECONDS
OWN = re.compile(r"\b(?:authsvc|mcp_adapter)_\w+")
BEGIN_LATER = {"mcp_adapter_requests_total"}
"""Counters whose series begin with what they count: alerts go by a share of them, for minutes."""
SCRAPED_BY_PROMETHEUS = {"instance", "job", "le"}

PROGRAMS = ("authsvc", "adapter", "console")

Labels = dict[str, set[str]]


@pytest.fixture(scope="module")
def exposed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """What each program exposes, after a few requests of every kind."""
    folder = tmp_path_factory.mktemp("monitored")
    idp = IdentityProvider(time.time)
    idp.write_secret(folder)
    for role in ROLES:
        (folder / f"{role}.key").write_text(f"secret-of-{role}")
    with ExitStack() as running:
        encryption_key = folder / "encryption.key"
        encryption_key.write_text(secrets.token_hex(32))
        encryption_key.chmod(0o600)
        assertions = f"""
[assertions]
issuer = "https://authsvc.example"
listen = "127.0.0.1:0"
encryption_key_file = "{encryption_key}"
"""
        (folder / "poll").write_text("Bearer secret")
        # Nobody answers the polls.
        signals = f"""
[signals]
listen = "127.0.0.1:0"
[[signals.streams]]
issuer = "{idp.issuer}"
audiences = ["client"]
poll_url = "http://127.0.0.1:9/poll"
poll_authorization_file = "{folder}/poll"
"""
        authsvc, address = start_authsvc(
            folder,
            running,
            callers=f'{LOCAL_CALLER}\naudit_file = "{folder}/events.jsonl"',
            tables=METRICS + assertions + signals,
        )
        fresh = scrape(authsvc)
        signalled(authsvc, idp)
        # Nothing listens there: no tool of this test gets as far.
        adapter, url = start_adapter(
            folder, running, authsvc=address, s3="http://127.0.0.1:9", tls=METRICS
        )
        fresh += scrape(adapter)
        session = initialize(url)
        token = idp.token(claims={"aud": RESOURCE})
        for method, params, presented in (
            ("tools/list", {}, token),
            ("tools/list", {}, token),
            ("tools/call", {"name": "no-such-tool", "arguments": {}}, token),
            ("tools/call", {"name": ["unhashable"]}, token),
            ("tools/call", {"name": "discover_buckets"}, "no-token"),
            ("no/such/method", {}, token),
        ):
            post(url, method, params, session=session, token=presented)
        yield {
            "authsvc": scrape(authsvc),
            "adapter": scrape(adapter),
            "console": asyncio.run(console_scrape(folder)),
            "fresh": fresh,
            "token": token,
            "session": session,
        }


def signalled(authsvc: Process, idp: IdentityProvider) -> None:
    """Have somebody sign out."""
    address = authsvc.wait_for("receiving signals at", BOUND_SECONDS)["address"]
    events: dict[str, object] = {"http://schemas.openid.net/event/backchannel-logout": {}}
    claims = {"aud": "client", "jti": "1", "sub": "nobody", "events": events}
    answer = httpx2.post(
        f"http://{address}/signals/logout",
        data={"logout_token": idp.token(claims=claims)},
        timeout=BOUND_SECONDS,
    )
    assert answer.status_code == 200


def post(
    url: str, method: str, params: dict[str, Any], *, session: str = "", token: str = ""
) -> httpx2.Response:
    headers = {
        "Accept": "application/json, text/event-stream",
        "MCP-Protocol-Version": "2025-11-25",
        **({"Mcp-Session-Id": session} if session else {}),
        **({"Authorization": f"Bearer {token}"} if token else {}),
    }
    body = {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}
    return httpx2.post(f"{url}/mcp", json=body, headers=headers, timeout=BOUND_SECONDS)


def initialize(url: str) -> str:
    client = {"name": "test", "version": "1"}
    params = {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": client}
    return post(url, "initialize", params).headers["mcp-session-id"]


def scrape(process: Process) -> str:
    address = process.wait_for("metrics at", BOUND_SECONDS)["address"]
    return httpx2.get(f"http://{address}/metrics", timeout=BOUND_SECONDS).text


async def console_scrape(folder: Path) -> str:
    """What a console exposes after a request. There is no authsvc."""
    (operators := folder / "operators").touch()
    port = free_port()
    tls = write_tls(folder / "console")
    settings = ConsoleSettings(
        listen="127.0.0.1:0",
        operators_file=operators,
        authsvc=AuthsvcSettings(
            target="127.0.0.1:9", ca_file=tls / "ca.pem", service_token_file=tls / "operator"
        ),
        metrics=MetricsSettings(listen=f"127.0.0.1:{port}"),
    )
    certificates = CertificateFiles({"authsvc.ca_file": settings.authsvc.ca_file})
    async with (
        console_running(settings, ConsoleMetrics(certificates.validities)) as url,
        httpx2.AsyncClient(timeout=BOUND_SECONDS) as client,
    ):
        assert (await client.get(f"{url}/sign-in")).status_code == 200
        return (await client.get(f"http://127.0.0.1:{port}/metrics")).text


def labels_of(*texts: str) -> Labels:
    """By sample name, the labels that its samples have; families without samples have none."""
    found: Labels = defaultdict(set)
    for text in texts:
        for line in text.splitlines():
            if line.startswith("# TYPE "):
                found[line.split()[2]] |= set()
        for family in text_string_to_metric_families(text):
            for sample in family.samples:
                found[sample.name] |= set(sample.labels)
    return found


def documented() -> Labels:
    """By metric, the labels that the page says it has."""
    page = (ROOT / "docs" / "observability.md").read_text(encoding="utf-8")
    rows = (line.split("|") for line in page.splitlines() if line.startswith("| `"))
    return {
        row[1].strip(" `"): set(re.findall(r"`(\w+)`", row[2]))
        for row in rows
        if OWN.search(row[1])
    }


def alerts() -> list[str]:
    groups = yaml.safe_load((MONITORING / "alerts.yaml").read_text())["groups"]
    return [rule["expr"] for group in groups for rule in group["rules"]]


def expressions() -> list[str]:
    dashboard = json.loads((MONITORING / "dashboard.json").read_text())
    return [
        *(target["expr"] for panel in dashboard["panels"] for target in panel["targets"]),
        *alerts(),
    ]


def base(name: str) -> str:
    """The family of a sample of a histogram."""
    return re.sub(r"_(bucket|count|sum)$", "", name)


def test_the_page_is_right(exposed: dict[str, str]) -> None:
    told = documented()
    samples = labels_of(*(exposed[program] for program in PROGRAMS))
    own = {name: labels - {"le"} for name, labels in samples.items() if OWN.match(name)}
    families = {base(name): labels for name, labels in own.items() if labels}
    assert {base(name) for name in own} <= {*told}
    assert {*told} <= {base(name) for name in own}
    assert {name: told[name] for name in families} == families


@pytest.mark.parametrize("expression", expressions())
def test_dashboard_and_alerts_name_what_there_is(expression: str, exposed: dict[str, str]) -> None:
    told = documented()
    there = labels_of(*(exposed[program] for program in PROGRAMS))
    names = set(OWN.findall(expression))
    assert {name for name in names if name not in there and base(name) not in there} == set()
    allowed = SCRAPED_BY_PROMETHEUS.union(*(told[base(name)] for name in names))
    matched = {
        name
        for part in re.findall(r"\{([^}]*)\}", expression)
        for name in re.findall(r"(\w+)\s*(?:=~|!=|!~|=)", part)
    }
    grouped = {
        name.strip()
        for part in re.findall(r"by \(([^)]*)\)", expression)
        for name in part.split(",")
    }
    assert (matched | grouped) - allowed == set()


INCREASES = sorted(
    {it for text in alerts() for it in re.findall(r"increase\((\w+)(?:\{(.*?)\})?\[", text)}
)


@pytest.mark.parametrize(("name", "matchers"), INCREASES)
def test_what_increases_begins_at_0(name: str, matchers: str, exposed: dict[str, str]) -> None:
    """``increase`` does not show how a series begins: the first event would be no alert."""
    if name in BEGIN_LATER or not OWN.match(name):
        return
    wanted = re.findall(r'(\w+)(=~|!=|!~|=)"(.*?)"', matchers)
    matching = [
        sample
        for family in text_string_to_metric_families(exposed["fresh"])
        for sample in family.samples
        if sample.name == name
        and all(
            bool(re.fullmatch(value if "~" in how else re.escape(value), sample.labels[label]))
            is not ("!" in how)
            for label, how, value in wanted
        )
    ]
    assert matching


def test_the_adapter_counts_what_it_was_asked(exposed: dict[str, str]) -> None:
    counts = {
        (sample.name, *sorted(sample.labels.values())): sample.value
        for family in text_string_to_metric_families(exposed["adapter"])
        for sample in family.samples
    }
    requests = "mcp_adapter_requests_total"
    assert counts[requests, "200", "initialize", "sessions"] == 1
    assert counts[requests, "200", "sessions", "tools/list"] == 2
    assert counts[requests, "401", "sessions", "tools/call"] == 1
    assert counts["mcp_adapter_tool_calls_total", "401", "discover_buckets"] == 1
    assert sum(count for key, count in counts.items() if "unknown" in key) == 2
    assert any("other" in key for key in counts if key[0] == requests)
    assert "no/such" not in exposed["adapter"]
    assert "no-such-tool" not in exposed["adapter"]
    assert counts["mcp_adapter_authsvc_failures_total", "TOKEN_MALFORMED", "resolve"] == 1


def test_nothing_secret_is_exposed(exposed: dict[str, str]) -> None:
    text = exposed["authsvc"] + exposed["adapter"]
    for hidden in (exposed["token"], exposed["session"], exposed["session"][:8], "alice"):
        assert hidden not in text


def test_panels_are_named_and_do_not_overlap() -> None:
    panels = json.loads((MONITORING / "dashboard.json").read_text())["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    assert len({panel["title"] for panel in panels}) == len(panels)
    cells = [
        (x, y)
        for panel in panels
        for place in [panel["gridPos"]]
        for x in range(place["x"], place["x"] + place["w"])
        for y in range(place["y"], place["y"] + place["h"])
    ]
    assert len({*cells}) == len(cells)
    assert max(x for x, _ in cells) < 24


def test_what_issues_a_page_is_shown() -> None:
    """Each metric of ours that an alert goes by, but for ``up``, is in a panel."""
    dashboard = (MONITORING / "dashboard.json").read_text()
    alerts = yaml.safe_load((MONITORING / "alerts.yaml").read_text())
    pages = {
        name
        for group in alerts["groups"]
        for rule in group["rules"]
        if rule["labels"]["severity"] == "page"
        for name in OWN.findall(rule["expr"])
    }
    assert {name for name in pages if name not in dashboard} == set()


def test_a_user_who_is_limited_pages_nobody() -> None:
    alerts = yaml.safe_load((MONITORING / "alerts.yaml").read_text())
    rules = {rule["alert"]: rule for group in alerts["groups"] for rule in group["rules"]}
    assert 'reason!="RATE_LIMITED"' in rules["AuthsvcLimitReached"]["expr"]
    limited = [it for it in rules.values() if "authsvc_rate_limited_total" in it["expr"]]
    assert [it["labels"]["severity"] for it in limited] == ["ticket"]


def test_alerts_say_what_to_do() -> None:
    alerts = yaml.safe_load((MONITORING / "alerts.yaml").read_text())
    rules = [rule for group in alerts["groups"] for rule in group["rules"]]
    assert len({rule["alert"] for rule in rules}) == len(rules) > 10
    for rule in rules:
        assert rule["labels"]["severity"] in {"page", "ticket"}
        assert rule["annotations"]["runbook"]  # tests/docs/test_runbook.py looks at the entry
        assert rule["annotations"]["summary"]
