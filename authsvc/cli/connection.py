"""How commands connect: options and variables; for operators' commands also a TOML file.

The variables are ``AUTHSVC_ADMIN_…`` for operators, ``AUTHSVC_CLIENT_…`` for commands that ask as
an MCP server does.
"""

from __future__ import annotations

import asyncio
import functools
import tomllib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from authsvc.cli.failing import Failure, errors_explained

if TYPE_CHECKING:
    # gRPC takes a while to import.
    from authsvc.client import AdminClient, AuthClient, ClientTls

PREFIX = "AUTHSVC_ADMIN_"
CLIENT_PREFIX = "AUTHSVC_CLIENT_"

ResultT = TypeVar("ResultT")
ClientT = TypeVar("ClientT", "AdminClient", "AuthClient")


@dataclass(frozen=True, slots=True)
class Connection:
    """The address of authsvc, and what authenticates its caller.

    Attributes:
        target: as ``AdminClient`` takes it.
        ca_file: PEM authorities of authsvc's certificate; None without TLS.
        certificate_file: the caller's certificate; None without one.
        key_file: its key.
        service_token_file: the caller's service token; None without one.
        timeout_seconds: of one call, retries included.
    """

    target: str
    ca_file: Path | None
    certificate_file: Path | None
    key_file: Path | None
    service_token_file: Path | None
    timeout_seconds: float

    def run(self, work: Callable[[AdminClient], Awaitable[ResultT]]) -> ResultT:
        """What ``work`` does with an operator's client.

        Raises:
            Failure: authsvc denies the call or is unreachable, or options contradict each other.
        """
        from authsvc.client import AdminClient

        with errors_explained(self.target, self.tls()):
            return self._run(AdminClient, work)

    def ask(self, work: Callable[[AuthClient], Awaitable[ResultT]]) -> ResultT:
        """What ``work`` does with the client of an MCP server.

        Raises:
            AuthError: authsvc denies the call or is unreachable.
            Failure: options contradict each other.
        """
        from authsvc.client import AuthClient

        return self._run(AuthClient, work)

    def _run(self, kind: type[ClientT], work: Callable[[ClientT], Awaitable[ResultT]]) -> ResultT:
        client = self._client(kind)

        async def connected() -> ResultT:
            async with client:
                return await work(client)

        return asyncio.run(connected())

    def tls(self) -> ClientTls | None:
        """The TLS settings; None in the clear.

        Raises:
            Failure: options contradict each other.
        """
        from authsvc.client import ClientTls

        if (self.certificate_file is None) != (self.key_file is None):
            raise Failure("--certificate-file and --key-file go together")
        if self.ca_file is not None:
            return ClientTls(
                self.ca_file, self.certificate_file, self.key_file, self.service_token_file
            )
        if self.certificate_file or self.service_token_file:
            raise Failure("a certificate or service token requires TLS: give --ca-file")
        return None

    def _client(self, kind: type[ClientT]) -> ClientT:
        from authsvc.client.targets import Targets

        tls = self.tls()
        try:
            if tls is None and not Targets.parse(self.target).on_this_machine:
                raise Failure(
                    f"{self.target} is not on this machine: TLS is required, give --ca-file"
                )
            return kind(self.target, deadline_seconds=self.timeout_seconds, tls=tls)
        except ValueError as error:
            raise Failure(f"--target: {error}") from None
        except OSError as error:
            raise Failure(f"TLS: {error.strerror}") from None


def _path_option(prefix: str, name: str, about: str) -> Callable[..., Callable[..., Any]]:
    variable = prefix + name.removeprefix("--").replace("-", "_").upper()
    kind = click.Path(path_type=Path, dir_okay=False)
    return click.option(name, type=kind, envvar=variable, show_envvar=True, help=about)


def _options(prefix: str, caller: str) -> list[Callable[..., Callable[..., Any]]]:
    """The options of a connection, whose caller has to be ``caller``."""
    return [
        click.option(
            "--target",
            default="127.0.0.1:50051",
            envvar=f"{prefix}TARGET",
            show_envvar=True,
            show_default=True,
            help="Address of authsvc; separate several replicas with commas.",
        ),
        _path_option(prefix, "--ca-file", "Authorities (PEM) that sign authsvc's certificate."),
        _path_option(prefix, "--certificate-file", f"Your certificate; its caller needs {caller}."),
        _path_option(prefix, "--key-file", "Its key."),
        _path_option(
            prefix, "--service-token-file", "Your service token, instead of a certificate."
        ),
        click.option(
            "--timeout-seconds",
            type=click.FloatRange(min=0, min_open=True),
            default=10.0,
            envvar=f"{prefix}TIMEOUT_SECONDS",
            show_envvar=True,
            show_default=True,
            help="Timeout of one call, retries included.",
        ),
    ]


NAMES = tuple(Connection.__dataclass_fields__)
"""The settings that the file may have."""


def _read_file(ctx: click.Context, parameter: click.Parameter, path: Path | None) -> None:
    """Take the defaults of the options from the file."""
    if path is None:
        return
    try:
        given = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise Failure(f"{path}: {error.strerror}") from None
    except ValueError as error:
        raise Failure(f"{path}: not TOML: {error}") from None
    for name in given:
        if name not in NAMES:
            raise Failure(f"{path}: {name}: there is no such setting; there are {', '.join(NAMES)}")
    ctx.default_map = {**(ctx.default_map or {}), **given}


def _connected(
    command: Callable[..., None], options: list[Callable[..., Callable[..., Any]]]
) -> Callable[..., None]:
    """A command with these options; it gets ``connection``, a ``Connection``."""

    @functools.wraps(command)
    def connected(**given: Any) -> None:  # noqa: ANN401 - whatever options the command has
        values = {name: given.pop(name) for name in NAMES}
        command(connection=Connection(**values), **given)

    for option in reversed(options):
        connected = option(connected)
    return connected


def client_options(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command that asks as an MCP server does the options of a connection; it gets
    ``connection``, a ``Connection``."""
    return _connected(command, _options(CLIENT_PREFIX, "the resource among its resources"))


def admin_options(command: Callable[..., None]) -> Callable[..., None]:
    """Give an operator's command the options of a connection; it gets ``connection``, a
    ``Connection``."""
    return click.option(
        "--admin-config",
        type=click.Path(path_type=Path, dir_okay=False),
        envvar=f"{PREFIX}CONFIG",
        show_envvar=True,
        is_eager=True,
        expose_value=False,
        callback=_read_file,
        help="A TOML file with target, ca_file, service_token_file and so on; variables and "
        "options override it.",
    )(_connected(command, _options(PREFIX, "admin = true")))
