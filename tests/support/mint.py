"""Token endpoints and an STS that write down whom they have issued what.

Each access token and each session token is one that only its own entry in the record explains:
whose token was exchanged, at which endpoint, for which buckets. So a test can ask of any
credentials, wherever they turn up, whom they belong to.
"""

from __future__ import annotations

import base64
import json
import re
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

from authsvc.domain.resolution import AwsCredentials, BearerCredentials, Credentials
from tests.support.bounds import TIMEOUT_SECONDS
from tests.support.http import Answer, listening

Form = dict[str, str]

ROLE = "arn:aws:iam::123456789012:role/mcp"


@dataclass(frozen=True)
class Issued:
    """Whom credentials were issued to.

    Attributes:
        name: the last part of the endpoint's path.
        issuer: claim ``iss`` of the token, or the session tag.
        subject: likewise.
        client: likewise.
        actor: likewise; empty where the subject acts.
        token: claim ``jti`` of the exchanged token; empty for AWS, whose STS gets none.
        buckets: that the session policy names; empty for bearer tokens.
        ends: when the session policy ends; empty likewise.
    """

    name: str
    issuer: str
    subject: str
    client: str
    actor: str = ""
    token: str = ""
    buckets: tuple[str, ...] = ()
    ends: str = ""


@dataclass
class Endpoint:
    """One path.

    Attributes:
        calls: how many requests have arrived.
        expires_in: seconds that an access token lasts.
        answers: what is answered in place of tokens, given the form; None for a token after all.
        hold: answers wait until this is set.
        arrived: released once for each request that has arrived.
    """

    calls: int = 0
    expires_in: float = 3600.0
    answers: Callable[[Form], Answer | None] | None = None
    hold: threading.Event = field(default_factory=threading.Event)
    arrived: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(0))


@dataclass
class Mint:
    """The server.

    Attributes:
        clock: what ``Expiration`` is counted from.
        url: where it is.
        issued: by access token, and by session token.
        endpoints: by name.
    """

    clock: Callable[[], float]
    url: str = ""
    issued: dict[str, Issued] = field(default_factory=dict)
    endpoints: dict[str, Endpoint] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def endpoint(self, name: str) -> Endpoint:
        """The endpoint of a name."""
        with self._lock:
            if name not in self.endpoints:
                self.endpoints[name] = made = Endpoint()
                made.hold.set()
            return self.endpoints[name]

    def of(self, credentials: Credentials | None) -> Issued:
        """Whom credentials were issued to."""
        if isinstance(credentials, BearerCredentials):
            return self.issued[credentials.access_token.reveal()]
        assert isinstance(credentials, AwsCredentials), credentials
        assert credentials.session_token is not None
        issued = self.issued[credentials.session_token.reveal()]
        # One session in all its parts.
        serial = credentials.session_token.reveal().rpartition("-")[2]
        assert credentials.access_key_id == f"ASIA{int(serial):016}"
        assert credentials.secret_access_key.reveal() == f"secret-{serial}"
        return issued

    def counts(self) -> Counter[Issued]:
        """How often each has been issued: what is the same for the same principal, is one."""
        with self._lock:
            return Counter(self.issued.values())

    @property
    def calls(self) -> dict[str, int]:
        """Requests by name, of those that have had any."""
        with self._lock:
            return {name: it.calls for name, it in self.endpoints.items() if it.calls}

    def answer(self, name: str, form: Form) -> Answer:
        """What a request is answered."""
        endpoint = self.endpoint(name)
        with self._lock:
            endpoint.calls += 1
        endpoint.arrived.release()
        endpoint.hold.wait(TIMEOUT_SECONDS)
        if endpoint.answers is not None and (other := endpoint.answers(form)) is not None:
            return other
        if "Action" in form:
            return self._session(name, form)
        return Answer(json.dumps(self.token_response(name, form)).encode())

    def token_response(self, name: str, form: Form) -> dict[str, Any]:
        """A new access token for the token in a form."""
        claims = claims_of(form.get("subject_token") or form["assertion"])
        token = self._record(
            name,
            Issued(
                name,
                claims["iss"],
                claims["sub"],
                claims["client_id"],
                claims.get("act", {}).get("sub", ""),
                claims["jti"],
            ),
        )
        return {
            "access_token": token,
            "token_type": "Bearer",
            "issued_token_type": "urn:ietf:params:oauth:token-type:access_token",
            "expires_in": self.endpoint(name).expires_in,
        }

    def _record(self, name: str, issued: Issued) -> str:
        with self._lock:
            token = f"of-{name}-{len(self.issued)}"
            self.issued[token] = issued
        return token

    def _session(self, name: str, form: Form) -> Answer:
        tags = {
            value: form[key.removesuffix("Key") + "Value"]
            for key, value in form.items()
            if re.fullmatch(r"Tags\.member\.\d+\.Key", key)
        }
        policy = form["Policy"]
        token = self._record(
            name,
            Issued(
                name,
                tags["issuer"],
                tags["subject"],
                tags["client_id"],
                tags.get("actor", ""),
                buckets=tuple(sorted({*re.findall(r'arn:aws:s3:::([^/"*]+)', policy)})),
                ends=re.findall(r"\d{4}-\d\d-\d\dT[\d:]+Z", policy)[0],
            ),
        )
        serial = int(token.rpartition("-")[2])
        until = datetime.fromtimestamp(self.clock() + float(form["DurationSeconds"]), UTC)
        return Answer(
            f"<AssumeRoleResponse><AssumeRoleResult><Credentials>"
            f"<AccessKeyId>ASIA{serial:016}</AccessKeyId>"
            f"<SecretAccessKey>secret-{serial}</SecretAccessKey>"
            f"<SessionToken>{token}</SessionToken>"
            f"<Expiration>{until:%Y-%m-%dT%H:%M:%SZ}</Expiration>"
            f"</Credentials></AssumeRoleResult></AssumeRoleResponse>".encode(),
            headers={"Content-Type": "text/xml"},
        )


