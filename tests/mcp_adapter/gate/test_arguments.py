"""What the adapter's constructors and functions are given is checked at once, by name."""

from __future__ import annotations

import logging
import math
import re
from collections.abc import Callable, Mapping
from functools import partial, wraps
from typing import Any
from unittest.mock import Mock

import pytest
from fastmcp import FastMCP
from mcp.server.lowlevel import Server
from mcp.server.mcpserver import MCPServer
from pydantic import BaseModel
from starlette.applications import Starlette
from starlette.types import ASGIApp, Receive, Scope, Send

from authsvc.audit.calls import CallAudit
from authsvc.client import BlockingAuthClient
from authsvc.common import arguments
from authsvc.domain.resolution import Resolution
from mcp_adapter import (
    Requirement,
    SessionGate,
    default_requirement,
    with_broader_scopes,
    with_origin_checks,
)
from mcp_adapter.gate.lifespan import resolver_at
from mcp_adapter.gate.metadata import metadata_routes
from mcp_adapter.tools import Call, tool
from mcp_adapter.transport.streamable import StreamableHttp
from tests.mcp_adapter.harness import (
    ISSUER,
    RESOURCE,
    Meeting,
    MemoryResolver,
    call,
    demo_server,
    endpoint_of,
    owner,
)

WRONG_RESOURCES = [
    *("mcp.example/mcp", "/mcp", "", "ftp://mcp.example/mcp", "//mcp.example/mcp"),
    *("https://mcp.example/mcp#x", "https://mcp.example/mcp#", "https://u@mcp.example/mcp"),
    *("https://u:p@mcp.example/mcp", "HTTPS://mcp.example/mcp", "https://MCP.example/mcp"),
    *("https://mcp.example:99999/mcp", "https://mcp.example:0/mcp", "https:///mcp", "https://"),
    *("https://mcp.example/m cp", " https://mcp.example/mcp", "https://mcp.example/é"),
    *("https://[::1/mcp", "https://h.example/../mcp", "https://h.example/%2e%2e/mcp"),
    *('https://h"x/mcp', "https://h,e.example/mcp", "https://.../mcp", "https://1.2.3/mcp"),
    *("https://h.example/mcp\n", "https://h\t.example/mcp", "https://h.example/a%2Fmcp"),
    *("https://h.example/{x}", "https://h.example/%zz", "https://-/mcp", "https://h\\x/mcp"),
]

NOT_NUMBERS = ["1", None, True, [1]]
NOT_POSITIVE = [0, -1, -0.5, math.nan, math.inf, -math.inf]

Given = tuple[str, object, type[Exception]]


def each(name: str, values: list[Any], error: type[Exception]) -> list[Given]:
    return [(name, value, error) for value in values]


class Nothing(BaseModel):
    """What a tool answers."""


async def later(method: str, params: Mapping[str, Any]) -> Requirement:
    return Requirement()


class Later:
    async def __call__(self, method: str, params: Mapping[str, Any]) -> Requirement:
        return Requirement()


def made(path: str = "/mcp", stateless: bool = True, more: str = "") -> Starlette:
    return Starlette()


def made_of(settings: object) -> Starlette:
    return Starlette()


NO_APPS = [
    *(None, Starlette, made, made_of, partial(made), MCPServer("x"), Server("x")),
    *(FastMCP("x"), FastMCP("x").http_app, MCPServer("x").streamable_http_app),
]


