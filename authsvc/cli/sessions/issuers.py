"""The issuers that the service is configured with, against the one that an operator named."""

from __future__ import annotations

from typing import TYPE_CHECKING

from authsvc.cli.failing import Failure
from authsvc.cli.output import print_line

if TYPE_CHECKING:
    from authsvc.client import AdminClient


async def remark_on_issuer(client: AdminClient, named: str) -> None:
    """Warn if the service is not configured with the issuer that a filter names."""
    if not named:
        return
    issuers = [it.issuer for it in (await client.status()).issuers]
    if named not in issuers:
        configured = ", ".join(issuers)
        print_line(
            f"The service is not configured with the issuer {named}, but {configured}.", err=True
        )


async def configured_issuer(client: AdminClient, named: str) -> str:
    """The issuer that was given; if none was, the only configured one.

    Raises:
        Failure: authsvc is not configured with it, or none was given and it has several.
        AuthError: as ``AdminClient``.
    """
    issuers = [it.issuer for it in (await client.status()).issuers]
    if not named and len(issuers) == 1:
        return issuers[0]
    if named in issuers:
        return named
    choice = f"--issuer: give one of {', '.join(issuers)}"
    if not named:
        raise Failure(choice)
    raise Failure(
        f"the service is not configured with the issuer {named}: nothing was revoked\n"
        f"{choice}; for an issuer that was removed from the configuration, add "
        "--allow-unknown-issuer"
    )
