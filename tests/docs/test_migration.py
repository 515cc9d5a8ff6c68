"""docs/migration.md: both sides of each change are run, and answer clients as its table says."""

from __future__ import annotations

import io
import json
import re
import sys
import textwrap
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, redirect_stdout
from dataclasses import dataclass, field
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, cast
from urllib.parse import parse_qs

import anyio
import httpx2
import jwt
import pytest
import yaml  # type: ignore[import-untyped] # it has no stubs
from click.testing import CliRunner
from cryptography.hazmat.primitives.asymmetric.rsa import generate_private_key
from jwt.algorithms import RSAAlgorithm
from mcp.shared.exceptions import MCPError
from starlette.datastructures import Headers
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from authsvc.cli import main
from authsvc.common.settings import load
from authsvc.server.config import Settings
from authsvc.server.running import running as running_authsvc
from examples import call as call_example
from tests.mcp_adapter.harness import (
    DEADLINE_SECONDS,
    Endpoint,
    Meeting,
    MemoryResolver,
    call,
    initialize,
    message_of,
    request,
    running,
)
from tests.support.bounds import TIMEOUT_SECONDS
from tests.support.clock import Clock
from tests.support.commands import environment
from tests.support.processes import ROOT

PAGE = (ROOT / "docs" / "migration.md").read_text(encoding="utf-8")
ISSUER = "https://idp.example.com"
RESOURCE = "https://mcp.example.com/mcp"
SECRET = "the-client-secret"
NOTHING = "–"  # noqa: RUF001 - as the page has it
GATE = "the gate"


def blocks(language: str, text: str) -> list[str]:
    found = re.findall(rf"^( *)```{language}\n(.*?)```", text, re.DOTALL | re.MULTILINE)
    return [textwrap.dedent(block) for _, block in found]


def section(title: str) -> str:
    return PAGE.partition(f"\n## {title}\n")[2].partition("\n## ")[0]


def side(diff: str, sign: str) -> str:
    """The file before (``-``) or after (``+``) a change."""
    lines = diff.splitlines()
    return "\n".join(line[1:] for line in lines if not line or line[0] in {" ", sign})


@dataclass(frozen=True)
class Change:
    """One section of the page.

    Attributes:
        column: of the table.
        title: of the section.
        audience: what tokens name.
    """

    column: str
    title: str
    audience: str = RESOURCE

    @property
    def diff(self) -> str:
        """Its server."""
        (diff,) = (it for it in blocks("diff", section(self.title)) if "MCP" in it)
        return diff

    @property
    def asks_for_a_scope(self) -> bool:
        """Whether its gate does."""
        return "scopes=" in side(self.diff, "+")

    def configuration(self) -> str:
        """Of authsvc."""
        (base,) = blocks("toml", section("The same in each"))
        added = "".join(blocks("toml", section(self.title)))
        if added.startswith("[introspection]"):
            base = base.partition("[[issuers]]")[0]
        return base + added


CHANGES = [
    Change("session cache", "From a session cache of your own"),
    Change("`JWTVerifier`", "From FastMCP's `JWTVerifier`"),
    Change("`TokenVerifier`", "From the SDK's `TokenVerifier`"),
    Change("PyJWT", "From a PyJWT middleware", "docs-api"),
    Change("proxy", "From ToolHive or agentgateway", "docs-api"),
]
each_change = pytest.mark.parametrize("change", CHANGES, ids=lambda it: it.column)