def claims_of(token: str) -> dict[str, Any]:
    """The claims of a JWT, whoever signed it."""
    payload = token.split(".")[1]
    claims: dict[str, Any] = json.loads(
        base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4))
    )
    return claims


@contextmanager
def minting(clock: Callable[[], float]) -> Iterator[Mint]:
    """Run it on loopback."""
    mint = Mint(clock)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", "0"))).decode()
            answer = mint.answer(self.path.strip("/"), dict(parse_qsl(body)))
            try:
                self.send_response(answer.status)
                for name, value in answer.headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(answer.body)))
                self.end_headers()
                self.wfile.write(answer.body)
            except OSError:
                self.close_connection = True  # the client has had enough

        def log_message(self, *arguments: object) -> None:
            """Say nothing."""

    with listening(Handler) as url:
        mint.url = url
        try:
            yield mint
        finally:
            for endpoint in mint.endpoints.values():
                endpoint.hold.set()


def exchange_table(
    mint: Mint, folder: Path, name: str, *, issuers: tuple[str, ...], **more: object
) -> dict[str, object]:
    """A table of ``[[credentials.exchange]]`` whose endpoint is the one of that name."""
    return {
        "name": name,
        "issuers": issuers,
        "endpoint": f"{mint.url}/{name}",
        "client_id": "authsvc",
        "client_secret_file": _secret(folder),
        **more,
    }


def sts_table(
    mint: Mint, folder: Path, name: str, *, issuers: tuple[str, ...], **more: object
) -> dict[str, object]:
    """A table of ``[[credentials.sts]]``, likewise; ``default`` is the one without a name."""
    return {
        "name": "" if name == "default" else name,
        "region": "us-east-1",
        "endpoint_url": f"{mint.url}/{name}",
        "access_key_id": "AKIAAUTHSVC",
        "secret_access_key_file": _secret(folder),
        "roles": [{"issuer": issuer, "arn": ROLE} for issuer in issuers],
        **more,
    }


def _secret(folder: Path) -> Path:
    path = folder / "mint.secret"
    path.write_text("our-own-secret")
    return path
