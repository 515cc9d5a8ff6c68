"""``authsvc doctor --envoy``: each fault of a gateway, in a file and in a real Envoy's dump."""

from __future__ import annotations

import copy
import json
import socket
from collections.abc import Callable, Iterator, Sequence
from hashlib import sha256
from pathlib import Path
from secrets import token_hex
from typing import Any

import httpx2
import pytest
import yaml  # type: ignore[import-untyped] # it has no stubs
from click.testing import CliRunner

from authsvc.cli import main
from authsvc.diagnosis import Finding, Level, diagnose
from authsvc.diagnosis.envoy import check, reading
from authsvc.diagnosis.envoy.filters import MAX_BODY_BYTES
from authsvc.server.config import Settings
from mcp_adapter.gate.middleware import DEFAULT_MAX_BODY_BYTES
from tests.support.bounds import TIMEOUT_SECONDS
from tests.support.commands import PATIENT, run
from tests.support.envoy import envoy
from tests.support.envoy_files import EXAMPLE, FOLDER, installed
from tests.support.http import Answer, serving_http
from tests.support.python_site import begin_processes_without
from tests.support.snippets import blocks_of
from tests.support.tokens import ISSUER, NOBODYS_DIGEST

pytestmark = pytest.mark.anyio

DEPLOYED = FOLDER / "envoy.yaml"
KEYS = f"{ISSUER}/keys"
RESOURCE = "http://127.0.0.1:8080/mcp"
EXT_AUTHZ = "envoy.filters.http.ext_authz"
TYPES = "type.googleapis.com/envoy"
PER_ROUTE = f"{TYPES}.extensions.filters.http.ext_authz.v3.ExtAuthzPerRoute"
FILTER_CONFIG = f"{TYPES}.config.route.v3.FilterConfig"
DISABLED = {EXT_AUTHZ: {"@type": PER_ROUTE, "disabled": True}}

Table = dict[str, Any]
Change = Callable[[Table], None]
"""Changes a connection manager."""


def authz(manager: Table) -> Table:
    found: Table = manager["http_filters"][0]["typed_config"]
    return found


def host(manager: Table) -> Table:
    found: Table = manager["route_config"]["virtual_hosts"][0]
    return found


def route(manager: Table) -> Table:
    """The route of the MCP endpoint."""
    found: Table = host(manager)["routes"][0]
    return found


def filtered(**fields: object) -> Change:
    return lambda manager: authz(manager).update(fields)


def without_field(name: str) -> Change:
    return lambda manager: authz(manager).pop(name)


def body(**fields: object) -> Change:
    return lambda manager: authz(manager)["with_request_body"].update(fields)


def overridden(where: Callable[[Table], Table], **config: object) -> Change:
    return lambda manager: where(manager).update(typed_per_filter_config={EXT_AUTHZ: config})


def inserted(**fields: object) -> Change:
    """A route before all others, to the server, that is not checked."""
    one = {
        "route": {"cluster": "mcp_server"},
        "typed_per_filter_config": DISABLED,
        "request_headers_to_remove": ["X-Authsvc-Assertion", "x-authsvc-credentials"],
        **fields,
    }
    return lambda manager: host(manager)["routes"].insert(0, one)


def checked(**settings: object) -> Change:
    return overridden(route, **{"@type": PER_ROUTE, "check_settings": settings})


def timed(manager_wide: str = "", **action: object) -> Change:
    """Without max_stream_duration on the route."""

    def change(manager: Table) -> None:
        del route(manager)["route"]["max_stream_duration"]
        route(manager)["route"].update(action)
        if manager_wide:
            manager["common_http_protocol_options"]["max_stream_duration"] = manager_wide

    return change


def underscores(action: str | None) -> Change:
    return lambda manager: (
        manager["common_http_protocol_options"].update(
            {"headers_with_underscores_action": action} if action else {}
        )
        or (None if action else manager["common_http_protocol_options"].clear())
    )


def weighted(manager: Table) -> None:
    action = route(manager)["route"]
    cluster = action.pop("cluster")
    unchecked = {"name": cluster, "weight": 1, "typed_per_filter_config": DISABLED}
    action["weighted_clusters"] = {"clusters": [{"name": cluster, "weight": 9}, unchecked]}


def disabled_filter(manager: Table) -> None:
    manager["http_filters"][0]["disabled"] = True
    del host(manager)["typed_per_filter_config"]


def enabled(manager: Table) -> None:
    """Above all routes."""
    settings = {"context_extensions": {"resource": RESOURCE}}
    config = {"@type": PER_ROUTE, "check_settings": settings}
    enabling = {EXT_AUTHZ: {"@type": FILTER_CONFIG, "config": config}}
    manager["route_config"]["typed_per_filter_config"] = enabling


def misnamed(manager: Table) -> None:
    route(manager)["typed_per_filter_config"] = {"ext_authz": DISABLED[EXT_AUTHZ]}