@dataclass
class Provider:
    """The issuer: its keys and its introspection endpoint, in a thread, as PyJWT blocks the loop.

    Attributes:
        url: where it is.
        answers: whether it does.
        revoked: tokens that are not active.
    """

    url: str = ""
    answers: bool = True
    revoked: set[str] = field(default_factory=set)
    key: Any = field(default_factory=lambda: generate_private_key(65537, 2048), repr=False)

    def token(self, subject: str, audience: str, **claims: object) -> str:
        """A token of its own."""
        now = int(time.time())
        made = {
            "iss": ISSUER,
            "sub": subject,
            "aud": audience,
            "client_id": "client",
            "scope": "docs.read",
            "roles": ["reader"],
            "iat": now - 60,
            "exp": now + 600,
            **claims,
        }
        return jwt.encode(made, self.key, "RS256", headers={"kid": "k1"})

    def jwks(self) -> dict[str, Any]:
        """Its public key."""
        public = RSAAlgorithm.to_jwk(self.key.public_key(), as_dict=True)
        return {"keys": [{**public, "kid": "k1", "alg": "RS256", "use": "sig"}]}

    def introspected(self, token: str) -> Mapping[str, Any]:
        """What it knows of a token (RFC 7662)."""
        try:
            options: Any = {"verify_aud": False}
            claims = jwt.decode(token, self.key.public_key(), ["RS256"], options=options)
        except jwt.InvalidTokenError:
            return {"active": False}
        return {"active": False} if token in self.revoked else {"active": True, **claims}


class Handler(BaseHTTPRequestHandler):
    """Answers for a provider."""

    def __init__(self, provider: Provider, *arguments: Any) -> None:  # noqa: ANN401 - the base class's
        self._provider = provider
        super().__init__(*arguments)

    def do_GET(self) -> None:
        """Its keys."""
        self._answer(self._provider.jwks())

    def do_POST(self) -> None:
        """Introspection."""
        form = parse_qs(self.rfile.read(int(self.headers["Content-Length"])).decode())
        self._answer(self._provider.introspected(form["token"][0]))

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002, ANN401 - the base class's
        """Nothing."""

    def _answer(self, document: Mapping[str, Any]) -> None:
        body = json.dumps(document).encode() if self._provider.answers else b""
        self.send_response(200 if self._provider.answers else 503)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


@pytest.fixture(scope="module")
def served_provider() -> Iterator[Provider]:
    provider = Provider()
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, provider)) as server:
        provider.url = f"http://127.0.0.1:{server.server_address[1]}"
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        yield provider
        server.shutdown()
        thread.join(TIMEOUT_SECONDS)


@pytest.fixture
def provider(served_provider: Provider) -> Provider:
    served_provider.answers = True
    return served_provider


def led_to(provider: Provider, text: str, folder: Path) -> str:
    """Text of the page with this provider's endpoints, and files of this test."""
    (folder / "idp").write_text(SECRET)
    for written, here in {
        f'"{ISSUER}/': f'"{provider.url}/',
        "/run/secrets/idp": str(folder / "idp"),
        "/var/lib/authsvc/authsvc.db": str(folder / "authsvc.db"),
    }.items():
        text = text.replace(written, here)
    return text


def written_configuration(change: Change, provider: Provider, folder: Path) -> Path:
    """The page's ``authsvc.toml``, for an issuer on this machine."""
    text = led_to(provider, change.configuration(), folder).replace(":50051", ":0")
    text = re.sub(
        r"^(jwks_url|endpoint) = .*$",
        r"\g<0>\nallow_private_addresses = true",
        text,
        flags=re.MULTILINE,
    )
    path = folder / "authsvc.toml"
    path.write_text(f"drain_seconds = 0\n{text}")
    return path


class Proxy:
    """Stands for a proxy that checks tokens, and takes them away unless it passes them on."""

    def __init__(self, app: ASGIApp, provider: Provider, *, passes_on: bool = False) -> None:
        self._app = app
        self._provider = provider
        self._passes_on = passes_on

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            token = Headers(scope=scope).get("authorization", "").removeprefix("Bearer ")
            if not self._provider.introspected(token)["active"]:
                await Response(status_code=401)(scope, receive, send)
                return
            if not self._passes_on:
                kept = [it for it in scope["headers"] if it[0] != b"authorization"]
                scope = {**scope, "headers": kept}
        await self._app(scope, receive, send)


