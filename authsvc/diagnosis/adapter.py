"""The adapter: its answers to clients, compared with its configuration."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated
from urllib.parse import urlsplit

import httpx2
from pydantic import AfterValidator, BaseModel, ConfigDict
from pydantic_settings import SettingsConfigDict

from authsvc.client import ClientTls
from authsvc.common.formats import spelled_resource
from authsvc.common.settings import FileSettings
from authsvc.diagnosis import Check, Report
from authsvc.net.addresses import from_here
from authsvc.tokens.compact import parse_json_object

WELL_KNOWN_PATH = "/.well-known/oauth-protected-resource"
"""RFC 9728 section 3."""


class Link(BaseModel):
    """``[authsvc]`` of the adapter: how it connects to authsvc."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    target: str = "127.0.0.1:50051"
    ca_file: Path | None = None
    certificate_file: Path | None = None
    key_file: Path | None = None
    service_token_file: Path | None = None

    def certificate_files(self) -> dict[str, Path | None]:
        """The files of certificates, by setting."""
        return {
            "authsvc.ca_file": self.ca_file,
            "authsvc.certificate_file": self.certificate_file,
        }

    def tls(self) -> ClientTls | None:
        """The TLS settings of the adapter's client; None in the clear."""
        if self.ca_file is None:
            return None
        return ClientTls(
            self.ca_file, self.certificate_file, self.key_file, self.service_token_file
        )


class Audit(BaseModel):
    """``[audit]`` of the adapter."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    file: Path | None = None


class AdapterSettings(FileSettings):
    """The settings of the adapter that are checked here; ``mcp-adapter check-config`` checks the
    others."""

    model_config = SettingsConfigDict(env_prefix="MCP_ADAPTER_", extra="ignore")

    listen: str = "127.0.0.1:8000"
    resource: Annotated[str, AfterValidator(spelled_resource)]
    authorization_servers: tuple[str, ...]
    authsvc: Link = Link()
    audit: Audit = Audit()


def running(settings: AdapterSettings, url: str) -> Check:
    """Whether an adapter is alive and ready, and serves the metadata that its configuration says.

    Args:
        settings: its configuration.
        url: its address as seen from here, without a path.
    """

    async def check(report: Report) -> None:
        status, _ = await _get(f"{url}/healthz")
        if status != httpx2.codes.OK:
            report.fail(
                f"{url}/healthz answers {status}", "Check that this is the adapter's own address."
            )
            return
        report.ok(f"{url} is alive")
        status, _ = await _get(f"{url}/readyz")
        if status == httpx2.codes.OK:
            report.ok("authsvc answers the adapter")
        else:
            report.fail(
                f"{url}/readyz answers {status}: authsvc is unreachable, or denies it",
                "See the findings on authsvc below. The adapter logs `not ready` with the cause.",
            )
        for path in dict.fromkeys([WELL_KNOWN_PATH, metadata_path(settings.resource)]):
            _check_metadata(report, settings, f"{url}{path}", *await _get(f"{url}{path}"))

    return Check(
        "adapter",
        check,
        "Start it with `mcp-adapter serve`. If it listens elsewhere, give --adapter-url.",
        url,
    )


def metadata_path(resource: str) -> str:
    """Where a resource's metadata is, on its host (RFC 9728 section 3.1)."""
    return WELL_KNOWN_PATH + urlsplit(resource).path.rstrip("/")


def _check_metadata(
    report: Report, settings: AdapterSettings, url: str, status: int, body: bytes
) -> None:
    if status != httpx2.codes.OK:
        report.fail(
            f"{url} answers {status}",
            "Clients find no authorization server (RFC 9728): make the proxy pass this path.",
        )
        return
    try:
        document = parse_json_object(body)
    except ValueError:
        report.fail(f"{url} is not JSON", "Another server answers there: check the proxy.")
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
    report.ok(f"{url} matches the configuration")


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
    """The URL of an adapter with this configuration, on its own machine."""
    return f"http://{from_here(settings.listen)}"
