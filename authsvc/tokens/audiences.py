"""Which tokens are for a resource: by claim ``aud`` (RFC 8707), or by their client."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field

from authsvc.common.formats import spelled_resource
from authsvc.domain.errors import AuthError, Reason

SHOWN_CHARACTERS = 300
"""How much of ``aud`` a detail quotes."""


@dataclass(frozen=True, slots=True)
class Audiences:
    """The tokens of one issuer that are for a resource.

    Attributes:
        accepted: values of ``aud``, by resource; where a resource is missing, the resource itself.
        client_ids: clients whose tokens are accepted without ``aud``, for any resource; or by
            resource, where a missing one has none.
        is_optional: whether any token without ``aud`` is accepted.
    """

    accepted: Mapping[str, Collection[str]] = field(default_factory=dict)
    client_ids: tuple[str, ...] | dict[str, tuple[str, ...]] = ()
    is_optional: bool = False

    def of(self, resource: str) -> Collection[str]:
        """The accepted values of ``aud``."""
        return self.accepted.get(resource, (resource,))

    def clients(self, resource: str) -> Collection[str]:
        """The clients whose tokens need no ``aud``."""
        by_resource = self.client_ids
        return by_resource.get(resource, ()) if isinstance(by_resource, dict) else by_resource

    def check(
        self, claims: Mapping[str, object], resource: str, *, client_id: Callable[[], str]
    ) -> None:
        """Check that a token is for ``resource``.

        Equivalent spellings of one URI are equal: ``https://h`` and ``https://h/``.

        Args:
            claims: those of the token, verified.
            resource: what it was presented for.
            client_id: its client, from the claims; called for a token without ``aud``.

        Raises:
            AuthError: TOKEN_AUDIENCE_MISMATCH, or TOKEN_MALFORMED for an ``aud`` that is none.
        """
        audience = claims.get("aud")
        if audience is None:
            if not self.is_optional:
                self._check_client(client_id(), resource)
            return
        named = _names(audience)
        accepted = self.of(resource)
        if any(name in accepted for name in named):
            return
        spelled = set(map(spelled_resource, accepted))
        if any(spelled_resource(name) in spelled for name in named):
            return
        shown = repr(audience)[:SHOWN_CHARACTERS]
        expected = " or ".join(map(repr, accepted))
        raise AuthError(
            Reason.TOKEN_AUDIENCE_MISMATCH,
            f"aud {shown}, expected {expected}",
            setting="audiences",
        )

    def _check_client(self, client_id: str, resource: str) -> None:
        clients = self.clients(resource)
        if client_id and client_id in clients:
            return
        detail = "the token has no aud"
        if clients:
            detail += f", and its client {client_id[:64]!r} is none of client_ids"
        raise AuthError(Reason.TOKEN_AUDIENCE_MISMATCH, detail, setting="client_ids")


def _names(audience: object) -> list[str]:
    """Claim ``aud`` (RFC 7519 section 4.1.3)."""
    if isinstance(audience, str):
        return [audience]
    if not isinstance(audience, list) or not all(isinstance(item, str) for item in audience):
        raise AuthError(Reason.TOKEN_MALFORMED, "aud: neither a string nor a list of strings")
    return audience
