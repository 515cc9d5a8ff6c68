"""AWS as the tests have it: moto, and in front of it what moto leaves out.

moto does not enforce session policies: a session that was limited to one bucket reads another. So
this proxy remembers the policy that each session was issued with, maps each request to the action
and the resource that S3's documentation names ("Actions, resources, and condition keys for Amazon
S3"), and lets through what ``iam.allows``. What it does not know is refused. Of STS it enforces the
documented limits that moto lacks ("AssumeRole", request parameters).
"""

from __future__ import annotations

import http.client
import re
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from typing import ClassVar
from urllib.parse import parse_qs, parse_qsl, unquote, urlsplit
from xml.etree import ElementTree

from tests.support.bounds import TIMEOUT_SECONDS
from tests.support.http import listening
from tests.support.iam import allows

Headers = Mapping[str, str]

MAX_POLICY_CHARACTERS = 2048
NAME = re.compile(r"[\w+=,.@-]{2,64}", re.ASCII)


@dataclass
class Session:
    """What STS has issued."""

    secret_token: str = field(repr=False)
    policy: str
    name: str
    parameters: dict[str, str]


@dataclass(frozen=True)
class Request:
    """One S3 request that got as far as its evaluation."""

    access_key_id: str
    action: str
    resource: str
    allowed: bool


@dataclass
class Aws:
    """The proxy under way.

    Attributes:
        url: endpoint of STS and of S3.
        clock: what ``aws:CurrentTime`` is read from.
        sessions: by access key id.
        requests: to S3, in order.
        assumed: how many calls of STS have issued credentials.
        fails: STS answers 503 while this is set.
    """

    upstream: tuple[str, int]
    clock: Callable[[], float] = time.time
    url: str = ""
    sessions: dict[str, Session] = field(default_factory=dict)
    requests: list[Request] = field(default_factory=list)
    assumed: int = 0
    fails: threading.Event = field(default_factory=threading.Event)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def refusal_of_sts(self, call: dict[str, str]) -> str:
        """Why STS would refuse a call by its documented limits; empty when it would not."""
        if self.fails.is_set():
            return "ServiceUnavailable"
        if call.get("Action") not in {"AssumeRole", "AssumeRoleWithWebIdentity"}:
            return "InvalidAction"
        if len(call.get("Policy", "")) > MAX_POLICY_CHARACTERS:
            return "PackedPolicyTooLarge"
        names = [call.get("RoleSessionName", ""), call.get("SourceIdentity", "xx")]
        if not all(NAME.fullmatch(name) for name in names):
            return "ValidationError"
        if not 900 <= int(call.get("DurationSeconds", "3600")) <= 43_200:
            return "ValidationError"
        return ""

    def issued(self, call: dict[str, str], answer: bytes) -> None:
        """Remember what STS has issued."""
        tree = ElementTree.fromstring(answer)  # noqa: S314 - moto's
        text = {it.tag.rpartition("}")[2]: it.text or "" for it in tree.iter()}
        with self._lock:
            self.assumed += 1
            self.sessions[text["AccessKeyId"]] = Session(
                text["SessionToken"], call["Policy"], call["RoleSessionName"], call
            )

    def refusal_of_s3(self, method: str, target: str, headers: Headers) -> str:
        """Why S3 would refuse a request; empty when it would not."""
        key_id, token = _signer(target, headers)
        session = self.sessions.get(key_id)
        if session is None:
            return "InvalidAccessKeyId"
        if token != session.secret_token:
            return "InvalidToken"
        asked = s3_action(method, target, headers)
        if asked is None:
            return "AccessDenied"
        action, resource = asked
        allowed = allows(session.policy, action=action, resource=resource, now=self.clock())
        with self._lock:
            self.requests.append(Request(key_id, action, resource, allowed))
        return "" if allowed else "AccessDenied"


def s3_action(method: str, target: str, headers: Headers) -> tuple[str, str] | None:
    """The action and the resource of a request, path-style; None for what is not known."""
    parts = urlsplit(target)
    query = parse_qs(parts.query, keep_blank_values=True)
    bucket, _, key = unquote(parts.path).lstrip("/").partition("/")
    if headers.get("x-amz-copy-source"):
        return None
    if not bucket:
        return ("s3:ListAllMyBuckets", "*") if method == "GET" else None
    if not key:
        return _bucket_action(method, query, f"arn:aws:s3:::{bucket}")
    return _object_action(method, query, f"arn:aws:s3:::{bucket}/{key}")


