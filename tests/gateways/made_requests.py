"""Requests to an MCP server, made at random: in all that clients, proxies and attackers vary."""

from __future__ import annotations

import base64
import copy
import json
import random
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from mcp_types.version import KNOWN_PROTOCOL_VERSIONS

MODERN = "2026-07-28"
BATCHES = "2025-03-26"
VERSION_KEY = "io.modelcontextprotocol/protocolVersion"

TOOLS = ("read", "delete", "list", "unheard-of")
METHODS = (
    *("initialize",) * 4,
    *("ping", "tools/list", "prompts/list", "server/discover"),
    *("resources/read", "prompts/get", "completion/complete", "x/y", ""),
    *("notifications/initialized", "notifications/cancelled"),
)
WELL_KNOWN = "/.well-known/oauth-protected-resource"
METADATA_PATHS = (
    *(WELL_KNOWN, f"{WELL_KNOWN}/", f"{WELL_KNOWN}/mcp", f"{WELL_KNOWN}/mcp/"),
    *(WELL_KNOWN.replace("-", "%2D"), f"{WELL_KNOWN}/%6dcp"),
)
OTHER_PATHS = ("/mcp/", "/mcp/x", f"{WELL_KNOWN}/other", "/.well-known/openid-configuration")

BODILESS = {"GET", "DELETE"}
"""Methods whose body a gate leaves unread, and a check has to refuse."""

FRESH = "fresh"
"""A session that authsvc has not heard of, or, where it mints them, one that is unknown."""


@dataclass
class Made:
    """One request.

    Attributes:
        method: HTTP's.
        path: not decoded.
        headers: as the client spells them, but for the session's.
        session: names a session of the test's; ``FRESH`` for a new one; empty for none.
        session_header: as the client spells it.
        body: of the request.
        token: the name of the token that it presents; empty for none, or for what is no token.
        as_map: whether the gateway sends headers as a map.
        as_text: whether it sends the body as text.
    """

    method: str
    path: str
    headers: list[tuple[str, str]] = field(default_factory=list)
    session: str = ""
    session_header: str = "Mcp-Session-Id"
    body: bytes = b""
    token: str = ""
    as_map: bool = False
    as_text: bool = False


