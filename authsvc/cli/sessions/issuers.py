"""The issuers that the service is configured with, against the one that an operator named."""

from __future__ import annotations

from typing import TYPE_CHECKING

from authsvc.cli.failing import Failure
from authsvc.cli.output import say

if TYPE_CHECKING:
    from authsvc.client import AdminClient


async def remark_on_issuer(client: AdminClient, named: str) -> None:
    """Say so if nothing new can match, as the service is not configured with the issuer."""
    if not named:
        return
    issuers = [it.issuer for it in (await client.status()).issuers]
    if named not in issuers:
        configured = ", ".join(issuers)
        say(f"The service is not configured with the issuer {named}, but {configured}.", err=True)


async def configured_issuer(client: AdminClient, named: str) -> str:
    """The issuer that was named; without a name, the only one.

    Raises:
        Failure: authsvc is not configured with it, or with several where none was named.
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
