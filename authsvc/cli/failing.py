"""How commands end when something is in the way: one line that says what, and an exit code."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO, Any

import click

from authsvc.common.printable import printable
from authsvc.domain.errors import AuthError, Reason, Status


class Failure(click.ClickException):
    """Ends a command: wrong usage, or a wrong configuration.

    Args:
        message: lines that say what is wrong, and what mends it. May quote hostile text.
    """

    exit_code = 2

    def show(self, file: IO[Any] | None = None) -> None:
        """Print it."""
        lines = [printable(line) for line in self.message.splitlines()]
        click.echo("authsvc: " + "\n".join(lines), file=file, err=file is None)


class No(Failure):
    """The answer is no: what was asked for is refused, not there or unwell."""

    exit_code = 1


class OutOfReach(Failure):
    """authsvc cannot be asked."""

    exit_code = 3


@contextmanager
def refusals_explained(target: str) -> Iterator[None]:
    """Turn what authsvc answers with into a ``Failure``."""
    try:
        yield
    except AuthError as error:
        raise _failure(error, target) from None


def _failure(error: AuthError, target: str) -> Failure:
    text = f"{error.reason.name}: {error.detail or error.reason.message}"
    if "CERTIFICATE_VERIFY_FAILED" in text:
        return OutOfReach(
            f"{text}\nThe certificate at {target} is not signed by an authority in --ca-file "
            "(ca_file), has ended, or is for another name. `authsvc doctor` looks into it."
        )
    if error.reason.status is Status.UNAVAILABLE:
        return OutOfReach(
            f"{text}\nIs {target} where authsvc listens? `authsvc doctor` looks into it."
        )
    if error.reason is Reason.CALLER_NOT_ALLOWED:
        return No(
            f"{text}\nOnly a caller with admin = true may do this. Show its service token or "
            "certificate: --service-token-file, or --certificate-file with --key-file."
        )
    return No(text)