def app_of(code: str) -> ASGIApp:
    """What a file of the page serves."""
    page: dict[str, Any] = {"__name__": "server"}
    exec(compile(code, "server.py", "exec"), page)  # noqa: S102 - the page's own code
    return cast("ASGIApp", page["app"])


@dataclass
class Server:
    """One side of a change, running.

    Attributes:
        url: where it listens.
        endpoint: speaks to it.
        token: a token of a subject for it.
    """

    url: str
    endpoint: Endpoint
    token: Any


@asynccontextmanager
async def serving(app: ASGIApp, change: Change, provider: Provider) -> AsyncIterator[Server]:
    async with (
        running(app) as url,
        httpx2.AsyncClient(base_url=url, timeout=DEADLINE_SECONDS) as http,
    ):
        endpoint = Endpoint(http, MemoryResolver(), Meeting())
        yield Server(url, endpoint, partial(provider.token, audience=change.audience))


@asynccontextmanager
async def before(
    change: Change, provider: Provider, folder: Path, *, code: str = ""
) -> AsyncIterator[Server]:
    """The server that the reader has; ``code`` in place of the page's."""
    app = app_of(led_to(provider, code or side(change.diff, "-"), folder))
    if change.column == "proxy":
        app = Proxy(app, provider)
    async with serving(app, change, provider) as server:
        yield server


@asynccontextmanager
async def after(
    change: Change,
    provider: Provider,
    folder: Path,
    *,
    code: str = "",
    clock: Callable[[], float] = time.time,
    in_front: Callable[[ASGIApp], ASGIApp] = lambda app: app,
) -> AsyncIterator[Server]:
    """The server behind the gate, with authsvc as the page configures it.

    Args:
        code: in place of the page's.
        clock: of authsvc.
        in_front: what stands before the server.
    """
    settings = load(Settings, written_configuration(change, provider, folder))
    async with running_authsvc(settings, clock=clock) as address:
        code = (code or side(change.diff, "+")).replace("127.0.0.1:50051", address)
        async with serving(in_front(app_of(code)), change, provider) as server:
            yield server


# What clients see.


def told(response: httpx2.Response) -> str:
    """A cell of the table, for the answer to a call."""
    if response.status_code != 200:
        return str(response.status_code)
    text = str(message_of(response)["result"]["content"][0]["text"])
    return "served" if text == "the server" else f"served as {text.partition(':')[0]}"


async def open_methods(server: Server) -> str:
    begun = await server.endpoint.post(initialize(), version=None)
    session = begun.headers.get("mcp-session-id")
    answers = [
        begun,
        await server.endpoint.post(request("ping"), session=session),
        await server.endpoint.post(request("tools/list"), session=session),
        await server.endpoint.modern("server/discover"),
    ]
    (status,) = {it.status_code for it in answers}
    return "served" if status == 200 else str(status)


def challenge(response: httpx2.Response) -> str:
    header = response.headers.get("www-authenticate", "")
    named = {"resource_metadata=": "metadata", "scope=": "scopes"}
    found = [name for part, name in named.items() if re.search(rf"(^|[ ,]){part}", header)]
    return ", ".join(found) or "nothing"


async def streams(server: Server, session: str, token: str) -> str:
    headers = {
        "Accept": "text/event-stream",
        "Mcp-Session-Id": session,
        "Authorization": f"Bearer {token}",
    }
    async with server.endpoint.http.stream("GET", "/mcp", headers=headers) as response:
        if response.status_code == 200:
            assert response.headers["content-type"].startswith("text/event-stream")
            return "a stream"
        return str(response.status_code)