def http_service(manager: Table) -> None:
    del authz(manager)["grpc_service"]
    uri = {"uri": "http://opa:1", "cluster": "authsvc", "timeout": "1s"}
    authz(manager)["http_service"] = {"server_uri": uri}


def no_filter(manager: Table) -> None:
    del manager["http_filters"][0]
    del host(manager)["typed_per_filter_config"]


def at_once(*changes: Change) -> Change:
    def change(manager: Table) -> None:
        for one in changes:
            one(manager)

    return change


PARTLY = {"default_value": {"numerator": 999_999, "denominator": "MILLION"}}
WHOLLY = {"default_value": {"numerator": 100}}
ON = {"default_value": True, "runtime_key": "deny"}
BY_METADATA = {"path": [{"key": "x"}], "value": {"present_match": True}}
CONDITION = [{"name": "x-internal", "present_match": True}]
FEW = {"patterns": [{"exact": "Authorization", "ignore_case": True}, {"prefix": "mcp-"}]}
ALL = {"patterns": [{"safe_regex": {"regex": ".*"}}]}
UNCHECKED = f"requests for {RESOURCE} pass unchecked"
FORWARDED = "not checked, and the server gets x-authsvc-assertion and x-authsvc-credentials"

CASES: dict[str, tuple[Change, list[tuple[str, str]]]] = {
    "clean": (lambda _: None, []),
    # What happens without authsvc.
    "open": (filtered(failure_mode_allow=True), [("fail", "failure_mode_allow is true")]),
    "no_status": (without_field("status_on_error"), [("warn", "status_on_error is not 503")]),
    "other_status": (
        filtered(status_on_error={"code": "BadGateway"}),
        [("warn", "status_on_error is not 503")],
    ),
    # Requests that the filter does not run for.
    "partly": (filtered(filter_enabled=PARTLY), [("fail", "filter_enabled is below 100 %")]),
    "wholly": (filtered(filter_enabled=WHOLLY), []),
    "denied": (filtered(filter_enabled=PARTLY, deny_at_disable=ON), []),
    "by_metadata": (
        filtered(filter_enabled_metadata={"filter": "mine", **BY_METADATA}),
        [("warn", "filter_enabled_metadata")],
    ),
    "istio": (
        filtered(filter_enabled_metadata={"filter": "envoy.filters.http.rbac", **BY_METADATA}),
        [("ok", "AuthorizationPolicy")],
    ),
    "http_service": (http_service, [("warn", "it calls an HTTP service")]),
    # Bodies.
    "no_body": (without_field("with_request_body"), [("warn", "does not see the method")]),
    "short_body": (
        body(max_request_bytes=8192),
        [("warn", "max_request_bytes is 8192: JSON-RPC messages that are longer are answered 413")],
    ),
    "partial": (
        body(max_request_bytes=8192, allow_partial_message=True),
        [("warn", "longer are cut off"), ("warn", "allow_partial_message is true")],
    ),
    "text": (body(pack_as_bytes=False), [("warn", "pack_as_bytes is not true")]),
    "no_buffering": (
        checked(disable_request_body_buffering=True),
        [("warn", "does not see the method")],
    ),
    "route_body": (
        checked(with_request_body={"max_request_bytes": 10, "pack_as_bytes": True}),
        [("warn", "max_request_bytes is 10")],
    ),
    # Headers.
    "few_headers": (
        filtered(allowed_headers=FEW),
        [("fail", "decides by: content-encoding, "), ("warn", "can send x-authsvc-credentials")],
    ),
    "all_headers": (filtered(allowed_headers=ALL), []),
    "less_headers": (
        filtered(disallowed_headers={"patterns": [{"suffix": "gin"}]}),
        [("fail", "decides by: origin")],
    ),
    "underscores": (underscores(None), [("warn", "headers with underscores")]),
    "dropped": (underscores("DROP_HEADER"), []),
    # Streams.
    "endless": (timed(), [("warn", "a stream may last for ever")]),
    "zero": (timed("0s"), [("warn", "a stream may last for ever")]),
    "bounded": (timed("600s"), []),
    "timeout": (timed(timeout="30s"), []),
    # Routes that are not checked.
    "disabled": (
        overridden(route, **{"@type": PER_ROUTE, "disabled": True}),
        [("fail", UNCHECKED), ("warn", FORWARDED)],
    ),
    "disabled_too": (
        overridden(route, **{"@type": FILTER_CONFIG, "disabled": True}),
        [("fail", UNCHECKED), ("warn", FORWARDED)],
    ),
    "disabled_host": (
        overridden(host, **{"@type": PER_ROUTE, "disabled": True}),
        [("fail", UNCHECKED)],
    ),
    "wrapped": (
        overridden(route, **{"@type": FILTER_CONFIG, "config": DISABLED[EXT_AUTHZ]}),
        [("fail", UNCHECKED), ("warn", FORWARDED)],
    ),
    "disabled_filter": (disabled_filter, [("fail", UNCHECKED)]),
    "enabled_filter": (at_once(disabled_filter, enabled), []),
    "enabled_too": (
        at_once(disabled_filter, checked(context_extensions={"resource": RESOURCE})),
        [("warn", FORWARDED)],
    ),
    "weighted": (weighted, [("fail", UNCHECKED)]),
    "before": (inserted(match={"prefix": "/"}), [("fail", UNCHECKED)]),
    "regex": (
        inserted(match={"safe_regex": {"regex": "/m.p(/.*)?"}}),
        [("fail", UNCHECKED)],
    ),
    "other_regex": (inserted(match={"safe_regex": {"regex": "/(healthz|readyz)"}}), []),
    "in_capitals": (
        inserted(match={"path": "/MCP", "case_sensitive": False}),
        [("fail", UNCHECKED)],
    ),
    "condition": (
        inserted(match={"path": "/mcp", "headers": CONDITION}),
        [("warn", "that meet this route's other conditions pass unchecked")],
    ),
    "below": (
        inserted(match={"path": "/mcp/status"}),
        [("warn", f"requests below {RESOURCE} pass unchecked")],
    ),
    "health": (inserted(match={"path": "/healthz"}), []),
    "forwarded": (
        inserted(match={"path": "/healthz"}, request_headers_to_remove=["x-authsvc-assertion"]),
        [("warn", "not checked, and the server gets x-authsvc-credentials as a client sends")],
    ),
    "removed": (
        at_once(
            inserted(match={"path": "/healthz"}, request_headers_to_remove=[]),
            lambda manager: host(manager).update(
                request_headers_to_remove=["x-authsvc-assertion", "x-authsvc-credentials"]
            ),
        ),
        [],
    ),
    "other_server": (
        inserted(
            match={"path": "/healthz"},
            request_headers_to_remove=[],
            route={"cluster": "authsvc"},
        ),
        [],
    ),
    # Paths.
    "dots": (
        lambda manager: manager.update(normalize_path=False),
        [("warn", "matched as they came (normalize_path)")],
    ),
    "slashes": (
        lambda manager: manager.pop("merge_slashes"),
        [("warn", "matched as they came (merge_slashes)")],
    ),
    "escapes": (
        lambda manager: manager.update(path_with_escaped_slashes_action="KEEP_UNCHANGED"),
        [("warn", "matched as they came (path_with_escaped_slashes_action)")],
    ),
    "unescaped": (
        lambda manager: manager.update(path_with_escaped_slashes_action="UNESCAPE_AND_REDIRECT"),
        [],
    ),
    "no_upstream": (
        inserted(match={"prefix": "/"}, route=None, redirect={"host_redirect": "x"}),
        [],
    ),
    "after": (
        at_once(
            inserted(match={"prefix": "/"}),
            lambda manager: host(manager)["routes"].append(host(manager)["routes"].pop(0)),
        ),
        [],
    ),
    "misnamed": (misnamed, [("warn", "names ext_authz, which is no ext_authz filter there")]),
}


