"""Which MCP servers and operators may call, and for which resources.

A caller proves itself with a client certificate or with a service token; on a socket that only this
machine reaches, it may go without (RFC 9700 section 2.6 asks for mutual TLS or the like).
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, field

from authsvc.access.service_tokens import ServiceTokenFile
from authsvc.common.formats import spelled_resource
from authsvc.domain.errors import AuthError, Reason
from authsvc.net.urls import resource_fault

LOCAL_CALLER = "local"
"""The name of every caller where callers need no proof."""


def comparable(name: str) -> str:
    """A DNS or URI name in the spelling in which it is compared."""
    return name if ":" in name else name.lower()


@dataclass(frozen=True, slots=True)
class Caller:
    """A registered caller: an MCP server or an operator.

    Attributes:
        name: in logs and audit events.
        resources: that it may name, in their canonical spelling; empty for an operator. The caller
            that is any may be both.
        admin: whether it may call ``SessionAdminService``, and that alone unless it has resources.
        certificate_names: subject alternative names of its client certificate, DNS or URI; DNS
            names in any case.
        token_digests: SHA-256 of its service tokens; several while one replaces another.
        token_files: files with its service tokens, likewise.
    """

    name: str
    resources: frozenset[str] = frozenset()
    admin: bool = False
    certificate_names: frozenset[str] = frozenset()
    token_digests: tuple[bytes, ...] = field(default=(), repr=False)
    token_files: tuple[ServiceTokenFile, ...] = field(default=(), repr=False)

    def digests(self) -> Iterator[bytes]:
        """SHA-256 of each service token that is valid now."""
        yield from self.token_digests
        for file in self.token_files:
            digest = file.digest()
            if digest is not None:
                yield digest

    def authorize_service(self) -> None:
        """Check that it is an MCP server: operators may not resolve sessions.

        Raises:
            AuthError: CALLER_NOT_ALLOWED.
        """
        if self.admin and not self.resources:
            raise AuthError(
                Reason.CALLER_NOT_ALLOWED, f"{self.name} is an operator", setting=self._admin
            )

    def spelled(self, resource: str) -> str:
        """A resource as it is registered, where a request names it in another spelling.

        Sessions and answers are kept by this spelling. A text that names no resource of this
        caller's is returned as it is: ``authorize`` rejects it.
        """
        return resource if resource in self.resources else spelled_resource(resource)

    def authorize(self, resource: str) -> None:
        """Check that it may act for ``resource``, in any spelling.

        Raises:
            AuthError: RESOURCE_INVALID, or CALLER_NOT_ALLOWED.
        """
        if resource in self.resources:
            return
        if fault := resource_fault(resource):
            raise AuthError(Reason.RESOURCE_INVALID, f"the resource {fault}")
        if spelled_resource(resource) not in self.resources:
            raise AuthError(
                Reason.CALLER_NOT_ALLOWED,
                f"{self.name} is not registered for {resource[:200]!r}",
                setting=f"{self._table}resources",
            )

    def authorize_admin(self) -> None:
        """Check that it is an operator.

        Raises:
            AuthError: CALLER_NOT_ALLOWED.
        """
        if not self.admin:
            raise AuthError(
                Reason.CALLER_NOT_ALLOWED, f"{self.name} is not an operator", setting=self._admin
            )

    @property
    def _table(self) -> str:
        """The table of its settings, a dot at the end. The caller that is any has none: its
        settings are at the top."""
        has_proof = self.certificate_names or self.token_digests or self.token_files
        return f"callers[{self.name}]." if has_proof else ""

    @property
    def _admin(self) -> str:
        """The setting that makes it an operator, or not."""
        return f"{self._table}admin" if self._table else "local_operators"


class Callers:
    """The registered callers.

    Args:
        registered: the callers that prove who they are.
        local: every caller, where none is registered; None where each has to prove who it is.

    Raises:
        ValueError: two callers have one certificate name or service token.
    """

    def __init__(self, registered: Iterable[Caller], *, local: Caller | None = None) -> None:
        self._registered = tuple(registered)
        self._local = local
        self._by_name = {
            comparable(name): caller
            for caller in self._registered
            for name in caller.certificate_names
        }
        self.by_certificate = bool(self._by_name)
        """Whether a caller is registered with a certificate name."""
        self.by_token = any(one.token_digests or one.token_files for one in self._registered)
        """Whether a caller is registered with a service token."""
        tokens = [digest for caller in self._registered for digest in set(caller.digests())]
        # One caller may have a name in two spellings.
        names = [
            name
            for caller in self._registered
            for name in set(map(comparable, caller.certificate_names))
        ]
        if len(set(names)) < len(names):
            raise ValueError("two have the same certificate name")
        if len(set(tokens)) < len(tokens):
            raise ValueError("two have the same service token")

    def identify(self, certificate_names: Collection[str], service_token: str) -> Caller:
        """The caller that the proofs of a call identify.

        Args:
            certificate_names: subject alternative names of the client certificate that the
                connection has proven; empty without one.
            service_token: of the call; empty without one.

        Raises:
            AuthError: CALLER_NOT_ALLOWED: no proof identifies a registered caller, or two proofs
                identify two of them.
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
        shown = ", ".join(certificate_names)[:200] or "nothing"
        raise AuthError(
            Reason.CALLER_NOT_ALLOWED,
            f"{shown!r} identifies no single caller",
            setting="callers.certificate_names" if certificate_names else "callers",
        )

    def _by_token(self, service_token: str) -> Caller:
        digest = hashlib.sha256(service_token.encode("utf-8", "surrogatepass")).digest()
        # All of them are compared: the time must not depend on which one matches.
        matching = {
            caller.name: caller
            for caller in self._registered
            for known in caller.digests()
            if hmac.compare_digest(known, digest)
        }
        if len(matching) != 1:
            # Files may come to hold the same token while the service runs.
            detail = (
                "two callers have the service token" if matching else "an unknown service token"
            )
            raise AuthError(
                Reason.CALLER_NOT_ALLOWED, detail, setting="callers.service_token_files"
            )
        return next(iter(matching.values()))
