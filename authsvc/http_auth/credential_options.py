"""Which credentials a resolver is asked for, and how it is given that."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any

from authsvc.domain.credential_requests import CredentialRequest
from authsvc.domain.resolution import Resolver

_LACKING = (
    "the resolver takes no credentials: its resolve and create need an argument credentials "
    "(authsvc.client.AuthClient has it)"
)


class CredentialOptions:
    """The argument by which a resolver is given which credentials the answer is to have.

    A resolver of a user's own may lack it. Then each answer has what that resolver issues, and
    nothing can be asked for.

    Args:
        resolver: may take it.
        on_demand: whether requests are resolved without credentials.

    Attributes:
        of_request: the arguments of ``resolve`` and ``create`` for a request itself.

    Raises:
        TypeError: ``on_demand``, and the resolver does not take the argument.
    """

    def __init__(self, resolver: Resolver, *, on_demand: bool) -> None:
        self._takes_them = takes(resolver.resolve, "credentials")
        if on_demand and not (self._takes_them and takes(resolver.create, "credentials")):
            raise TypeError(_LACKING)
        self.of_request: Mapping[str, Any] = {"credentials": ()} if on_demand else {}

    def of(self, wanted: CredentialRequest) -> dict[str, Any]:
        """The arguments of a ``resolve`` that asks for credentials.

        Raises:
            TypeError: the resolver does not take them.
        """
        if not self._takes_them:
            raise TypeError(_LACKING)
        return {"credentials": (wanted,)}


def takes(function: Callable[..., object], name: str) -> bool:
    """Whether a function has a parameter of this name, or any; not where that cannot be told."""
    try:
        parameters = inspect.signature(function).parameters
    except (TypeError, ValueError):
        return False  # one that is not of Python
    return name in parameters or any(it.kind is it.VAR_KEYWORD for it in parameters.values())
