"""The names of the trusted issuers, and which of them an unknown name is likely meant to be."""

from __future__ import annotations

import re
from collections.abc import Iterable

from authsvc.domain.errors import AuthError, Reason
from authsvc.tokens.introspection_answers import same_issuer
from authsvc.tokens.sources import table_of

SHOWN_CHARACTERS = 128
"""How much of an unknown name a detail quotes, and is compared."""

_DEFAULT_PORT = re.compile(r"^([^/]+):(?:443|80)(?=/|$)")

_ENTRA = re.compile(
    r"(?:sts\.windows\.net|sts\.chinacloudapi\.cn|login\.windows\.net"
    r"|login\.microsoftonline\.(?:com|us)|login\.partner\.microsoftonline\.cn)"
    r"/([^/]+)(?:/v2\.0)?"
)
"""An issuer of Entra, version 1.0 or 2.0, without its scheme; the group is its tenant."""

_TENANT = "entra tenant "

_TEMPLATES = ("common", "organizations")
"""Tenants of Entra that no token names: each token names its own."""


class IssuerNames:
    """Names of issuers, which are compared exactly. Another spelling is a hint for the operator.

    Args:
        names: claims ``iss`` of the issuers whose JWTs are verified by keys.
        introspected: that of the issuer whose opaque tokens are introspected; empty for none.
    """

    def __init__(self, names: Iterable[str], introspected: str = "") -> None:
        self._spelled = {_spelling(name): name for name in names}
        self._of_host = {_host(name): name for name in self._spelled.values()}
        self._introspected = introspected

    def unknown(self, name: str) -> AuthError:
        """The rejection of a token with an ``iss`` that is none of the names.

        Its detail has the name that is nearest, and what differs.
        """
        if not name:
            return AuthError(Reason.TOKEN_ISSUER_UNKNOWN, "the token has no iss")
        name = name[:SHOWN_CHARACTERS]
        if self._introspected and same_issuer(name, self._introspected):
            return _unknown(
                f"iss {name!r}: opaque tokens of that issuer are introspected, and this is a JWT",
                "introspection.tokens",
            )
        near = self._nearest(_spelling(name))
        if near is not None:
            detail = f"iss {name!r}, but configured is {near!r}: {_difference(name, near)}"
            return _unknown(detail, f"{table_of(near)}.issuer")
        near = self._of_host.get(_host(name))
        of_host = f"; configured is {near!r}, another issuer of that host" if near else ""
        return _unknown(f"iss {name!r}{of_host}", "issuers")

    def _nearest(self, spelling: str) -> str | None:
        near = self._spelled.get(spelling)
        if near is None and spelling.startswith(_TENANT):
            templates = (self._spelled.get(f"{_TENANT}{tenant}") for tenant in _TEMPLATES)
            near = next(filter(None, templates), None)
        return near


def _unknown(detail: str, setting: str) -> AuthError:
    return AuthError(Reason.TOKEN_ISSUER_UNKNOWN, detail, setting=setting)


def _without_scheme(name: str) -> str:
    return name.partition("://")[2] or name


def _spelling(name: str) -> str:
    """A name without what people get wrong: the scheme, the case, a default port, a slash at the
    end, and the version of Entra's tokens."""
    text = _DEFAULT_PORT.sub(r"\1", _without_scheme(name.strip().lower())).rstrip("/")
    tenant = _ENTRA.fullmatch(text)
    return f"{_TENANT}{tenant[1]}" if tenant else text


def _host(name: str) -> str:
    return _without_scheme(name.strip().lower()).partition("/")[0]


def _difference(name: str, near: str) -> str:
    if name.rstrip("/") == near.rstrip("/"):
        return "they differ in the slash at the end"
    if name.lower() == near.lower():
        return "they differ in upper and lower case"
    if _without_scheme(name) == _without_scheme(near):
        return "they differ in http and https"
    if _spelling(name) != _spelling(near):
        return "each token of Entra names its own tenant"
    if _spelling(name).startswith(_TENANT):
        return "they are one tenant's, of versions 1.0 and 2.0 of Entra's tokens"
    return "they differ in spelling"
