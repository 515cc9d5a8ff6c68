"""How commands fail: one line that says why, and an exit code."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO, TYPE_CHECKING, Any

import click

from authsvc.common.printable import printable
from authsvc.domain.errors import AuthError, GrpcStatus, Reason

if TYPE_CHECKING:
    # gRPC takes a while to import.
    from authsvc.client import ClientTls


class Failure(click.ClickException):
    """Ends a command: wrong usage, or a wrong configuration.

    Args:
        message: lines that say what is wrong, and the remedy. May quote untrusted text.
    """

    exit_code = 2

    def show(self, file: IO[Any] | None = None) -> None:
        """Print it."""
        lines = [printable(line) for line in self.message.splitlines()]
        click.echo("authsvc: " + "\n".join(lines), file=file, err=file is None)


class Negative(Failure):
    """The answer is no: denied, not found or unhealthy."""

    exit_code = 1


class Unreachable(Failure):
    """authsvc cannot be reached, or could not serve the request: try again."""

    exit_code = 3


_UNTRUSTED = ("CERTIFICATE_VERIFY_FAILED", "Hostname Verification Check failed")
"""gRPC's messages for a certificate that is not accepted."""

_CLOSED = "Socket closed"
"""gRPC's message for a connection that the server has closed before it spoke HTTP/2."""

_NO_GRPC = {
    # gRPC's messages for what it gets in place of its own protocol.
    "Failed parsing HTTP/2": "What listens at {target} does not speak gRPC in the clear: it is "
    "another server, or requires TLS (--ca-file). Correct --target.",
    "WRONG_VERSION_NUMBER": "What listens at {target} does not speak TLS: it is another server, or "
    "an authsvc without [tls]. Correct --target, or give no --ca-file.",
    "missing selected ALPN": "What listens at {target} speaks TLS, and no gRPC: it is another "
    "server. Correct --target.",
}


@contextmanager
def errors_explained(target: str, tls: ClientTls | None = None) -> Iterator[None]:
    """Turn an ``AuthError`` into a ``Failure`` with a remedy.

    Args:
        target: the address of authsvc.
        tls: how it is authenticated; None in the clear. If its certificate is not accepted, it is
            asked which one it presents.
    """
    try:
        yield
    except AuthError as error:
        raise _failure(error, target, tls) from None


def connection_remedy(
    cause: str, target: str, tls: ClientTls | None, *, name: str | None = None
) -> str:
    """What to do about a server that cannot be connected to; empty where only its absence is known.

    Args:
        cause: has gRPC's message.
        target: the address of authsvc.
        tls: as of ``errors_explained``.
        name: that of its certificate, as ``--name`` of the command has it, empty if not given; None
            for a command without that option.
    """
    if any(message in cause for message in _UNTRUSTED):
        return _why_untrusted(target, tls, name)
    for message, remedy in _NO_GRPC.items():
        if message in cause:
            return remedy.format(target=target)
    return _why_closed(target, tls) if _CLOSED in cause else ""


def _failure(error: AuthError, target: str, tls: ClientTls | None) -> Failure:
    text = f"{error.reason.name}: {error.detail or error.reason.message}"
    if remedy := connection_remedy(text, target, tls):
        return Unreachable(f"{text}\n{remedy}")
    if error.reason is Reason.CONFLICT:
        return Unreachable(f"{text}\nNothing has changed. Run the command again.")
    if error.reason is Reason.STORE_UNAVAILABLE:
        return Unreachable(
            f"{text}\nauthsvc answers, and its store does not. Run `authsvc doctor` for details."
        )
    if error.reason.status is GrpcStatus.UNAVAILABLE:
        return Unreachable(
            f"{text}\nCheck that authsvc listens at {target}. Run `authsvc doctor` for details."
        )
    if error.reason is Reason.CALLER_NOT_ALLOWED:
        return Negative(
            f"{error.reason.name}: {error.detail or 'you are no operator of this authsvc'}\n"
            "Only a caller with admin = true may do this. Give its service token or "
            "certificate: --service-token-file, or --certificate-file with --key-file. Where "
            "authsvc has resources in place of [[callers]], add local_operators = true to its "
            "configuration: any process on the machine is an operator then."
        )
    return Negative(text)


def _why_untrusted(target: str, tls: ClientTls | None, name: str | None) -> str:
    # Imported here: it is slow to import, and needed seldom.
    from authsvc.diagnosis.presented import why_untrusted

    found = "" if tls is None else asyncio.run(why_untrusted(target, tls, name))
    return found or (
        f"The certificate at {target} is not signed by an authority in --ca-file (ca_file), has "
        "expired, or is for another name. Run `authsvc doctor` for details."
    )


def _why_closed(target: str, tls: ClientTls | None) -> str:
    """Servers do not say why. They close a connection in the clear where they speak TLS, and one
    whose certificate they do not accept."""
    if tls is None:
        return f"What listens at {target} requires TLS: give --ca-file. Or it is another server."
    file = tls.certificate_file
    if file is None:
        return (
            f"What listens at {target} requires a certificate of its callers: give "
            "--certificate-file and --key-file. Or it is another server."
        )
    from authsvc.net.certificate_files import validity_of
    from authsvc.net.validity import State

    validity, now = validity_of(file), time.time()
    if validity.state(now) in {State.EXPIRED, State.NOT_YET_VALID}:
        return f"The certificate in --certificate-file {file} {validity.described(now)}."
    return (
        f"What listens at {target} does not accept the certificate in --certificate-file {file}: "
        "client_ca_file of authsvc must have the authority that signed it."
    )
