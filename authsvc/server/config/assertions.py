"""``[assertions]``: JWTs that tell an upstream who is asking, and the keys that sign them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, Field

from authsvc.assertions.claims import MAX_LIFETIME_SECONDS
from authsvc.common.formats import check_issuer, check_listening
from authsvc.common.setting_rules import Fault
from authsvc.common.settings import Table
from authsvc.tokens.introspection_answers import same_issuer


class AssertionSettings(Table):
    """``[assertions]``: signs JWTs that tell an upstream who is asking, and serves their keys."""

    issuer: Annotated[str, AfterValidator(check_issuer)] = Field(
        description="Claim iss of assertions, such as https://authsvc.example.com."
    )
    listen: Annotated[str, AfterValidator(check_listening)] = Field(
        default="127.0.0.1:50053",
        description="host:port of the JWK Set, at /.well-known/jwks.json: over HTTP on this "
        "machine alone, else over HTTPS with the certificate of [tls]. Workers share the port.",
    )
    lifetime_seconds: int = Field(
        default=MAX_LIFETIME_SECONDS,
        ge=5,
        le=MAX_LIFETIME_SECONDS,
        description="The longest life of an assertion. It ends no later than token and session.",
    )
    rotation_days: int = Field(
        default=30, ge=1, le=365, description="How long a key signs before the next one does."
    )
    encryption_key_file: Path | None = Field(
        default=None,
        description="A secret that encrypts the keys in a sqlite or redis store, and is required "
        "with them: 32 random characters or more, such as openssl rand -hex 32, in a file that not "
        "every user can open.",
    )


def issuer_faults(table: AssertionSettings, issuers: Iterable[str]) -> Iterator[Fault]:
    """A fault where an issuer of tokens has the same name: its tokens would look like assertions,
    and assertions like its tokens."""
    if any(same_issuer(table.issuer, issuer) for issuer in issuers):
        yield Fault(
            "is also an issuer of tokens: choose a name of its own", ("assertions", "issuer")
        )


def encryption_faults(table: AssertionSettings, kind: str, *, is_shared: bool) -> Iterator[Fault]:
    """Faults of ``encryption_key_file``.

    Args:
        table: the settings.
        kind: of the store.
        is_shared: whether the store keeps the keys outside of this process.
    """
    at = ("assertions", "encryption_key_file")
    if is_shared and table.encryption_key_file is None:
        yield Fault(
            f"is required with store.kind = {kind!r}, which would keep the private keys in clear; "
            "make the file with: (umask 077; openssl rand -hex 32 > FILE)",
            at,
        )
    if not is_shared and table.encryption_key_file is not None:
        yield Fault(
            f"has no effect with store.kind = {kind!r}, which keeps the keys in this process: "
            "remove it",
            at,
        )
