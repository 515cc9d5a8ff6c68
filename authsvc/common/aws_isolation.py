"""Sessions of botocore that ignore the environment and the files of the user's account.

Botocore reads credentials, profiles, endpoints, proxies, certificate authorities and even models of
the APIs from there. Two variables stay in effect, since an organisation sets them for all its
programs and they only choose among AWS's own endpoints: ``AWS_USE_FIPS_ENDPOINT`` and
``AWS_USE_DUALSTACK_ENDPOINT``.
"""

from __future__ import annotations

import os
from datetime import datetime
from typing import Any

from aiobotocore.session import AioSession
from botocore.utils import parse_timestamp

_ALLOWED = frozenset({"use_fips_endpoint", "use_dualstack_endpoint"})

_VARIABLES: dict[str, tuple[Any, Any, Any, Any]] = {
    # Name in a file, variable, default, conversion.
    name: (None, None, default, conversion)
    for name, (_, _, default, conversion) in AioSession.SESSION_VARIABLES.items()
    if name not in _ALLOWED
} | {
    "config_file": (None, None, os.devnull, None),
    "credentials_file": (None, None, os.devnull, None),
}

DIRECT: dict[str, Any] = {"ignore_configured_endpoint_urls": True, "proxies": {}}
"""For the configuration of each client: no endpoint but the one in the settings, and no proxy."""


def isolated_session() -> AioSession:
    """A session without configuration: credentials and endpoints are passed to it."""
    session = AioSession(session_vars=_VARIABLES)
    # Parsing a response blocks the event loop, and dateutil, which botocore parses times with,
    # took four fifths of the time for a listing.
    factory = session.get_component("response_parser_factory")
    factory.set_parser_defaults(timestamp_parser=timestamp)
    return session


def timestamp(value: str | float) -> datetime:
    """A time in a response of AWS: ISO 8601, as in XML, or another form that botocore reads."""
    try:
        return datetime.fromisoformat(str(value))
    except ValueError:
        return parse_timestamp(str(value))