class Maker:
    """Makes requests.

    Args:
        seed: of what is random.
        sessions: names of those that there are.
        tokens: names of those that there are.
        token: the text of one of them.
    """

    def __init__(
        self,
        seed: int,
        *,
        sessions: Callable[[], Sequence[str]],
        tokens: Callable[[], Sequence[str]],
        token: Callable[[str], str],
    ) -> None:
        self.random = random.Random(seed)
        self._sessions = sessions
        self._tokens = tokens
        self._token = token
        self._made: deque[Made] = deque(maxlen=30)

    def make(self) -> Made:
        """The next request: a new one, an earlier one again, or one that differs little from it."""
        if self._made and self._one_in(3):
            return self._again(copy.deepcopy(self.random.choice(self._made)))
        made = self._new()
        self._made.append(copy.deepcopy(made))
        return made

    def _again(self, made: Made) -> Made:
        """An earlier request: as it was, or in one respect another."""
        match self.random.randrange(8):
            case 0:
                made.session = self._of((FRESH, "", *self._sessions()))
            case 1:
                made.body = self._body(MODERN)
                made.headers = [it for it in made.headers if it[0].lower() != "content-length"]
                made.headers.append(("Content-Length", str(len(made.body))))
            case 2:
                made.headers = [it for it in made.headers if it[0].lower() != "authorization"]
                made.token = ""
                self._credentials(made)
            case 3 if made.headers:
                made.headers.append(self.random.choice((*made.headers, *EXTRA)))
            case 4 if made.headers:
                gone = made.headers.pop(self.random.randrange(len(made.headers)))
                made.token = "" if gone[0].lower() == "authorization" else made.token
            case 5:
                made.method = self._place()[0]
                made.path = "/mcp"
        if made.method in BODILESS:
            made.body = b""
            made.headers = [it for it in made.headers if it[0].lower() != "content-length"]
        has_length = any(name.lower() == "content-length" for name, _ in made.headers)
        if made.method == "POST" and not made.body and not has_length:
            # A gateway cannot tell it from one that it has not sent.
            made.headers.append(("Content-Length", "0"))
        return made

    def _new(self) -> Made:
        made = Made(*self._place())
        made.as_map = self._one_in(3)
        made.as_text = self._one_in(4)
        version = self._version(made)
        self._credentials(made)
        self._name_session(made)
        if made.method == "POST" or (made.method not in BODILESS and self._one_in(10)):
            made.body = self._body(version)
            self._describe_body(made)
            self._route(made, version)
        for _ in range(self.random.choice((0, 0, 0, 0, 1, 1, 2))):
            made.headers.append(self.random.choice(EXTRA))
        self.random.shuffle(made.headers)
        return made

    def _one_in(self, count: int) -> bool:
        return self.random.random() * count < 1

    def _place(self) -> tuple[str, str]:
        if self._one_in(40):
            return self.random.choice(("GET", "HEAD", "OPTIONS")), self._of(METADATA_PATHS)
        method = self.random.choices(
            ("POST", "GET", "DELETE", "OPTIONS", "PUT", "HEAD", "TRACE"),
            (80, 6, 5, 2, 1, 1, 1),
        )[0]
        return method, self._of(OTHER_PATHS) if self._one_in(20) else "/mcp"

    def _of(self, choices: Sequence[str]) -> str:
        return self.random.choice(choices)

    def _spelled(self, name: str) -> str:
        return self._of((name, name, name.lower(), name.lower(), name.upper()))

    def _version(self, made: Made) -> str:
        """Name a revision; the one that is meant."""
        if self._one_in(12):
            return BATCHES  # as without the header
        version = self._of((*KNOWN_PROTOCOL_VERSIONS, MODERN, MODERN, BATCHES))
        spelled = version
        if self._one_in(30):
            spelled = self._of(("2099-01-01", "", "DRAFT", "2026-07-28\xa0", "\xb2026-07-28"))
        elif self._one_in(20):
            spelled = self._of((f" {version}", f"{version}\t"))
        name = self._spelled("MCP-Protocol-Version")
        made.headers.append((name, spelled))
        if self._one_in(60):
            made.headers.append((name, self._of(KNOWN_PROTOCOL_VERSIONS)))
        return version

    def _credentials(self, made: Made) -> None:
        if self._one_in(6):
            return
        name = self._spelled("Authorization")
        if self._one_in(25):
            odd = ("Bearer", "Bearer ", "Basic YTpi", "", "Bearer a.b.c", "Bearer \xe9", "x" * 9000)
            made.headers.append((name, self._of(odd)))
            return
        made.token = self._of(self._tokens())
        token = self._token(made.token)
        scheme = self._of(("Bearer ",) * 8 + ("bearer ", "BEARER  ", "Bearer\t", " Bearer "))
        made.headers.append((name, f"{scheme}{token}{self._of(('', '', '', ' '))}"))
        if self._one_in(50):
            made.headers.append((name, f"Bearer {self._token(self._of(self._tokens()))}"))

    def _name_session(self, made: Made) -> None:
        if self._one_in(12):
            return
        made.session_header = self._spelled("Mcp-Session-Id")
        known = self._sessions()
        made.session = FRESH if not known or self._one_in(20) else self._of(known)
        if self._one_in(40):
            made.session = ""
            odd = ("x" * 200, "two words", "\xe9", "")
            made.headers.append((made.session_header, self._of(odd)))
        elif self._one_in(50):
            made.headers.append((made.session_header, "not one"))

    def _describe_body(self, made: Made) -> None:
        if not self._one_in(40):
            types = ("application/json",) * 60 + (
                *("application/json; charset=utf-8", "Application/JSON", "application/json ;x"),
                *("text/plain", "", "application/jsonp"),
            )
            made.headers.append((self._spelled("Content-Type"), self._of(types)))
        if self._one_in(80):
            made.headers.append(("content-type", "application/json"))
        if self._one_in(60):
            made.headers.append(("Content-Encoding", self._of(("gzip", "identity", "Identity"))))
        if made.body and self._one_in(30):
            made.headers.append(("Transfer-Encoding", "chunked"))
            if not self._one_in(3):
                return
        made.headers.append((self._spelled("Content-Length"), str(len(made.body))))
        if self._one_in(100):
            made.headers.append(("Content-Length", str(len(made.body))))

    def _route(self, made: Made, version: str) -> None:
        """Name the call in headers, as the revision demands it, and otherwise now and then."""
        if version != MODERN and not self._one_in(12):
            return
        try:
            message = json.loads(made.body)
            method, name = message["method"], message["params"].get("name")
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
            method, name = "ping", "read"
        if self._one_in(15):
            method = self._of(METHODS)
        if self._one_in(15):
            name = self._of(TOOLS)
        for header, value in (("Mcp-Method", method), ("Mcp-Name", name)):
            if isinstance(value, str) and value.isascii() and not self._one_in(15):
                spelled = value
                if header == "Mcp-Name" and self._one_in(10):
                    spelled = f"=?base64?{base64.b64encode(value.encode()).decode()}?="
                made.headers += [(self._spelled(header), spelled)] * (2 if self._one_in(60) else 1)

    # Bodies

    def _body(self, version: str) -> bytes:
        if self._one_in(25):
            return self._of_bytes()
        message: object = self._message(version)
        if self._one_in(8 if version == BATCHES else 50):
            count = self.random.choice((0, 1, 1, 2, 2, 3, 5, 51))
            message = [self._message(version) for _ in range(count)]
        elif self._one_in(100):
            message = self.random.choice((1, "x", None, True, []))
        body = json.dumps(message, ensure_ascii=self._one_in(2)).encode()
        if self._one_in(40):
            return self._damaged(body)
        return body

    def _of_bytes(self) -> bytes:
        return self.random.choice(BODIES)

    def _damaged(self, body: bytes) -> bytes:
        changed = bytearray(body)
        for _ in range(self.random.randint(1, 3)):
            at = self.random.randrange(len(changed) + 1)
            changed[at : at + self.random.randint(0, 1)] = self.random.randbytes(1)
        return bytes(changed)

    def _message(self, version: str) -> dict[str, Any]:
        if self._one_in(25):
            return dict(self.random.choice(ANSWERS))
        message: dict[str, Any] = {"jsonrpc": "2.0", "id": self._id(), "method": self._of(METHODS)}
        params: Any = {"cursor": "x"}
        if self._one_in(2):
            message["method"] = "tools/call"
            params = {"name": self._of(TOOLS), "arguments": {"path": "a" * self._length()}}
        if message["method"].startswith("notifications/"):
            del message["id"]
        if version == MODERN or self._one_in(20):
            params["_meta"] = {VERSION_KEY: version if not self._one_in(20) else "2025-06-18"}
        if self._one_in(40):
            params = self.random.choice(([], "x", None, {"Name": "delete", "name": "read"}))
        message["params"] = params
        if self._one_in(40):
            message |= self.random.choice(ODD_MEMBERS)
        return message

    def _length(self) -> int:
        return self.random.choice((1,) * 20 + (5_000, 70_000))

    def _id(self) -> object:
        if self._one_in(40):
            return self.random.choice((None, True, 1.5, 2**63, -(2**63), [], {}, "", "x" * 300))
        return self.random.choice((1, 7, "a", "\u00e9", 2**63 - 1))