def configuration(names: tuple[str, ...], more: dict[str, Change] | None = None) -> Table:
    """The example, with a listener for each of the cases."""
    made: Table = yaml.safe_load(EXAMPLE.read_text(encoding="utf-8"))
    changes = {name: CASES[name][0] for name in names} | (more or {})
    (example,) = made["static_resources"]["listeners"]
    listeners = made["static_resources"]["listeners"] = []
    for name, change in changes.items():
        listener = copy.deepcopy(example)
        listener["name"] = name
        listener["address"]["socket_address"]["port_value"] = 0
        manager = listener["filter_chains"][0]["filters"][0]["typed_config"]
        change(manager)
        for one in host(manager)["routes"] if "route_config" in manager else []:
            if "route" in one and one["route"] is None:
                del one["route"]
        listeners.append(listener)
    return made


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The admin listener of an Envoy with a listener for each case."""
    folder = tmp_path_factory.mktemp("envoy")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    made = configuration(tuple(CASES), {"by_rds": by_rds(folder), "no_filter": no_filter})
    made["node"] = {"id": "one", "cluster": "one"}
    made["admin"] = {"address": {"socket_address": {"address": "127.0.0.1", "port_value": port}}}
    with envoy(made, folder):
        yield f"http://127.0.0.1:{port}"


def by_rds(folder: Path) -> Change:
    """Routes that are discovered, and have a fault."""

    def change(manager: Table) -> None:
        routing = manager.pop("route_config")
        routing["name"] = "discovered"
        routing["virtual_hosts"][0]["routes"][0]["typed_per_filter_config"] = DISABLED
        kind = f"{TYPES}.config.route.v3.RouteConfiguration"
        file = folder / "rds.json"
        file.write_text(json.dumps({"resources": [{"@type": kind, **routing}]}))
        source = {"path_config_source": {"path": str(file)}, "resource_api_version": "V3"}
        manager["rds"] = {"route_config_name": "discovered", "config_source": source}

    return change


@pytest.fixture(scope="module")
def dump(url: str) -> Table:
    with httpx2.Client(trust_env=False, timeout=TIMEOUT_SECONDS) as http:
        found: Table = http.get(f"{url}/config_dump").json()
    return found


def of_listener(dump: Table, name: str) -> Table:
    """A dump as if there were one listener."""
    made = copy.deepcopy(dump)
    for section in made["configs"]:
        for kind in ("static_listeners", "dynamic_listeners"):
            if kind in section:
                section[kind] = [it for it in section[kind] if it["listener"]["name"] == name]
    return made


def settings_for(*resources: str, routes: Sequence[Table] = (), **changes: object) -> Settings:
    values: Table = {
        "issuers": [{"issuer": ISSUER, "algorithms": ["ES256"], "jwks_url": KEYS}],
        "store": {"kind": "memory"},
        "assertions": {"issuer": "https://authsvc.example", "listen": "127.0.0.1:0"},
        "ext_authz": {"routes": routes},
        "resources": resources or (RESOURCE,),
        **changes,
    }
    return Settings(**values)


async def found(source: object, settings: Settings | None = None) -> list[Finding]:
    checks = [check(str(source), settings or settings_for())]
    return [it async for it in diagnose(checks, timeout_seconds=TIMEOUT_SECONDS)]


def written(folder: Path, document: object) -> Path:
    path = folder / "envoy.json"
    path.write_text(json.dumps(document))
    return path


def bad(findings: list[Finding]) -> list[Finding]:
    """What tells of more than that all is well."""
    harmless = ("nothing to mend", "the dump hides the resource", "challenges name no metadata")
    return [it for it in findings if not any(text in it.text for text in harmless)]


def check_findings(name: str, findings: list[Finding]) -> None:
    expected = CASES[name][1]
    assert [str(it.level) for it in bad(findings)] == [level for level, _ in expected], findings
    for finding, (_, text) in zip(bad(findings), expected, strict=True):
        assert text in finding.text
        assert finding.text.startswith(f"listener {name}")
        assert finding.remedy or finding.level in {Level.OK, Level.NOTE}
        assert finding.subject == "gateway"


@pytest.mark.parametrize("name", CASES)
async def test_what_is_wrong_with_a_running_envoy(name: str, dump: Table, tmp_path: Path) -> None:
    check_findings(name, await found(written(tmp_path, of_listener(dump, name))))


@pytest.mark.parametrize("name", CASES)
async def test_what_is_wrong_with_a_file(name: str, tmp_path: Path) -> None:
    path = tmp_path / "envoy.yaml"
    path.write_text(yaml.safe_dump(configuration((name,))))
    check_findings(name, await found(path))
    # Envoy reads the other spelling of a field as well.
    path.write_text(json.dumps(camel(configuration((name,)))))
    check_findings(name, await found(path))


def camel(node: object) -> object:
    """A message with its fields in lowerCamelCase; keys of maps stay."""
    if isinstance(node, list):
        return [camel(it) for it in node]
    if not isinstance(node, dict):
        return node
    return {
        key if "." in key or key.startswith("@") else camel_name(key): camel(it)
        for key, it in node.items()
    }


def camel_name(name: str) -> str:
    first, *others = name.split("_")
    return name if name == "ext_authz" else first + "".join(map(str.capitalize, others))


@pytest.mark.parametrize(
    ("path", "resource"),
    [(EXAMPLE, RESOURCE), (DEPLOYED, "https://mcp.example.com/mcp")],
    ids=["example", "deployed"],
)
async def test_the_files_to_copy_are_clean(path: Path, resource: str) -> None:
    routes: list[Table] = [{"resource": resource, "authorization_servers": [ISSUER]}]
    settings = settings_for(resource, routes=routes)
    findings = await found(path, settings)
    assert [(it.level, it.text) for it in findings] == [
        (Level.OK, "ext_authz in 1 HTTP connection manager: nothing to mend")
    ]


async def test_the_url_of_the_admin_listener(url: str) -> None:
    by_url = {(it.level, it.text) for it in await found(url)}
    assert by_url == {(it.level, it.text) for it in await found(f"{url}/config_dump")}
    assert any("failure_mode_allow is true" in text for _, text in by_url)
    (finding,) = await found(f"{url}/nothing")
    assert (finding.level, finding.text) == (Level.FAIL, f"{url}/nothing answers 404")


async def test_routes_that_are_discovered(dump: Table, tmp_path: Path) -> None:
    (fault, *_) = bad(await found(written(tmp_path, of_listener(dump, "by_rds"))))
    assert UNCHECKED in fault.text
    path = written(tmp_path, configuration((), {"by_rds": by_rds(tmp_path)}))
    (unread,) = bad(await found(path))
    assert (unread.level, unread.text) == (
        Level.WARN,
        "listener by_rds: not examined: its routes discovered, which are discovered (RDS)",
    )
    assert "admin listener" in unread.remedy


async def test_no_filter_at_all(dump: Table, tmp_path: Path) -> None:
    (fault,) = await found(written(tmp_path, of_listener(dump, "no_filter")))
    assert (fault.level, fault.remedy != "") == (Level.FAIL, True)
    assert "no ext_authz filter is in any of 1 HTTP" in fault.text


# Resources.


async def test_a_resource_that_authsvc_does_not_know(tmp_path: Path) -> None:
    path = written(tmp_path, configuration(("clean",)))
    (fault,) = await found(path, settings_for("https://other.example/mcp"))
    assert fault.level is Level.FAIL
    assert f"resource '{RESOURCE}', which authsvc does not know" in fault.text
    assert "[[callers]]" in fault.remedy
    # In another spelling it is the same.
    made = configuration(("clean",))
    manager = made["static_resources"]["listeners"][0]["filter_chains"][0]["filters"][0]
    given = {"context_extensions": {"resource": "HTTP://127.0.0.1:8080/mcp"}}
    checked(**given)(manager["typed_config"])
    assert not bad(await found(written(tmp_path, made)))


async def test_an_authsvc_that_answers_no_checks(tmp_path: Path) -> None:
    path = written(tmp_path, configuration(("clean",)))
    (fault,) = bad(await found(path, settings_for(ext_authz=None)))
    assert (fault.level, fault.text) == (
        Level.FAIL,
        "authsvc has no [ext_authz]: it answers no checks",
    )


@pytest.mark.parametrize(
    ("route", "is_known"),
    [
        ({"resource": RESOURCE}, True),
        ({"resource": "http://127.0.0.1:8080/other"}, False),
        ({"resource": "http://127.0.0.1:8080/mcp/below"}, True),
        ({"resource": "http://127.0.0.1:8080"}, True),
        ({"resource": "https://mcp.example.com/mcp"}, False),
        ({"resource": "https://mcp.example.com/mcp", "hosts": ["127.0.0.1:8080"]}, True),
        ({"resource": "http://127.0.0.1:8080/other", "path": "/mcp"}, True),
    ],
)
async def test_a_route_that_names_no_resource(route: Table, is_known: bool, tmp_path: Path) -> None:
    def unnamed(manager: Table) -> None:
        del host(manager)["typed_per_filter_config"]

    path = written(tmp_path, configuration((), {"unnamed": unnamed}))
    faults = bad(await found(path, settings_for(route["resource"], routes=[route])))
    if is_known:
        assert not faults
        return
    places = [it for it in faults if it.level is Level.FAIL]
    assert len(places) == 1
    assert "names no resource, and no [[ext_authz.routes]] has its host" in places[0].text
    assert "listener unnamed, 127.0.0.1:8080 /mcp*" in places[0].text


async def test_a_resource_that_a_route_names_may_be_at_another_host(tmp_path: Path) -> None:
    named = "https://named.example/mcp"
    given = checked(context_extensions={"resource": named})
    path = written(tmp_path, configuration((), {"named": given}))
    routes: list[Table] = [{"resource": named}]
    assert not bad(await found(path, settings_for(RESOURCE, named, routes=routes)))


async def test_below_a_resource_that_is_a_whole_host(tmp_path: Path) -> None:
    whole = "http://127.0.0.1:8080"
    settings = settings_for(whole, RESOURCE)
    single = inserted(match={"path": "/healthz"})
    assert not bad(await found(written(tmp_path, configuration((), {"one": single})), settings))
    many = inserted(match={"prefix": "/status"})
    (told,) = bad(await found(written(tmp_path, configuration((), {"one": many})), settings))
    assert (told.level, f"requests below {whole} pass unchecked" in told.text) == (Level.WARN, True)


async def test_a_resource_that_no_route_leads_to(tmp_path: Path, dump: Table) -> None:
    other = "https://other.example/mcp"
    routes: list[Table] = [{"resource": RESOURCE}, {"resource": other}]
    settings = settings_for(RESOURCE, other, routes=routes)
    for document in (configuration(("clean",)), of_listener(dump, "clean")):
        (told,) = bad(await found(written(tmp_path, document), settings))
        assert (told.level, told.text) == (
            Level.NOTE,
            f"{other}: no route leads to this resource of [[ext_authz.routes]]",
        )


@pytest.mark.parametrize("name", ["clean", "open"])
async def test_without_settings_nothing_is_compared(name: str, tmp_path: Path) -> None:
    path = written(tmp_path, configuration((name,)))
    checks = [check(str(path), None)]
    *faults, note = [it async for it in diagnose(checks, timeout_seconds=TIMEOUT_SECONDS)]
    assert (note.level, "were not compared" in note.text) == (Level.NOTE, True)
    assert len(faults) == len(CASES[name][1])


# Metadata.

NOTES = "http://127.0.0.1:8080/notes"
WELL_KNOWN = "/.well-known/oauth-protected-resource"


def second_server(*more: Table) -> Change:
    """A route of its own for another resource, and further routes, before all others."""
    settings = {"context_extensions": {"resource": NOTES}}
    named = {EXT_AUTHZ: {"@type": PER_ROUTE, "check_settings": settings}}
    action = {"cluster": "mcp_server", "timeout": "30s"}
    one = {"match": {"path_separated_prefix": "/notes"}, "typed_per_filter_config": named}
    made = [{"route": action, **it} for it in (one, *more)]
    return lambda manager: host(manager)["routes"].__setitem__(slice(0, 0), made)


def naming(resource: str) -> Table:
    settings = {"context_extensions": {"resource": resource}}
    return {EXT_AUTHZ: {"@type": PER_ROUTE, "check_settings": settings}}


async def of_two_servers(change: Change, tmp_path: Path, *servers: str) -> list[Finding]:
    routes: list[Table] = [
        {"resource": RESOURCE, "authorization_servers": [ISSUER]},
        {"resource": NOTES, "authorization_servers": servers},
    ]
    path = written(tmp_path, configuration((), {"two": change}))
    return await found(path, settings_for(RESOURCE, NOTES, routes=routes))


OF_NOTES: Table = {"match": {"path": f"{WELL_KNOWN}/notes"}}


@pytest.mark.parametrize(
    ("more", "is_found"),
    [
        ([], False),
        ([OF_NOTES | {"typed_per_filter_config": naming(NOTES)}], True),
        ([OF_NOTES | {"typed_per_filter_config": naming("HTTP://127.0.0.1:8080/notes")}], True),
        ([OF_NOTES | {"typed_per_filter_config": naming(RESOURCE)}], False),
        # One that is taken under a condition decides nothing.
        (
            [
                {
                    "match": {**OF_NOTES["match"], "headers": CONDITION},
                    "typed_per_filter_config": naming(NOTES),
                }
            ],
            False,
        ),
    ],
)
async def test_the_metadata_of_a_second_server(
    more: list[Table], is_found: bool, tmp_path: Path
) -> None:
    faults = bad(await of_two_servers(second_server(*more), tmp_path, ISSUER))
    if is_found:
        assert not faults
        return
    (fault,) = faults
    assert fault.level is Level.FAIL
    assert f"it serves {WELL_KNOWN}/notes for resource '{RESOURCE}'" in fault.text
    assert "before it" in fault.remedy


async def test_metadata_that_is_found_by_host_and_path(tmp_path: Path) -> None:
    def unnamed(manager: Table) -> None:
        del host(manager)["typed_per_filter_config"]

    assert not bad(await of_two_servers(at_once(unnamed, second_server()), tmp_path, ISSUER))


async def test_metadata_that_no_route_leads_to(tmp_path: Path) -> None:
    def without(manager: Table) -> None:
        routes = host(manager)["routes"]
        routes[:] = [it for it in routes if "well-known" not in json.dumps(it["match"])]

    told = bad(await of_two_servers(at_once(without, second_server()), tmp_path, ISSUER))
    assert [it.level for it in told] == [Level.WARN, Level.WARN]
    assert f"no route leads to {WELL_KNOWN}/mcp" in told[0].text
    assert f"no route leads to {WELL_KNOWN}/notes" in told[1].text


async def test_a_resource_without_authorization_servers(tmp_path: Path) -> None:
    (note,) = await of_two_servers(second_server(), tmp_path)
    assert note.level is Level.NOTE
    assert note.text.startswith(f"{NOTES}: no [[ext_authz.routes]] has authorization_servers")
    # And one that has no route of authsvc's at all.
    (note,) = await found(written(tmp_path, configuration(("clean",))))
    assert note.text.startswith(f"{RESOURCE}: no [[ext_authz.routes]]")


def test_the_transcript_of_the_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (shown,) = (it for it in blocks_of("docs/gateways.md") if "doctor --envoy" in it.text)
    command, *lines = shown.text.splitlines()
    text = EXAMPLE.read_text(encoding="utf-8")
    for old, new in (
        ("failure_mode_allow: false", "failure_mode_allow: true"),
        ("max_request_bytes: 4194304", "max_request_bytes: 8192"),
        (RESOURCE, "https://mcp.example.com/notes"),
        ("127.0.0.1:8080", "mcp.example.com"),
    ):
        assert old in text
        text = text.replace(old, new)
    (tmp_path / "envoy.yaml").write_text(text)
    (tmp_path / "secret").write_text(token_hex(32))
    (tmp_path / "secret").chmod(0o600)
    (tmp_path / "authsvc.toml").write_text(
        'resources = ["https://mcp.example.com/mcp"]\n[store]\nkind = "memory"\n'
        f'[[issuers]]\nissuer = "{ISSUER}"\nalgorithms = ["HS256"]\nsecret_file = "secret"\n'
        '[assertions]\nissuer = "https://authsvc.example"\n[ext_authz]\n'
    )
    monkeypatch.chdir(tmp_path)
    ran = CliRunner().invoke(main, command.split()[2:])
    assert ran.output.splitlines()[: len(lines)] == lines


def registered(tmp_path: Path, *callers: Table) -> Settings:
    """authsvc with TLS and these callers."""
    for name in ("cert", "key", "ca"):
        (tmp_path / name).write_text("")
    tls = {
        "certificate_file": tmp_path / "cert",
        "key_file": tmp_path / "key",
        "client_ca_file": tmp_path / "ca",
    }
    return settings_for(resources=(), tls=tls, callers=callers)


async def test_the_gateway_is_identified_by_its_certificate(tmp_path: Path) -> None:
    path = installed(tmp_path)
    secrets = tmp_path / "gateway-certificate.yaml"
    text = secrets.read_text(encoding="utf-8")
    secrets.write_text(text.replace("\nresources:\n", "\nresources:\n  - {name: another}\n"))
    one: Table = {
        "name": "gateway",
        "certificate_names": ["spiffe://example.com/gateway"],
        "resources": ["https://mcp.example.com/mcp"],
    }
    other: Table = {**one, "name": "other", "certificate_names": ["other.internal"]}
    assert not bad(await found(path, registered(tmp_path, one, other)))
    # Another caller has the resource.
    one["resources"] = ["https://mcp.example.com/other"]
    (fault,) = bad(await found(path, registered(tmp_path, one, other)))
    assert fault.level is Level.FAIL
    assert "'https://mcp.example.com/mcp', for which caller gateway is not reg" in fault.text
    # None has this certificate.
    (unknown,) = bad(await found(path, registered(tmp_path, other)))
    assert unknown.level is Level.FAIL
    assert "'spiffe://example.com/gateway' identifies no single caller" in unknown.text
    # Where its certificate cannot be read, any caller's resources are taken for its own.
    (tmp_path / "gateway.pem").unlink()
    assert not bad(await found(path, registered(tmp_path, other)))


async def test_the_gateway_is_identified_by_its_service_token(tmp_path: Path) -> None:
    token = "t" * 40
    digest = sha256(token.encode()).hexdigest()
    caller: Table = {"name": "gateway", "resources": [RESOURCE]}
    mine = {**caller, "service_token_sha256": [digest]}
    others: Table = {
        "name": "other",
        "resources": [RESOURCE],
        "service_token_sha256": [NOBODYS_DIGEST],
    }
    made = configuration(("clean",))
    (listener,) = made["static_resources"]["listeners"]
    manager = listener["filter_chains"][0]["filters"][0]["typed_config"]
    metadata = [{"key": "Authorization", "value": f"Bearer {token}"}]
    authz(manager)["grpc_service"]["initial_metadata"] = metadata
    path = written(tmp_path, made)
    assert not bad(await found(path, registered(tmp_path, mine, others)))
    (unknown,) = bad(await found(path, registered(tmp_path, others)))
    assert "an unknown service token" in unknown.text
    assert token not in repr(unknown)
    mine["resources"] = ["https://mcp.example.com/other"]
    (fault,) = bad(await found(path, registered(tmp_path, mine, others)))
    assert f"'{RESOURCE}', for which caller gateway is not registered" in fault.text
    # A token that a filter of the cluster adds is Envoy's secret.
    (cluster,) = (it for it in made["static_resources"]["clusters"] if it["name"] == "authsvc")
    (options,) = cluster["typed_extension_protocol_options"].values()
    kind = f"{TYPES}.extensions.filters.http.credential_injector.v3.CredentialInjector"
    options["http_filters"] = [{"name": "injector", "typed_config": {"@type": kind}}]
    assert not bad(await found(written(tmp_path, made), registered(tmp_path, others)))


async def test_a_dump_hides_resources(dump: Table, tmp_path: Path) -> None:
    path = written(tmp_path, of_listener(dump, "clean"))
    (finding,) = await found(path, settings_for("https://other.example/mcp"))
    assert finding.level is Level.NOTE
    assert "not compared: the dump hides the resource" in finding.text


async def test_a_service_token_in_a_dump_is_reported_and_not_shown(
    dump: Table, tmp_path: Path
) -> None:
    made = of_listener(dump, "clean")
    token = "secret-of-the-gateway"
    ((listener,),) = (it["static_listeners"] for it in made["configs"] if "static_listeners" in it)
    manager = listener["listener"]["filter_chains"][0]["filters"][0]["typed_config"]
    metadata = [{"key": "authorization", "value": f"Bearer {token}"}]
    authz(manager)["grpc_service"]["initial_metadata"] = metadata
    (fault,) = bad(await found(written(tmp_path, made)))
    assert (fault.level, "the dump shows its service token" in fault.text) == (Level.WARN, True)
    assert token not in f"{fault.text}{fault.remedy}"


# Documents that are not what they should be.


ODD: list[object] = [None, 1, "text", [], {}, [None, 1, "text", []], {"a": None}, True]


def nodes(node: object) -> Iterator[tuple[Any, Any]]:
    """Each place in a document, as a container and a key."""
    if isinstance(node, dict | list):
        for key in list(node) if isinstance(node, dict) else range(len(node)):
            yield node, key
            yield from nodes(node[key])


async def test_an_odd_entry_hides_no_other(tmp_path: Path) -> None:
    document = configuration(("disabled", "open"))
    odd, _ = document["static_resources"]["listeners"]
    settings = settings_for(routes=[{"resource": RESOURCE, "authorization_servers": [ISSUER]}])
    for container, key in list(nodes(odd)):
        good = container[key]
        for value in ODD:
            container[key] = value
            texts = [it.text for it in await found(written(tmp_path, document), settings)]
            assert any("failure_mode_allow is true" in it for it in texts), (key, value)
        container[key] = good


@pytest.mark.parametrize(
    ("content", "fault"),
    [
        (b"", "is neither a configuration of Envoy"),
        (b"[]", "is neither a configuration of Envoy"),
        (b"resources: []", "is neither a configuration of Envoy"),
        (b'{"configs": [', "is neither JSON nor one document of YAML (line 1, column 14)"),
        (b"a: 1\n---\nb: 2\n", "is neither JSON nor one document of YAML"),
        (b"a: !!python/object:os.system {}", "is neither JSON nor one document of YAML"),
        (b"a: 2026-99-99", "is neither JSON nor one document of YAML"),
        (b"\xff\xfe\xfd", "is neither JSON nor one document of YAML"),
        (b"{" + b'"a":{' * 100_000, "is nested too deep"),
        (b"[" * 100_000, "is nested too deep"),
        (b"a: &a [*a]\nstatic_resources: {}", "has more than 1000000 values"),
        (
            b"a: &a [1,1,1,1,1,1,1,1,1,1]\n"
            + b"".join(
                b"%c: &%c [%s]\n" % (it, it, b",".join([b"*%c" % (it - 1)] * 10))
                for it in range(98, 108)
            ),
            "has more than 1000000 values",
        ),
    ],
)
async def test_a_file_that_is_none_of_envoys(content: bytes, fault: str, tmp_path: Path) -> None:
    path = tmp_path / "envoy.yaml"
    path.write_bytes(content)
    (finding,) = await found(path)
    assert finding.level is Level.FAIL
    assert finding.text.startswith(f"{path} {fault}")


async def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    (finding,) = await found(tmp_path / "envoy.yaml")
    assert finding.text == f"{tmp_path}/envoy.yaml: No such file or directory"
    assert "--envoy" in finding.remedy


async def test_what_is_read_has_a_bound(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "envoy.yaml"
    path.write_text(f"{EXAMPLE.read_text()}\n{'#' * 100}")
    monkeypatch.setattr(reading, "MAX_YAML_BYTES", path.stat().st_size - 1)
    (finding,) = await found(path)
    assert "is YAML of more than" in finding.text
    monkeypatch.setattr(reading, "MAX_DUMP_BYTES", 100)
    (finding,) = await found(path)
    assert finding.text == f"{path} is longer than 100 bytes"
    with serving_http() as site:
        site.answers["/config_dump"] = Answer(b"x" * 101)
        (finding,) = await found(site.url)
        assert finding.text == f"{site.url}/config_dump is longer than 100 bytes"
        # A redirect is not followed.
        site.answers["/config_dump"] = Answer(status=302, headers={"Location": site.url})
        (finding,) = await found(site.url)
        assert finding.text == f"{site.url}/config_dump answers 302"
    (finding,) = await found(site.url)
    assert finding.text == f"{site.url}/config_dump: ConnectError"


def test_the_body_limit_is_that_of_the_gate() -> None:
    assert MAX_BODY_BYTES == DEFAULT_MAX_BODY_BYTES


# The command.


async def test_the_command(tmp_path: Path) -> None:
    path = written(tmp_path, configuration(("open",)))
    ran = await run("doctor", "--envoy", path, "--json", *PATIENT)
    report = json.loads(ran.out)
    assert (ran.code, report["healthy"]) == (1, False), ran.err
    assert any("failure_mode_allow" in it["text"] for it in report["findings"])
    ran = await run("doctor", "--envoy", EXAMPLE, *PATIENT)
    assert (ran.code, ran.err) == (0, "")
    assert "0 failures, 0 warnings." in ran.out
    ran = await run("doctor", "--envoy", "http://user:password@127.0.0.1:1")
    assert (ran.code, "password" in ran.err.partition(":")[0]) == (2, False)
    assert "--envoy is a file, or a URL" in ran.err


async def test_without_the_extra_yaml_is_not_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begin_processes_without("yaml", tmp_path, monkeypatch)
    ran = await run("doctor", "--envoy", EXAMPLE, "--json", *PATIENT)
    (fault,) = (it for it in json.loads(ran.out)["findings"] if it["level"] == "fail")
    assert 'YAML needs the extra "envoy" (yaml is missing)' in fault["text"]
    path = written(tmp_path, configuration(("clean",)))
    assert (await run("doctor", "--envoy", path, *PATIENT)).code == 0