ISSUERS = [
    *each("authorization_servers", ["https://idp.example", b"x", 7, [7]], TypeError),
    *each("authorization_servers", [[""], ["idp.example"], ["http://idp.example"]], ValueError),
    *each("authorization_servers", [["https://idp.example?x"], ["https://"]], ValueError),
    *each("authorization_servers", [["https://idp.example:99999"]], ValueError),
    *each("authorization_servers", [["https://[::1]:0"], ["https://idp.example:x"]], ValueError),
    *each(
        "authorization_servers",
        [["https://a/\n"], ["https://a b"], ["https://a/\u00e9"]],
        ValueError,
    ),
    *each(
        "authorization_servers", [["https://a\t"], ["\x00https://a"], [" https://a"]], ValueError
    ),
    *each("authorization_servers", [["https://u:p@a"], ["https://a#"], ["https://a?"]], ValueError),
    *each(
        "authorization_servers", [["https://..."], ["https://a,b"], ["https://a\\b"]], ValueError
    ),
    *each(
        "authorization_servers",
        [["https://a/../b"], ["https://a/%2E%2e"], ["https://a/%"]],
        ValueError,
    ),
]
RIGHT_ISSUERS = [
    *(ISSUER, "http://127.0.0.1:9000", "https://idp.example/", "https://IDP.example/realms/a%2Fb"),
    *("http://[::1]:9000/idp", "http://localhost:9000", "https://auth_svc:8443/x"),
]
SCOPES = [
    *each("scopes", ["a:b", b"a", 7, [7], [None]], TypeError),
    *each("scopes", [[""], ["a b"], ['"a"'], ["a\\b"], ["é"], ["a\n"]], ValueError),
]
RESOURCES = [*each("resource", WRONG_RESOURCES, ValueError), ("resource", None, TypeError)]
SIZES = [
    *each("max_body_bytes", [*NOT_NUMBERS, 1.5], TypeError),
    *each("max_body_bytes", [0, -1], ValueError),
]


@pytest.mark.parametrize(
    ("name", "value", "error"),
    [
        *each("app", NO_APPS, TypeError),
        *each("resolver", [BlockingAuthClient("127.0.0.1:1")], TypeError),
        *each("resolver", [None, 7, MemoryResolver, object()], TypeError),
        *each("resolver", ["50051", "", "a@127.0.0.1:1", "authsvc.internal:50051"], ValueError),
        *RESOURCES,
        *ISSUERS,
        *SCOPES,
        *each("requirement", [None, Requirement(), later, Later(), partial(later)], TypeError),
        *each("requirement", [Requirement, lambda: None, lambda method: None], TypeError),
        *each("requirement", [lambda method, params, more: None], TypeError),
        *each("stateful", ["no", 1, None], TypeError),
        *each("streams", ["no", 1, None], TypeError),
        *each("streams", [True], ValueError),
        *each("filter_lists", ["no", 1, None], TypeError),
        *each("open_paths", ["/healthz", b"/healthz", 7, [7], [b"/healthz"]], TypeError),
        *each("open_paths", [["healthz"], [""], ["/mcp"], ["/mcp/"], ["/MCP"]], ValueError),
        *each("open_paths", [["//mcp"], ["/m%63p"], ["/./mcp"], ["/x/../mcp"]], ValueError),
        *each("open_paths", [["/healthz?x"], ["/healthz#x"], ["/health*"], ["/ "]], ValueError),
        *each("open_paths", [["/.well-known/oauth-protected-resource"]], ValueError),
        *each("open_paths", [["/.well-known/oauth-protected-resource/mcp"]], ValueError),
        *SIZES,
        *each("max_anonymous_body_bytes", [*NOT_NUMBERS, 1.5], TypeError),
        *each("max_anonymous_body_bytes", [0, -1, 4 * 1024 * 1024 + 1], ValueError),
        *each("body_timeout_seconds", NOT_NUMBERS, TypeError),
        *each("body_timeout_seconds", NOT_POSITIVE, ValueError),
        *each("audit", ["full", True, CallAudit], TypeError),
        *each("audited_arguments", [["tool"], "tool", {7: ["a"]}, {"t": "a"}], TypeError),
        *each("audited_arguments", [{"t": ["a"]}], ValueError),
    ],
)
def test_the_gate(name: str, value: object, error: type[Exception]) -> None:
    given: dict[str, Any] = {
        "app": Starlette(),
        "resolver": MemoryResolver(),
        "resource": RESOURCE,
        "authorization_servers": [ISSUER],
    }
    with pytest.raises(error, match=name):
        SessionGate(**{**given, name: value})


def test_scopes_are_in_the_metadata_alone() -> None:
    with pytest.raises(ValueError, match="scopes has no effect without authorization_servers"):
        SessionGate(Starlette(), resolver=MemoryResolver(), resource=RESOURCE, scopes=["a"])


