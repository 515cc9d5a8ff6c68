"""A gate of one's own: its metadata, and whether authsvc answers it."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from urllib.parse import urlsplit

import httpx2

from authsvc.common.formats import spelled_resource
from authsvc.diagnosis import Check, Report
from authsvc.diagnosis.adapter import metadata_path
from authsvc.diagnosis.service import compare
from authsvc.server.config import Settings
from authsvc.tokens.compact import parse_json_object

_REMEDY = "Start the server, or give --gate the URL by which its clients know it."

_REQUEST = {
    "jsonrpc": "2.0",
    "id": 1,
    "method": "initialize",
    "params": {
        "protocolVersion": "2025-11-25",
        "capabilities": {},
        "clientInfo": {"name": "authsvc-doctor", "version": "1"},
    },
}
_HEADERS = {
    "Accept": "application/json, text/event-stream",
    # No token: the gate asks authsvc, which rejects it, so that no session is created.
    "Authorization": "Bearer authsvc-doctor",
}


def check(url: str, settings: Settings | None) -> Check:
    """What a gate answers, and whether that agrees with authsvc's configuration.

    Args:
        url: the endpoint of the MCP server, as its clients know it.
        settings: of authsvc; None where they are not at hand.
    """
    return Check("gate", partial(_look_at, url=url, settings=settings), _REMEDY, url)


async def _look_at(report: Report, *, url: str, settings: Settings | None) -> None:
    async with httpx2.AsyncClient(trust_env=False, timeout=None) as http:
        try:
            await _look_at_metadata(report, http, url, settings)
            answer = await http.post(url, json=_REQUEST, headers=_HEADERS)
        except httpx2.HTTPError as error:
            raise OSError(f"{url}: {type(error).__name__}") from None
    _judge(report, url, answer.status_code, _reason(answer.content))


async def _look_at_metadata(
    report: Report, http: httpx2.AsyncClient, url: str, settings: Settings | None
) -> None:
    parts = urlsplit(url)
    where = f"{parts.scheme}://{parts.netloc}{metadata_path(url)}"
    answer = await http.get(where)
    document = _object(answer.content) if answer.status_code == httpx2.codes.OK else {}
    resource, servers = document.get("resource"), document.get("authorization_servers")
    if not isinstance(resource, str) or not isinstance(servers, list):
        report.fail(
            f"{where} answers {answer.status_code}, without the metadata of a resource",
            "Clients find no authorization server (RFC 9728): give the gate "
            "authorization_servers, add gate.metadata_routes() to the outermost app, and make the "
            "proxy pass this path.",
        )
        return
    if spelled_resource(resource) == spelled_resource(url):
        report.ok(f"{where} names resource {resource!r:.200}")
    else:
        report.warn(
            f"{where} names resource {resource!r:.200}, which is another URL than {url}",
            "Clients that ask at this URL reject that (RFC 9728 section 3.3). Give the gate "
            "resource= as clients know it; or ask at that URL.",
        )
    if settings is not None:
        compare(report, settings, resource, [it for it in servers if isinstance(it, str)])


def _reason(body: bytes) -> str:
    """``error.data.reason`` of a JSON-RPC error; empty where there is none."""
    error = _object(body).get("error")
    data = error.get("data") if isinstance(error, dict) else None
    reason = data.get("reason") if isinstance(data, dict) else None
    return reason if isinstance(reason, str) else ""


def _object(body: bytes) -> Mapping[str, object]:
    try:
        return parse_json_object(body)
    except ValueError:
        return {}


def _judge(report: Report, url: str, status: int, reason: str) -> None:
    shown = f"{url} answers {status}{reason and f' {reason:.64}'}"
    if status == httpx2.codes.UNAUTHORIZED and reason.startswith("TOKEN_"):
        report.ok(f"{shown} to a text that is no token: authsvc answers the gate")
    elif reason in {"CALLER_NOT_ALLOWED", "RESOURCE_INVALID"}:
        report.fail(
            f"{shown}: authsvc does not let it ask for its resource",
            "Name the resource of the gate in authsvc's resources, or in the resources of this "
            "server's [[callers]]; or correct resource= of the gate.",
        )
    elif status == httpx2.codes.SERVICE_UNAVAILABLE:
        report.fail(
            f"{shown}: authsvc is unreachable for it, or the gate is not open",
            "The server's log has the cause, with the address that it calls.",
        )
    elif status == httpx2.codes.MISDIRECTED_REQUEST:
        report.fail(f"{shown}: it does not serve this host", "Its log names the setting.")
    else:
        report.fail(f"{shown}: no gate asks authsvc there", _REMEDY)
