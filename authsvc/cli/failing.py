"""How commands fail: one line that says why, and an exit code."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO, Any

import click

from authsvc.common.printable import printable
from authsvc.domain.errors import AuthError, GrpcStatus, Reason


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


@contextmanager
def errors_explained(target: str) -> Iterator[None]:
    """Turn an ``AuthError`` into a ``Failure`` with a remedy."""
    try:
        yield
    except AuthError as error:
        raise _failure(error, target) from None


def _failure(error: AuthError, target: str) -> Failure:
    text = f"{error.reason.name}: {error.detail or error.reason.message}"
    if "CERTIFICATE_VERIFY_FAILED" in text:
        return Unreachable(
            f"{text}\nThe certificate at {target} is not signed by an authority in --ca-file "
            "(ca_file), has expired, or is for another name. Run `authsvc doctor` for details."
        )
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