def test_a_default_above_a_shorter_limit_is_no_mistake() -> None:
    SessionGate(Starlette(), resolver=MemoryResolver(), resource=RESOURCE, max_body_bytes=1_024)


@pytest.mark.parametrize(
    ("app", "remedy"),
    [
        (FastMCP("x"), r"not FastMCP: give what its method \.http_app\(\) returns"),
        (MCPServer("x"), r"not MCPServer: give what its method \.streamable_http_app\(\) returns"),
        (made, "made does not: if it makes an app, call it"),
        (Starlette, "not the class Starlette: give an instance"),
    ],
)
def test_what_is_no_app_says_what_is(app: object, remedy: str) -> None:
    given: dict[str, Any] = {"app": app}
    with pytest.raises(TypeError, match=remedy):
        SessionGate(**given, resolver=MemoryResolver(), resource=RESOURCE)


async def as_function(scope: Scope, receive: Receive, send: Send) -> None:
    pass


class WithMore:
    async def __call__(
        self, scope: Scope, receive: Receive, send: Send, more: object = None
    ) -> None:
        pass


def with_dependencies(function: Callable[..., Any]) -> Callable[..., Any]:
    """As injectors do: what is called takes less than what it is named after."""

    @wraps(function)
    def injected(*args: object) -> Any:  # noqa: ANN401 - whatever the function returns
        return function(*args, "a connection")

    return injected


@with_dependencies
async def with_connection(scope: Scope, receive: Receive, send: Send, connection: str) -> None:
    pass


@with_dependencies
def by_connection(method: str, params: Mapping[str, Any], connection: str) -> Requirement | None:
    return None


async def hands_on(*args: object, **options: object) -> None:
    pass


async def with_options(
    option: str, scope: Scope, receive: Receive, send: Send, *, further: str = ""
) -> None:
    pass


@pytest.mark.parametrize(
    "app",
    [
        *(as_function, WithMore(), hands_on, partial(with_options, "x"), Mock(), made()),
        *(Starlette(), with_connection),
    ],
)
def test_whatever_takes_what_asgi_gives_is_an_app(app: ASGIApp) -> None:
    SessionGate(app, resolver=MemoryResolver(), resource=RESOURCE)


def test_a_function_is_what_is_called_and_not_what_it_wraps() -> None:
    SessionGate(
        as_function, resolver=MemoryResolver(), resource=RESOURCE, requirement=by_connection
    )


@pytest.mark.parametrize(
    ("given", "mended"),
    [
        ("https://MCP.example/mcp", "https://mcp.example/mcp"),
        ("https://MCP.example/mcp?token=s3cret", "https://mcp.example/mcp?..."),
        ("HTTPS://MCP.example:08443/mcp#x", "https://mcp.example:8443/mcp"),
        ("https://mcp.example:443/mcp#x", "https://mcp.example/mcp"),
    ],
)
def test_the_error_has_the_spelling_to_write(given: str, mended: str) -> None:
    with pytest.raises(ValueError, match=f"write {re.escape(repr(mended))}$") as caught:
        SessionGate(Starlette(), resolver=MemoryResolver(), resource=given)
    assert "s3cret" not in str(caught.value)


@pytest.mark.parametrize(
    ("given", "canonical"),
    [
        ("https://mcp.example:443/mcp", "https://mcp.example/mcp"),
        ("https://mcp.example:/mcp", "https://mcp.example/mcp"),
        ("http://mcp.example:80/", "http://mcp.example"),
        ("https://[::1]:0443/%6dcp", "https://[::1]/mcp"),
    ],
)
def test_a_resource_has_one_spelling_from_here_on(given: str, canonical: str) -> None:
    assert arguments.resource("resource", given) == canonical


