"""The adapter, from outside: as its clients see it, and as its configuration says it should be."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import urlsplit

import httpx2
from pydantic import BaseModel, ConfigDict
from pydantic_settings import SettingsConfigDict

from authsvc.client import ClientTls
from authsvc.common.settings import FileSettings
from authsvc.diagnosis import Check, Report
from authsvc.tokens.compact import parse_json_object

WELL_KNOWN_PATH = "/.well-known/oauth-protected-resource"
"""RFC 9728 section 3."""


class Link(BaseModel):
    """``[authsvc]`` of the adapter: how it reaches us."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    target: str = "127.0.0.1:50051"
    ca_file: Path | None = None
    certificate_file: Path | None = None
    key_file: Path | None = None
    service_token_file: Path | None = None

    def tls(self) -> ClientTls | None:
        """As the adapter's client has it."""
        if self.ca_file is None:
            return None
        return ClientTls(
            self.ca_file, self.certificate_file, self.key_file, self.service_token_file
        )


class AdapterSettings(FileSettings):
    """What of the adapter's configuration concerns the chain; the rest is for ``mcp-adapter
    check-config``, which knows the adapter."""

    model_config = SettingsConfigDict(env_prefix="MCP_ADAPTER_", extra="ignore")

    listen: str = "127.0.0.1:8000"
    resource: str
    authorization_servers: tuple[str, ...]
    authsvc: Link = Link()


def running(settings: AdapterSettings, url: str) -> Check:
    """Whether an adapter is there, is ready, and tells clients what its configuration says.

    Args:
        settings: its configuration.
        url: where it can be reached from here, without a path.
    """

    async def look(report: Report) -> None:
        status, _ = await _get(f"{url}/healthz")
        if status != httpx2.codes.OK:
            report.fail(f"{url}/healthz answers {status}", "Is that the adapter's own address?")
            return
        report.ok(f"{url} is alive")
        status, _ = await _get(f"{url}/readyz")
        if status == httpx2.codes.OK:
            report.ok("authsvc answers it")
        else:
            report.fail(
                f"{url}/readyz answers {status}: authsvc cannot be reached, or refuses it",
                "See the lines on authsvc below; the adapter's log says `not ready` and why.",
            )
        for path in _metadata_paths(settings.resource):
            _check_metadata(report, settings, f"{url}{path}", *await _get(f"{url}{path}"))

    return Check(
        "adapter",
        look,
        "Start it: mcp-adapter serve. If it listens elsewhere, say so with --adapter-url.",
    )


def _metadata_paths(resource: str) -> list[str]:
    path = WELL_KNOWN_PATH + urlsplit(resource).path.rstrip("/")
    return list(dict.fromkeys([WELL_KNOWN_PATH, path]))


def _check_metadata(
    report: Report, settings: AdapterSettings, url: str, status: int, body: bytes
) -> None:
    if status != httpx2.codes.OK:
        report.fail(
            f"{url} answers {status}",
            "Clients find no authorization server (RFC 9728): let this path through.",
        )
        return
    try:
        document = parse_json_object(body)
    except ValueError:
        report.fail(f"{url} is not JSON", "Something else answers there: look at the proxy.")
        return
    wanted = {
        "resource": settings.resource,
        "authorization_servers": list(settings.authorization_servers),
    }
    for name, value in wanted.items():
        if document.get(name) != value:
            report.fail(
                f"{url} says {name} {document.get(name)!r:.200}, the configuration {value!r}",
                "Restart the adapter with this configuration.",
            )
            return
    report.ok(f"{url} is right")


async def _get(url: str) -> tuple[int, bytes]:
    """
    Raises:
        OSError: there is no answer.
    """
    try:
        async with httpx2.AsyncClient(trust_env=False, timeout=None) as http:
            answer = await http.get(url)
    except httpx2.HTTPError as error:
        raise OSError(f"{url}: {type(error).__name__}") from None
    return answer.status_code, answer.content


def own_url(settings: AdapterSettings) -> str:
    """Where an adapter of this configuration can be reached on its own machine."""
    host, _, port = settings.listen.rpartition(":")
    local = {"0.0.0.0": "127.0.0.1", "[::]": "[::1]", "": "127.0.0.1"}  # noqa: S104 - not listened on
    return f"http://{local.get(host, host)}:{port}"