async def observed(server: Server) -> dict[str, str]:
    """The table's rows, for a server whose issuer answers."""
    post, ada = server.endpoint.post, server.token("ada")
    session = await server.endpoint.open(ada)
    writer = server.token("ada", roles=["writer"], iat=int(time.time()) - 30)
    expired = server.token("ada", iat=time.time() - 600, exp=time.time() - 60)
    narrow = server.token("ada", scope="docs.none", iat=int(time.time()) - 90)

    async def called(token: str | None, session: str = session) -> httpx2.Response:
        return await post(call("whoami"), session=session, token=token)

    assert told(await called(ada)) in {"served", "served as ada"}
    without = await called(None)
    rows = {
        "`initialize`, `ping`, `tools/list`, `server/discover` without a token": await open_methods(
            server
        ),
        "a call without a token, on ada's session": told(without),
        "the challenge of that names": challenge(without),
        "a token without the required scope": told(await called(narrow)),
        "ada's token after it has expired, on her session": told(await called(expired)),
        "bob's token on ada's session": told(await called(server.token("bob"))),
        "a session id that nobody was given": told(await called(ada, session="0" * 32)),
        "GET for a stream": await streams(server, session, ada),
    }
    answer = str(message_of(await called(writer))["result"]["content"][0]["text"])
    role = {"ada: ['reader']": "with the old role", "ada: ['writer']": "with the new role"}
    rows["ada's token of another role, on her session"] = role.get(answer, NOTHING)
    return rows


def table() -> dict[str, dict[str, str]]:
    """The page's table: by column, by row."""
    _, _, text = PAGE.partition("\n| a client sends |")
    lines = [
        f"| a client sends |{line}" if not at else line
        for at, line in enumerate(text.partition("\n\n")[0].splitlines())
    ]
    head, _, *rows = ([cell.strip() for cell in line.strip("|").split("|")] for line in lines)
    return {column: {row[0]: row[at] for row in rows} for at, column in enumerate(head) if at}


UNREACHABLE = "a token while the issuer does not answer"


def expected(column: str, change: Change) -> dict[str, str]:
    """The table's cells for a section: what needs a scope only where its gate asks for one."""
    rows = {row: cell for row, cell in table()[column].items() if row != UNREACHABLE}
    if not change.asks_for_a_scope:
        del rows["a token without the required scope"]
    if column == GATE and not change.asks_for_a_scope:
        rows = {row: cell.removesuffix(", scopes") for row, cell in rows.items()}
    return {row: cell for row, cell in rows.items() if cell != NOTHING}


@pytest.mark.anyio
@each_change
async def test_clients_see_what_the_table_says(
    change: Change, provider: Provider, tmp_path: Path
) -> None:
    for column, side_of in ((change.column, before), (GATE, after)):
        async with side_of(change, provider, tmp_path) as server:
            seen = await observed(server)
        told_by_the_page = expected(column, change)
        assert len(told_by_the_page) >= 6
        assert {row: seen[row] for row in told_by_the_page} == told_by_the_page


@pytest.mark.anyio
@pytest.mark.parametrize("change", CHANGES[:-1], ids=lambda it: it.column)
async def test_an_issuer_that_does_not_answer(
    change: Change, provider: Provider, tmp_path: Path
) -> None:
    provider.answers = False
    for column, side_of in ((change.column, before), (GATE, after)):
        async with side_of(change, provider, tmp_path) as server:
            answer = await server.endpoint.post(
                initialize(), token=server.token("ada"), version=None
            )
        assert str(answer.status_code) == table()[column][UNREACHABLE]
    assert int(answer.headers["retry-after"]) > 0


# How the page has it checked.

OFFLINE, ASKED, DOCTOR = blocks("sh", section("The same in each"))


@pytest.mark.anyio
@each_change
async def test_the_commands_print_what_is_written_beside_them(
    change: Change, provider: Provider, tmp_path: Path
) -> None:
    for column, side_of in (("before", before), ("after", after)):
        async with side_of(change, provider, tmp_path) as server:
            (tmp_path / "token").write_text(server.token("ada"))
            script = ASKED.replace("http://127.0.0.1:8000", server.url)
            done = await anyio.run_process(
                ["/bin/bash", "-e", "-u", "-c", script], cwd=tmp_path, env=environment({})
            )
        assert done.stdout.decode().split() == re.findall(rf"{column}: (\d+)", ASKED)