@pytest.mark.parametrize(
    ("server", "fault"),
    [
        ("https://idp.example/\n", "has a control character in it, at character 21"),
        ("https://a b", "has a space in it, at character 10"),
        ("https://a/\u00e9", "is not ASCII at character 11: write a host in punycode"),
        ("http://idp.example", "is neither https nor http on loopback"),
        ("https://idp.example/../x", "has a segment . or .. in its path"),
    ],
)
def test_an_authorization_server_is_named_by_its_place_and_fault(server: str, fault: str) -> None:
    given = [ISSUER, server]
    with pytest.raises(ValueError, match=r"authorization_servers\[1\]: ") as caught:
        metadata_routes(RESOURCE, authorization_servers=given, scopes=[])
    assert str(caught.value).endswith(fault) or f"; this one {fault}" in str(caught.value)


@pytest.mark.parametrize(
    "server",
    ["https://u:s3cret@a", "https://user:s3cret/", "http://as?client_secret=s3cret", "s3cret"],
)
def test_an_authorization_server_that_is_wrong_is_not_shown(server: str) -> None:
    with pytest.raises(ValueError, match=r"authorization_servers\[0\]: it is wrong") as caught:
        metadata_routes(RESOURCE, authorization_servers=[server], scopes=[])
    assert "s3cret" not in str(caught.value)
    with pytest.raises(TypeError, match="authorization_servers is a sequence") as caught_too:
        metadata_routes(RESOURCE, authorization_servers=server, scopes=[])
    assert "s3cret" not in str(caught_too.value)


@pytest.mark.parametrize(
    "name", ["", "Weather \U0001f469\u200d\U0001f4bb", "Mete\u00a0o", "\u5929"]
)
def test_a_name_for_people_is_any_line(name: str) -> None:
    assert metadata_routes(RESOURCE, authorization_servers=[], scopes=[], name=name)


@pytest.mark.parametrize(
    "name", ["a\nb", "a\x00", "a\x85b", "a\u2028b", "a\ud800", " a", "a\u00a0"]
)
def test_a_name_for_people_has_no_control_character(name: str) -> None:
    with pytest.raises(ValueError, match="name is one line of text"):
        metadata_routes(RESOURCE, authorization_servers=[], scopes=[], name=name)


def test_a_password_in_a_resource_is_not_shown() -> None:
    with pytest.raises(ValueError, match="no user or password") as caught:
        metadata_routes("https://u:s3cret@mcp.example", authorization_servers=[], scopes=[])
    assert "s3cret" not in str(caught.value)


def test_an_endpoint_at_the_root_is_never_open() -> None:
    with pytest.raises(ValueError, match="open_paths: / is the MCP endpoint, which needs the gate"):
        SessionGate(
            Starlette(),
            resolver=MemoryResolver(),
            resource="https://mcp.example",
            open_paths=["/"],
        )


@pytest.mark.parametrize(
    "resource",
    [
        *("http://auth_svc:8000/mcp", "http://localhost:8000/mcp", "http://[::1]:8000/mcp"),
        *("https://xn--bcher-kva.example/mcp", "https://mcp.example/", "https://mcp.example."),
        *("https://10.0.0.7/a/b/mcp", "https://mcp.example/~a/b;c=1/mcp?a[]=1&b=%20"),
    ],
)
def test_a_resource_of_any_host_is_accepted(resource: str) -> None:
    SessionGate(Starlette(), resolver=MemoryResolver(), resource=resource)
    with_origin_checks(Starlette(), resource=resource, allowed_hosts=[], allowed_origins=[])


def test_what_is_right_is_accepted() -> None:
    SessionGate(
        Starlette(),
        resolver=MemoryResolver(),
        resource="http://127.0.0.1:8000/team/mcp?tenant=1",
        authorization_servers=(issuer for issuer in RIGHT_ISSUERS),  # type: ignore[arg-type] # whatever can be gone through once
        scopes={"a:b", "c"},  # type: ignore[arg-type] # a set
        open_paths=("/healthz", "/static/", "/"),
        max_body_bytes=1,
        body_timeout_seconds=1,
    )


@pytest.mark.parametrize(
    ("name", "value", "error"),
    [
        *SCOPES,
        *each("implied_by", ["a", None, [("a", "b")]], TypeError),
        *each("implied_by", [{"a": "b"}, {"a": 7}, {"a": {7}}], TypeError),
        *each("implied_by", [{"a": {"b c"}}, {"a": {""}}], ValueError),
    ],
)
def test_a_requirement(name: str, value: object, error: type[Exception]) -> None:
    given: dict[str, Any] = {name: value}
    with pytest.raises(error, match=name):
        Requirement(**given)


