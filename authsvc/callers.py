"""Which MCP servers and operators may call, and for which resources.

A caller proves itself with a client certificate or with a service token; on a socket that only this
machine reaches, it may go without (RFC 9700 section 2.6 asks for mutual TLS or the like).
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from authsvc.errors import AuthError, Reason

LOCAL_CALLER = "local"
"""The name of whoever calls where no proof is demanded."""


def check_resource(resource: str) -> None:
    """Refuse what is not a canonical resource URI.

    Canonical: absolute, http or https, no fragment (RFC 8707 section 2), scheme and host in lower
    case (RFC 3986 section 6.2.2.1), visible ASCII. One resource then has one spelling.

    Raises:
        AuthError: RESOURCE_INVALID.
    """
    try:
        parts = urlsplit(resource)
        port_is_valid = parts.port is None or parts.port > 0
    except ValueError:
        raise AuthError(Reason.RESOURCE_INVALID) from None
    authority = f"{parts.scheme}://{parts.netloc}"
    if (
        parts.scheme not in {"http", "https"}
        or not parts.hostname
        or not port_is_valid
        or "@" in parts.netloc
        or "#" in resource
        or not resource.startswith(authority)
        or authority != authority.lower()
        or not all("!" <= character <= "~" for character in resource)
    ):
        raise AuthError(Reason.RESOURCE_INVALID)


@dataclass(frozen=True, slots=True)
class Caller:
    """Somebody who may call.

    Attributes:
        name: for logs.
        resources: what it may resolve for; empty for an operator.
        admin: whether it may call ``SessionAdminService``, and that alone.
        certificate_names: subject alternative names of its client certificate, DNS or URI.
        token_digests: SHA-256 of its service tokens; several while one replaces another.
    """

    name: str
    resources: frozenset[str] = frozenset()
    admin: bool = False
    certificate_names: frozenset[str] = frozenset()
    token_digests: tuple[bytes, ...] = field(default=(), repr=False)

    def authorize_service(self) -> None:
        """Check that it is an MCP server: operators have no business with clients' sessions.

        Raises:
            AuthError: CALLER_NOT_ALLOWED.
        """
        if self.admin:
            raise AuthError(Reason.CALLER_NOT_ALLOWED, f"{self.name} is an operator")

    def authorize(self, resource: str) -> None:
        """Check that it may act for ``resource``.

        Raises:
            AuthError: RESOURCE_INVALID, or CALLER_NOT_ALLOWED.
        """
        if resource in self.resources:
            return
        check_resource(resource)
        raise AuthError(
            Reason.CALLER_NOT_ALLOWED,
            f"{self.name} is not registered for {resource[:200]!r}",
        )

    def authorize_admin(self) -> None:
        """Check that it is an operator.

        Raises:
            AuthError: CALLER_NOT_ALLOWED.
        """
        if not self.admin:
            raise AuthError(Reason.CALLER_NOT_ALLOWED, f"{self.name} is not an operator")


class Callers:
    """The registered callers.

    Args:
        registered: who proves itself.
        local: who everybody else is; None where everybody has to prove itself.
    """

    def __init__(self, registered: Iterable[Caller], *, local: Caller | None = None) -> None:
        self._registered = tuple(registered)
        self._local = local
        self._by_name = {
            name: caller for caller in self._registered for name in caller.certificate_names
        }

    def identify(self, certificate_names: Collection[str], service_token: str) -> Caller:
        """Who is calling.

        Args:
            certificate_names: subject alternative names of the client certificate that the
                connection has proven; empty without one.
            service_token: what the call presented; empty without one.

        Raises:
            AuthError: CALLER_NOT_ALLOWED when nothing proves a registered caller, or two proofs
                name two of them.
        """
        proven = {
            self._by_name[name].name: self._by_name[name]
            for name in certificate_names
            if name in self._by_name
        }
        if service_token:
            caller = self._by_token(service_token)
            proven[caller.name] = caller
        if len(proven) == 1:
            return next(iter(proven.values()))
        if not proven and self._local is not None and not self._registered:
            return self._local
        raise AuthError(Reason.CALLER_NOT_ALLOWED, "the caller has not proven who it is")

    def _by_token(self, service_token: str) -> Caller:
        digest = hashlib.sha256(service_token.encode()).digest()
        # All of them are compared, so that the time taken tells nothing.
        matching = [
            caller
            for caller in self._registered
            for known in caller.token_digests
            if hmac.compare_digest(known, digest)
        ]
        if not matching:
            raise AuthError(Reason.CALLER_NOT_ALLOWED, "the service token is unknown")
        return matching[0]