# fmt: off
_SUBRESOURCES = {
    "acl", "attributes", "cors", "delete", "encryption", "legal-hold", "lifecycle", "logging",
    "notification", "policy", "replication", "restore", "retention", "select", "tagging",
    "torrent", "uploads", "versioning", "versions", "website",
}
# fmt: on
"""In the query of a request that is something else than its method and path say."""


def _bucket_action(method: str, query: dict[str, list[str]], arn: str) -> tuple[str, str] | None:
    if method == "GET" and "location" in query:
        return "s3:GetBucketLocation", arn
    if _SUBRESOURCES & set(query):
        return None
    return ("s3:ListBucket", arn) if method in {"GET", "HEAD"} else None


def _object_action(method: str, query: dict[str, list[str]], arn: str) -> tuple[str, str] | None:
    if _SUBRESOURCES & set(query):
        return None
    version = "Version" if "versionId" in query else ""
    actions = {
        "GET": f"s3:GetObject{version}",
        "HEAD": f"s3:GetObject{version}",
        "PUT": "s3:PutObject",
        "DELETE": f"s3:DeleteObject{version}",
    }
    return (actions[method], arn) if method in actions else None


def _signer(target: str, headers: Headers) -> tuple[str, str]:
    """Access key id and security token, by header or by signed URL."""
    query = dict(parse_qsl(urlsplit(target).query))
    header = re.search(r"Credential=([^/,]+)/", headers.get("authorization", ""))
    if header is not None:
        return header[1], headers.get("x-amz-security-token", "")
    credential = query.get("X-Amz-Credential", "")
    return credential.partition("/")[0], query.get("X-Amz-Security-Token", "")


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    aws: ClassVar[Aws]

    def do_GET(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", "0")))
        if self.path == "/" and self.command == "POST":
            self._sts(body)
        else:
            self._s3(body)

    do_HEAD = do_PUT = do_POST = do_DELETE = do_GET  # noqa: N815 - http.server's names

    def _sts(self, body: bytes) -> None:
        call = dict(parse_qsl(body.decode(), keep_blank_values=True))
        refusal = self.aws.refusal_of_sts(call)
        if refusal:
            status = 503 if refusal == "ServiceUnavailable" else 400
            self._refuse(status, f"<ErrorResponse>{_error(refusal)}</ErrorResponse>")
            return
        status, content = self._pass_on(body)
        if status == 200:
            self.aws.issued(call, content)

    def _s3(self, body: bytes) -> None:
        refusal = self.aws.refusal_of_s3(self.command, self.path, _lowered(self.headers.items()))
        if refusal:
            self._refuse(403, _error(refusal))
        else:
            self._pass_on(body)

    def _pass_on(self, body: bytes) -> tuple[int, bytes]:
        connection = http.client.HTTPConnection(*self.aws.upstream, timeout=TIMEOUT_SECONDS)
        connection.request(self.command, self.path, body, dict(self.headers.items()))
        answer = connection.getresponse()
        content = answer.read()
        connection.close()
        self.send_response(answer.status)
        for name, value in answer.getheaders():
            if name.lower() not in {"transfer-encoding", "connection", "date", "server"}:
                self.send_header(name, value)
        if answer.getheader("Content-Length") is None:
            self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)
        return answer.status, content

    def _refuse(self, status: int, xml: str) -> None:
        content = xml.encode()
        self.send_response(status)
        self.send_header("Content-Type", "text/xml")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - its name
        """Say nothing."""


def _lowered(headers: Iterable[tuple[str, str]]) -> Headers:
    return {name.lower(): value for name, value in headers}


def _error(code: str) -> str:
    return f"<Error><Code>{code}</Code><Message>refused</Message></Error>"


@contextmanager
def serving_aws(upstream: tuple[str, int], clock: Callable[[], float] = time.time) -> Iterator[Aws]:
    """Run it in front of a moto server."""
    aws = Aws(upstream, clock)
    with listening(type("Handler", (_Handler,), {"aws": aws})) as url:
        aws.url = url
        yield aws