def test_a_requirement_that_can_be_met() -> None:
    listed = Requirement(["a:b"])  # type: ignore[arg-type] # a list

    assert listed == Requirement(("a:b",))
    assert hash(listed.scopes)
    assert listed.met_by(["a:b"])
    assert Requirement(("a",), {"a": ["b"]}).met_by({"b"})  # type: ignore[dict-item] # a list


@pytest.mark.parametrize(
    ("requirement", "implied", "error"),
    [
        (None, {}, TypeError),
        (later, {}, TypeError),
        (lambda method: None, {}, TypeError),
        (default_requirement, None, TypeError),
        (default_requirement, "a", TypeError),
        (default_requirement, {"a": "b"}, TypeError),
        (default_requirement, {"a": ["b c"]}, ValueError),
        (default_requirement, {"a b": ["c"]}, ValueError),
        (default_requirement, {"a": []}, ValueError),
        (default_requirement, {"all": ["a"], "b": ["b"]}, ValueError),
    ],
)
def test_broader_scopes(requirement: object, implied: object, error: type[Exception]) -> None:
    given: dict[str, Any] = {"requirement": requirement, "implied": implied}
    with pytest.raises(error, match="requirement" if implied == {} else "implied"):
        with_broader_scopes(**given)


def test_broader_scopes_that_can_be_gone_through_once() -> None:
    implied = {"all": (scope for scope in ["read", "write"])}

    of = with_broader_scopes(lambda method, params: Requirement(("read",)), implied)

    needed = of("x", {})
    assert needed is not None
    assert needed.met_by({"all"})


@pytest.mark.parametrize(
    ("name", "value", "error"),
    [*RESOURCES, *ISSUERS, *SCOPES, ("name", None, TypeError), ("name", "a\x1b", ValueError)],
)
def test_metadata(name: str, value: object, error: type[Exception]) -> None:
    given: dict[str, Any] = {
        "resource": RESOURCE,
        "authorization_servers": [ISSUER],
        "scopes": [],
    }
    with pytest.raises(error, match=name):
        metadata_routes(**{**given, name: value})


@pytest.mark.parametrize(
    ("name", "value", "error"),
    [
        *RESOURCES,
        *each("allowed_hosts", ["mcp.example", None, [7]], TypeError),
        *each("allowed_hosts", [["*.*"], ["a.*"], ["*a.example"], ["*:443"], ["*:*"]], ValueError),
        *each("allowed_hosts", [["*."], ["*.[::1]"], ["*.10.0.0.7"], ["**"], [".a"]], ValueError),
        *each("allowed_hosts", [[""], ["https://x"], ["x:"], ["x:443:*"]], ValueError),
        *each("trusted_proxies", ["10.0.0.7", None, [7]], TypeError),
        *each("trusted_proxies", [["*"], ["proxy.example"], [""], ["10.0.0.7/8"]], ValueError),
        *each("trusted_proxies", [["10.0.0.7:80"], ["[::1]"], ["::1%eth0"], ["10.1"]], ValueError),
        *each("allowed_hosts", [["x:99999"], ["x:0"], ["x:0065536"]], ValueError),
        *each("allowed_origins", [["https://x:99999"]], ValueError),
        *each(
            "allowed_hosts", [["..."], ["a..b"], ["-a"], ["[::1"], ["[g]"], ["1.2.3"]], ValueError
        ),
        *each("allowed_hosts", [["a:*:*"], ["a\n"], ["[::1%eth0]:1"], ["a:1:*"]], ValueError),
        *each("allowed_origins", [["https://..."], ["https://a..b"], ["https://[:]"]], ValueError),
        *each("app", NO_APPS, TypeError),
        *each("allowed_hosts", [["MCP.example"], ["x/y"], ["x:y"], ["a b"]], ValueError),
        *each("allowed_origins", ["https://app.example", None, [7]], TypeError),
        *each("allowed_origins", [["*"], ["app.example"], ["https://*"], ["NULL"]], ValueError),
        *each("allowed_origins", [["app://a b"], ["app:x"], ["app://x/"], ["1x://a"]], ValueError),
        *each("allowed_origins", [["https://a:1:*"], ["app://x:1:*"], ["null:*"]], ValueError),
        *each("allowed_origins", [["app://x:"], ["https://"], ["https://*.a"]], ValueError),
        *each("allowed_origins", [["https://app.example/"], ["https://App.example"]], ValueError),
    ],
)
def test_a_guard(name: str, value: object, error: type[Exception]) -> None:
    given: dict[str, Any] = {
        "app": Starlette(),
        "resource": RESOURCE,
        "allowed_hosts": [],
        "allowed_origins": [],
        "trusted_proxies": [],
    }
    with pytest.raises(error, match=name):
        with_origin_checks(**{**given, name: value})