@pytest.mark.parametrize("change", [CHANGES[1], CHANGES[3]], ids=lambda it: it.column)
def test_explain_judges_tokens_as_the_old_check_did(
    change: Change, provider: Provider, tmp_path: Path
) -> None:
    check, explain = OFFLINE.splitlines()
    config = written_configuration(change, provider, tmp_path)
    judged = {
        provider.token("ada", change.audience): "accepted",
        provider.token("ada", "https://other.example.com/mcp"): "TOKEN_AUDIENCE_MISMATCH",
        provider.token("ada", change.audience, exp=time.time() - 60): "TOKEN_EXPIRED",
        Provider().token("ada", change.audience): "TOKEN_SIGNATURE_INVALID",
    }
    assert command(check, config).exit_code == 0
    for token, verdict in judged.items():
        ran = command(explain.partition(" <")[0], config, token)
        assert (ran.exit_code == 0, verdict in ran.output) == (verdict == "accepted", True)


def command(line: str, config: Path, given: str = "") -> Any:  # noqa: ANN401 - of click
    program, *arguments = line.replace("authsvc.toml", str(config)).split()
    assert program == "authsvc"
    return CliRunner().invoke(main, arguments, input=given)


@pytest.mark.anyio
async def test_the_doctor_finds_nothing(provider: Provider, tmp_path: Path) -> None:
    config = written_configuration(CHANGES[1], provider, tmp_path)
    async with running_authsvc(load(Settings, config)) as address:
        config.write_text(config.read_text().replace("127.0.0.1:0", address))
        (line,) = DOCTOR.splitlines()
        done = await anyio.run_process(
            [sys.executable, "-W", "error", "-m", *line.split()], cwd=tmp_path, check=False
        )
    assert (done.returncode, b"fail " in done.stdout) == (0, False), done.stdout.decode()


@pytest.mark.anyio
async def test_the_example_client_before_and_after(provider: Provider, tmp_path: Path) -> None:
    change = CHANGES[1]
    async with before(change, provider, tmp_path) as server:
        with pytest.raises(BaseExceptionGroup) as failure:
            await call_example.main(f"{server.url}/mcp", "whoami", server.token("ada"))
        assert failure.group_contains(MCPError)
    printed = io.StringIO()
    async with after(change, provider, tmp_path) as server:
        with redirect_stdout(printed):
            await call_example.main(f"{server.url}/mcp", "whoami", server.token("ada"))
    refused, answer = printed.getvalue().splitlines()
    assert refused == "refused: This request needs an access token."
    assert answer == "ada: ['reader']"


# What the sections say besides.


@pytest.mark.anyio
async def test_all_methods_can_be_closed_as_before(provider: Provider, tmp_path: Path) -> None:
    change = CHANGES[1]
    (closed,) = blocks("python", section("What changes for clients"))
    code = side(change.diff, "+")
    own = code[code.index("def requirement") : code.index("app = ")]
    async with after(change, provider, tmp_path, code=code.replace(own, closed)) as server:
        for refused in (
            await server.endpoint.post(initialize(), version=None),
            await server.endpoint.modern("server/discover"),
        ):
            assert refused.status_code == 401
        token = server.token("ada", scope="docs.none")
        refused = await server.endpoint.post(initialize(), token=token, version=None)
        assert refused.status_code == 403
        session = await server.endpoint.open(server.token("ada"))
        answer = await server.endpoint.post(
            call("whoami"), session=session, token=server.token("ada")
        )
        assert told(answer) == "served as ada"


