"""The console's settings: a TOML file, and ``AUTHSVC_CONSOLE_…`` variables above it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, PositiveFloat
from pydantic_settings import SettingsConfigDict

from authsvc.client.settings import AuthsvcAddress
from authsvc.common.formats import check_listening
from authsvc.common.setting_rules import Fault, rule
from authsvc.common.settings import FileSettings, Table
from authsvc.http_server.settings import DEFAULT_KEEP_ALIVE_SECONDS, ConnectionSettings
from authsvc.net.addresses import is_local, is_taken
from authsvc.net.urls import canonical_resource, read, resource_fault
from authsvc.telemetry.logs import Format


def _listening_address(address: str) -> str:
    # Without a host it means every address of this machine.
    check_listening(f"localhost{address}" if address.startswith(":") else address)
    return address


def _origin(url: str) -> str:
    fault = resource_fault(url) or ("" if url.startswith("https:") else "is not https")
    if not fault and (read(url).path or "?" in url):
        fault = "has a path or a query"
    if not fault and url != (canonical := canonical_resource(url)):
        fault = f"is {canonical!r} in its canonical spelling"
    if fault:
        raise ValueError(
            "is an origin like https://console.example.com, as browsers spell it: lower case, no "
            f"user, no default port, no path; this one {fault}"
        )
    return url


class AuthsvcSettings(AuthsvcAddress):
    """``[authsvc]``: the address of authsvc, and how the console authenticates to it.

    authsvc needs an entry of ``[[callers]]`` with ``admin = true`` for the console.
    """

    ca_file: Path = Field(
        description="PEM certificates of the authorities that sign authsvc's certificate."
    )
    deadline_seconds: PositiveFloat = Field(
        default=5.0, description="Time for one call, retries included."
    )

    @rule
    def _has_credentials(self) -> Iterator[Fault]:
        if self.certificate_file is None and self.service_token_file is None:
            yield Fault("needs service_token_file, or certificate_file and key_file")


class TlsSettings(Table):
    """``[tls]``: required if other machines can reach the console, unless behind_proxy is set."""

    certificate_file: Path = Field(description="PEM chain; the console's own certificate first.")
    key_file: Path = Field(description="PEM key of certificate_file.")


class MetricsSettings(Table):
    """``[metrics]``: Prometheus metrics at ``/metrics``, without TLS."""

    listen: Annotated[str, AfterValidator(check_listening)] = Field(
        default="127.0.0.1:9664", description="host:port."
    )


class ConsoleSettings(FileSettings):
    """All settings of ``authsvc console``."""

    model_config = SettingsConfigDict(env_prefix="AUTHSVC_CONSOLE_")

    listen: Annotated[str, AfterValidator(_listening_address)] = Field(
        default="127.0.0.1:8081", description="host:port to listen on."
    )
    operators_file: Path = Field(
        description="A line for each operator, as `authsvc console operator NAME` prints it. Read "
        "again when it changes; operators whose line is removed are signed out."
    )
    authsvc: AuthsvcSettings
    tls: TlsSettings | None = None
    metrics: MetricsSettings | None = None
    connections: ConnectionSettings = ConnectionSettings()
    keep_alive_seconds: PositiveFloat = Field(
        default=DEFAULT_KEEP_ALIVE_SECONDS,
        description="How long a connection may be idle after a response.",
    )
    url: Annotated[str, AfterValidator(lambda url: _origin(url) if url else url)] = Field(
        default="",
        description="The console's origin in browsers, such as https://console.example.com. "
        "Required if browsers are on other machines.",
    )
    behind_proxy: bool = Field(
        default=False,
        description="Whether a proxy terminates TLS at url, and no client can reach the console "
        "except through it. Then [tls] is not required.",
    )
    session_idle_seconds: PositiveFloat = Field(
        default=900.0, description="An idle operator is signed out after this time."
    )
    session_seconds: PositiveFloat = Field(
        default=8 * 3600.0, description="Every operator is signed out after this time."
    )
    events_kept: int = Field(
        default=10_000,
        ge=1,
        le=1_000_000,
        description="Events in memory, for the pages that show events; fewer if they take more "
        "than 2.6 KB on average.",
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        default="info", description="The least severe level that is logged."
    )
    log_format: Format = Field(
        default="auto",
        description="One JSON object a line, or text; auto: text on a terminal, else JSON.",
    )
    allow_core_dumps: bool = Field(
        default=False,
        description="Whether a crash may write the process's memory to disk. It holds tokens and "
        "keys.",
    )

    @rule
    def _idle_operators_are_signed_out(self) -> Iterator[Fault]:
        yield from self.unreached("session_idle_seconds", "session_seconds")

    @rule
    def _metrics_have_a_port(self) -> Iterator[Fault]:
        if self.metrics is not None and is_taken(self.metrics.listen, self.listen):
            yield Fault("is the address of listen: choose another port", ("metrics", "listen"))

    @rule
    def _browsers_use_tls(self) -> Iterator[Fault]:
        if self.tls is not None and self.behind_proxy:
            yield Fault("set either [tls] or behind_proxy, not both")
        if self.tls is not None or self.behind_proxy:
            return
        if not is_local(self.listen):
            yield Fault(
                f"listen = {self.listen!r} can be reached from other machines: set [tls] and "
                "url, or url and behind_proxy; or listen on 127.0.0.1"
            )
        elif self.url:
            yield Fault("url needs [tls], or behind_proxy where a proxy ends TLS")

    @rule
    def _browsers_know_its_origin(self) -> Iterator[Fault]:
        if self.behind_proxy and not self.url:
            yield Fault("behind_proxy needs url")
        elif self.tls is not None and not is_local(self.listen) and not self.url:
            yield Fault("url is required where browsers are on other machines")

    @property
    def is_secure(self) -> bool:
        """Whether browsers use TLS."""
        return self.tls is not None or self.behind_proxy

    def origins(self, port: int) -> frozenset[str]:
        """The console's origins (RFC 6454), as browsers spell them.

        Args:
            port: the port that the console listens on.
        """
        if self.url:
            return frozenset({self.url})
        scheme, usual = ("https", 443) if self.is_secure else ("http", 80)
        suffix = "" if port == usual else f":{port}"
        return frozenset(f"{scheme}://{host}{suffix}" for host in _THIS_MACHINE)


_THIS_MACHINE = ("127.0.0.1", "localhost", "[::1]")
