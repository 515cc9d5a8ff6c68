"""Bearer tokens over HTTP (RFC 6750): the header that presents one, the challenge for one."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass


class AmbiguousCredentialsError(Exception):
    """More than one Authorization header: it is undefined which one counts."""


def presented_token(values: Sequence[str]) -> str:
    """The token in the values of a request's Authorization headers; empty when there is none.

    The scheme is matched without regard to case (RFC 9110 section 11.1); surrounding and repeated
    white space does not count. Another scheme presents no token here: such a request "lacks any
    authentication information" (RFC 6750 section 3.1) and is challenged where it needs some.

    Raises:
        AmbiguousCredentialsError: there are several.
    """
    if len(values) > 1:
        raise AmbiguousCredentialsError
    if not values:
        return ""
    # Bytes split at ASCII white space alone; text would also split at what Latin-1 has.
    scheme, _, rest = values[0].encode("latin-1").strip().replace(b"\t", b" ").partition(b" ")
    return rest.strip().decode("latin-1") if scheme.lower() == b"bearer" else ""


@dataclass(frozen=True, slots=True)
class Challenge:
    """A ``WWW-Authenticate: Bearer`` header (RFC 6750 section 3, RFC 9728 section 5.1).

    Attributes:
        scopes: what the request needs.
        error: ``invalid_token``, ``insufficient_scope`` or ``invalid_request``; empty when the
            request presented no token.
        description: for people, beside ``error``.
    """

    scopes: tuple[str, ...] = ()
    error: str = ""
    description: str = ""

    def header(self, resource_metadata: str) -> str:
        """The header's value.

        Args:
            resource_metadata: URL of the protected resource's metadata; empty for none.
        """
        parameters = {
            "resource_metadata": resource_metadata,
            "scope": " ".join(self.scopes),
            "error": self.error,
            "error_description": self.description,
        }
        said = (f'{name}="{_quotable(value)}"' for name, value in parameters.items() if value)
        return f"Bearer {', '.join(said)}".rstrip()


_UNQUOTABLE = re.compile(r"[^\x20-\x21\x23-\x5B\x5D-\x7E]")
"""What RFC 6750 section 3 keeps out of a quoted value: quotes, backslashes, control characters."""


def _quotable(text: str) -> str:
    """``text`` without anything that could end a quoted value, or the header, early."""
    return _UNQUOTABLE.sub("?", text)
