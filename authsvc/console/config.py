"""The console's settings: a TOML file, and ``AUTHSVC_CONSOLE_…`` variables above it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, PositiveFloat, model_validator
from pydantic_settings import SettingsConfigDict

from authsvc.client.targets import Targets
from authsvc.common.formats import check_listening
from authsvc.common.settings import FileSettings, Table
from authsvc.http_server.settings import DEFAULT_KEEP_ALIVE_SECONDS, ConnectionSettings
from authsvc.net.addresses import is_local
from authsvc.net.urls import read, resource_fault
from authsvc.telemetry.logs import Format


def _listening_address(address: str) -> str:
    # One without a host is every address of this machine.
    check_listening(f"localhost{address}" if address.startswith(":") else address)
    return address


def _origin(url: str) -> str:
    fault = resource_fault(url) or ("" if url.startswith("https:") else "is not https")
    if not fault and (read(url).path or "?" in url):
        fault = "has a path or a query"
    if fault:
        raise ValueError(
            "is an origin like https://console.example.com, as browsers spell it: lower case, no "
            f"user, no default port, no path; this one {fault}"
        )
    return url


def _target(target: str) -> str:
    Targets.parse(target)
    return target


class AuthsvcSettings(Table):
    """``[authsvc]``: where authsvc is, and how the console is known there.

    The console needs to be one of authsvc's ``[[callers]]``, with ``admin = true``.
    """

    target: Annotated[str, AfterValidator(_target)] = Field(
        default="127.0.0.1:50051", description="As of AdminClient: one replica, or several."
    )
    ca_file: Path = Field(description="Who signs authsvc's certificate.")
    certificate_file: Path | None = Field(default=None, description="The console's certificate.")
    key_file: Path | None = Field(default=None, description="Its key.")
    service_token_file: Path | None = Field(
        default=None, description="The console's service token, in place of a certificate."
    )
    deadline_seconds: PositiveFloat = Field(default=5.0, description="How long one call may take.")

    @model_validator(mode="after")
    def _is_known(self) -> Self:
        if (self.certificate_file is None) != (self.key_file is None):
            raise ValueError("certificate_file and key_file go together")
        if self.certificate_file is None and self.service_token_file is None:
            raise ValueError("needs service_token_file, or certificate_file and key_file")
        return self


class TlsSettings(Table):
    """``[tls]``: required wherever another machine can reach the console."""

    certificate_file: Path = Field(description="PEM chain, the console's own first.")
    key_file: Path = Field(description="Its key, PEM.")


class ConsoleSettings(FileSettings):
    """All settings of ``authsvc console``."""

    model_config = SettingsConfigDict(env_prefix="AUTHSVC_CONSOLE_")

    listen: Annotated[str, AfterValidator(_listening_address)] = Field(
        default="127.0.0.1:8081", description="host:port."
    )
    operators_file: Path = Field(
        description="A line for each operator, as `authsvc console operator NAME` prints it. "
        "Followed when it changes; without their line, operators are signed out."
    )
    authsvc: AuthsvcSettings
    tls: TlsSettings | None = None
    connections: ConnectionSettings = ConnectionSettings()
    keep_alive_seconds: PositiveFloat = Field(
        default=DEFAULT_KEEP_ALIVE_SECONDS,
        description="How long a connection may be without a request after an answer.",
    )
    url: Annotated[str, AfterValidator(lambda url: _origin(url) if url else url)] = Field(
        default="",
        description="Where browsers find the console, such as https://console.example.com. "
        "Required unless they are on this machine.",
    )
    behind_proxy: bool = Field(
        default=False,
        description="A proxy that nobody can pass by ends TLS at url: it may be listened on any "
        "address without [tls].",
    )
    session_idle_seconds: PositiveFloat = Field(
        default=900.0, description="An operator who does nothing is signed out after this time."
    )
    session_seconds: PositiveFloat = Field(
        default=8 * 3600.0, description="Every operator is signed out after this time."
    )
    events_kept: int = Field(
        default=10_000,
        ge=1,
        le=1_000_000,
        description="Events that the history is made of; fewer where they take more than 2.6 KB "
        "on average.",
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        default="info", description="What is logged at least."
    )
    log_format: Format = Field(
        default="auto",
        description="One JSON object a line, or lines for people; auto: for people on a terminal.",
    )
    allow_core_dumps: bool = Field(
        default=False,
        description="Whether a crash may write down memory, which has tokens and keys in it.",
    )

    @model_validator(mode="after")
    def _is_safe(self) -> Self:
        if self.tls is not None and self.behind_proxy:
            raise ValueError("either [tls] or behind_proxy")
        if self.behind_proxy and not self.url:
            raise ValueError("behind_proxy needs url")
        if self.url and self.tls is None and not self.behind_proxy:
            raise ValueError("url needs [tls], or behind_proxy where a proxy ends TLS")
        if not is_local(self.listen):
            if self.tls is None and not self.behind_proxy:
                raise ValueError(
                    f"listen = {self.listen!r} can be reached from other machines: set [tls] and "
                    "url, or url and behind_proxy; or listen on 127.0.0.1"
                )
            if not self.url:
                raise ValueError("url is required where browsers are on other machines")
        return self

    @property
    def is_secure(self) -> bool:
        """Whether browsers reach it over TLS."""
        return self.tls is not None or self.behind_proxy

    def origins(self, port: int) -> frozenset[str]:
        """Where browsers may find it: origins (RFC 6454), as they spell them.

        Args:
            port: that it listens on.
        """
        if self.url:
            return frozenset({self.url})
        scheme, usual = ("https", 443) if self.is_secure else ("http", 80)
        suffix = "" if port == usual else f":{port}"
        return frozenset(f"{scheme}://{host}{suffix}" for host in _THIS_MACHINE)


_THIS_MACHINE = ("127.0.0.1", "localhost", "[::1]")