@pytest.mark.parametrize(
    ("name", "value", "error"), [("server", None, TypeError), ("server", "x", TypeError), *SIZES]
)
def test_the_transport(name: str, value: object, error: type[Exception]) -> None:
    given: dict[str, Any] = {"server": demo_server(Meeting()), "max_body_bytes": 1}
    with pytest.raises(error, match=name):
        StreamableHttp(**{**given, name: value})


@pytest.mark.parametrize("target", [None, 7, ["127.0.0.1:1"], b"127.0.0.1:1"])
def test_a_resolver_is_at_one_address(target: object) -> None:
    given: dict[str, Any] = {"target": target}
    with pytest.raises(TypeError, match="target"):
        resolver_at(**given)


@pytest.mark.parametrize(
    ("name", "value", "error"), [*SCOPES, *each("permissions", ["s3:GetObject", 7], TypeError)]
)
def test_a_tool(name: str, value: object, error: type[Exception]) -> None:
    async def nothing(call: Call) -> Nothing:
        """Nothing."""
        return Nothing()

    given: dict[str, Any] = {name: value}
    with pytest.raises(error, match=name):
        tool(title="Nothing", **given)(nothing)


# What a requirement returns is checked for each call.


def none_by_mistake(method: str, params: Mapping[str, Any]) -> object:
    return False if method == "tools/call" else default_requirement(method, params)


def text_by_mistake(method: str, params: Mapping[str, Any]) -> object:
    return "things.read" if method == "tools/call" else default_requirement(method, params)


def awaited_by_mistake(method: str, params: Mapping[str, Any]) -> object:
    return later(method, params) if method == "tools/call" else None


def broken(method: str, params: Mapping[str, Any]) -> Requirement | None:
    return Requirement() if method != "tools/call" else Requirement((params["a secret"],))


@pytest.mark.anyio
@pytest.mark.parametrize(
    "requirement", [none_by_mistake, text_by_mistake, awaited_by_mistake, broken]
)
async def test_an_answer_that_is_no_requirement_opens_nothing(
    requirement: Any,  # noqa: ANN401 - of the wrong type on purpose
    caplog: pytest.LogCaptureFixture,
) -> None:
    reached: list[Resolution] = []

    def app(meeting: Meeting, *, stateless: bool) -> ASGIApp:
        async def serve(scope: Scope, receive: Receive, send: Send) -> None:
            if scope["type"] != "http":
                raise NotImplementedError
            reached.append(scope["state"]["resolution"])
            headers = [(b"content-type", b"application/json")]
            await send({"type": "http.response.start", "status": 200, "headers": headers})
            await send({"type": "http.response.body", "body": b"{}"})

        return serve

    caplog.set_level(logging.ERROR, "mcp_adapter")
    resolver = MemoryResolver(sessions={"s": owner("alice")})
    async with endpoint_of(app, resolver, stateless=True, requirement=requirement) as endpoint:
        response = await endpoint.post(call("x"), session="s")

    assert response.status_code == 500
    assert response.json()["error"] == {"code": -32603, "message": "Internal server error."}
    assert reached == []
    assert "the requirement" in caplog.text
    assert "a secret" not in "".join(
        record.getMessage().split("\n")[0] for record in caplog.records
    )
