"""Sessions of botocore that the environment and the files of the account have no say in.

Botocore reads credentials, profiles, endpoints, proxies, certificate authorities and even models of
the APIs from there. What an organisation sets for all its programs and only chooses among AWS's own
endpoints is left: ``AWS_USE_FIPS_ENDPOINT``, ``AWS_USE_DUALSTACK_ENDPOINT``.
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
"""For the configuration of each client: the endpoint that is set and no other, and no proxy."""


def isolated_session() -> AioSession:
    """A session that finds nothing: what it needs is given to it."""
    session = AioSession(session_vars=_VARIABLES)
    # The loop stands still while an answer is parsed, and four fifths of that went into the times
    # of a listing: botocore leaves them to dateutil.
    factory = session.get_component("response_parser_factory")
    factory.set_parser_defaults(timestamp_parser=timestamp)
    return session


def timestamp(value: str | float) -> datetime:
    """A time as AWS spells them: in XML by ISO 8601, else as botocore reads it."""
    try:
        return datetime.fromisoformat(str(value))
    except ValueError:
        return parse_timestamp(str(value))