ANSWERS: tuple[dict[str, Any], ...] = (
    {"jsonrpc": "2.0", "id": 1, "result": {}},
    {"jsonrpc": "2.0", "id": None, "error": {"code": -32700, "message": "x"}},
    {"jsonrpc": "2.0", "id": None, "result": {}},
    {},
)

ODD_MEMBERS: tuple[dict[str, Any], ...] = (
    *({"Method": "tools/call"}, {"ID": 2}, {"method": 1}, {"extra": {}}, {"PARAMS": {}}),
    {"method": "Tools/Call"},
)

_CALL = b'{"jsonrpc":"2.0","id":3,"method":"tools/call","params":{"name":"delete"}}'

BODIES = (
    *(b"", b"{", b"null", b"[]", b"{}", b"[[]]", b"\xef\xbb\xbf" + _CALL, _CALL[:-1], _CALL + b"x"),
    b'{"method":"ping","method":"tools/call","id":1}',
    b'{"method":"tools/call","id":1,"params":{"name":"read","name":"delete"}}',
    b'{"method":"ping","id":1,"params":{"x":NaN}}',
    b'{"method":"ping","id":1,"params":{"x":"\xff"}}',
    b'{"method":"ping","id":1,"params":{"x":"\\ud800"}}',
    b'{"method":"ping","id":1,"params":{"x":1e999}}',
    b'{"method":"ping","id":1,"params":{"x":' + b"9" * 400 + b"}}",
    b'{"method":"ping","id":1,"params":{"x":' + b"[" * 150 + b"]" * 150 + b"}}",
    b'{"method":"ping","id":1,"params":{"x":[' + b"1," * 1_200 + b"1]}}",
    b'{"method":"tools/list","id":1,"params":{"x":"' + b"a" * 70_000 + b'"}}',
    b'{"method":"initialize","id":1,"params":{"x":"' + b"a" * 70_000 + b'"}}',
    _CALL.decode().encode("utf-16"),
)

EXTRA = (
    *(("Accept", "application/json"), ("accept", "text/event-stream"), ("User-Agent", "x/1")),
    *(
        ("Cookie", "a=b"),
        ("Cookie", "token=x"),
        ("X-Request-Id", "1"),
        ("x-forwarded-for", "1.2.3.4"),
    ),
    *(("X-Authsvc-Assertion", "forged"), ("x-authsvc-credentials", "forged")),
    *(("x_authsvc_assertion", "forged"), ("X-Authsvc-Anything", "forged"), ("x-authsvc", "1")),
    *(("X-HTTP-Method-Override", "DELETE"), ("x_http_method", "GET"), ("X-Method-Override", "PUT")),
    *(("mcp_session_id", "other"), ("Mcp_Protocol_Version", MODERN), ("mcp-session_id", "other")),
    *(("content_type", "text/plain"), ("content_length", "3"), ("authorization_", "x")),
    *(("Last-Event-ID", "7"), ("last_event_id", "7"), ("last-event-ids", "7")),
    *(("Mcp-Param-Region", "eu"), ("mcp_param_region", "eu"), ("Mcp-Future", "1")),
    *(("Mcp-Name", "read"), ("Mcp-Method", "ping"), ("mcp_method", "ping")),
    *(
        ("X-Padded", " x\t"),
        ("traceparent", f"00-{'a' * 32}-{'b' * 16}-01"),
    ),
)