@pytest.mark.anyio
@pytest.mark.parametrize("change", CHANGES[1:3], ids=lambda it: it.column)
async def test_frameworks_get_a_placeholder_for_the_token(
    change: Change, provider: Provider, tmp_path: Path
) -> None:
    shown = "return f\"{claims['sub']}: {claims['roles']}\""
    asked = (
        'it = get_access_token()\n    return f"{it.token} {it.client_id} {it.subject} {it.scopes}"'
    )
    for side_of, sign in ((before, "-"), (after, "+")):
        code = side(change.diff, sign).replace(shown, asked)
        async with side_of(change, provider, tmp_path, code=code) as server:
            token = server.token("ada")
            session = await server.endpoint.open(token)
            answer = await server.endpoint.post(call("whoami"), session=session, token=token)
        text = message_of(answer)["result"]["content"][0]["text"]
        placeholder, _, rest = text.partition(" ")
        assert rest == "client ada ['docs.read']"
        assert (placeholder == token) == (sign == "-")


@pytest.mark.anyio
async def test_a_token_that_the_issuer_revokes_is_served_for_half_a_minute(
    provider: Provider, tmp_path: Path
) -> None:
    change, clock = CHANGES[2], Clock(time.time())
    answers: dict[str, list[int]] = {"before": [], "after": []}
    for name, context in {
        "before": before(change, provider, tmp_path),
        "after": after(change, provider, tmp_path, clock=clock),
    }.items():
        async with context as server:
            token = server.token("ada", jti=name)
            session = await server.endpoint.open(token)
            for seconds in (0, 28, 3):
                clock.advance(seconds)
                called = await server.endpoint.post(call("whoami"), session=session, token=token)
                answers[name].append(called.status_code)
                provider.revoked.add(token)
    assert answers == {"before": [200, 401, 401], "after": [200, 200, 401]}


@pytest.mark.anyio
async def test_leeway_after_the_end_of_a_token(provider: Provider, tmp_path: Path) -> None:
    change, seen = CHANGES[3], {}
    for side_of in (before, after):
        async with side_of(change, provider, tmp_path) as server:
            token = server.token("ada", exp=time.time() - 5)
            answer = await server.endpoint.post(initialize(), token=token, version=None)
        seen[side_of] = answer.status_code
    assert seen == {before: 401, after: 200}


@pytest.mark.anyio
async def test_around_the_proxy_the_old_server_served_anybody(
    provider: Provider, tmp_path: Path
) -> None:
    change = CHANGES[-1]
    async with serving(app_of(side(change.diff, "-")), change, provider) as server:
        session = await server.endpoint.open()
        answer = await server.endpoint.post(call("whoami"), session=session)
    assert told(answer) == "served"
    async with after(change, provider, tmp_path) as server:
        session = await server.endpoint.open()
        answer = await server.endpoint.post(call("whoami"), session=session)
    assert told(answer) == "401"


@pytest.mark.anyio
@pytest.mark.parametrize("passes_on", [True, False])
async def test_a_proxy_that_keeps_its_check(
    passes_on: bool, provider: Provider, tmp_path: Path
) -> None:
    def proxied(app: ASGIApp) -> ASGIApp:
        return Proxy(app, provider, passes_on=passes_on)

    async with after(CHANGES[-1], provider, tmp_path, in_front=proxied) as server:
        ada = server.token("ada")
        assert (await server.endpoint.post(initialize(), version=None)).status_code == 401
        session = await server.endpoint.open(ada)
        answer = await server.endpoint.post(call("whoami"), session=session, token=ada)
    assert told(answer) == ("served as ada" if passes_on else "401")


def test_the_configuration_of_agentgateway_is_yaml() -> None:
    """It is not run: there is no agentgateway here."""
    (diff,) = (it for it in blocks("diff", section(CHANGES[-1].title)) if "binds:" in it)
    ((old,), (new,)) = (
        yaml.safe_load(side(diff, sign))["binds"][0]["listeners"][0]["routes"] for sign in "-+"
    )
    assert old["policies"]["mcpAuthentication"]["issuer"] == ISSUER
    assert (old["matches"], new.keys()) == (new["matches"], {"matches", "backends"})


def test_every_section_of_the_page_is_run() -> None:
    titles = re.findall(r"^## (From .*)$", PAGE, re.MULTILINE)
    assert titles == [change.title for change in CHANGES]
    assert [*table()] == [*(change.column for change in CHANGES), GATE]
