"""Methods of client authentication: each adds to the form of a request, its headers, or both."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol


@dataclass(frozen=True, slots=True)
class ClientParameters:
    """What authenticates the client of one request.

    Attributes:
        form: parameters of the request's form.
        headers: headers of the request.
        secret: what no message may show.
    """

    form: Mapping[str, str] = field(default_factory=dict, repr=False)
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    secret: str = field(default="", repr=False)


class ClientAuthentication(Protocol):
    """A method of client authentication."""

    @property
    def setting(self) -> str:
        """The setting of the secret or key, such as ``introspection.client_secret_file``."""
        ...

    def parameters(self, endpoint: str, now: float) -> ClientParameters:
        """What authenticates one request.

        Args:
            endpoint: the URL that the request is sent to.
            now: seconds since the epoch.

        Raises:
            SecretFileError: the secret, key or assertion cannot be used. The message names its
                file.
        """
        ...
