"""Sessions of botocore that ignore the environment and the files of the user's account.

Botocore reads credentials, profiles, endpoints, proxies, certificate authorities and even models of
the APIs from there. It trusts a list of authorities of its own, in place of the system's. Two
variables stay in effect, since an organisation sets them for all its programs and they only choose
among AWS's own endpoints: ``AWS_USE_FIPS_ENDPOINT`` and ``AWS_USE_DUALSTACK_ENDPOINT``.
"""

from __future__ import annotations

import os
import ssl
from datetime import datetime
from typing import Any

from aiobotocore.httpsession import AIOHTTPSession
from aiobotocore.session import AioSession
from botocore.loaders import Loader
from botocore.session import Session
from botocore.utils import parse_timestamp

from authsvc.net.proxies import Proxy
from authsvc.net.system_bundle import system_bundle_file
from authsvc.net.trust import Trust, tls_context

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


class _TrustingSession(AIOHTTPSession):
    """HTTP of a client that trusts what our other clients trust. A changed ``ca_file`` takes effect
    for new connections; those of before are not used again.

    Attributes:
        trust: the authorities; None for the system's.
    """

    trust: Trust | None = None
    _used: ssl.SSLContext | None = None

    def _build_verify_context(self) -> ssl.SSLContext:
        return self._current()

    # Neither is in the stubs: tests/test_environment.py says whether aiobotocore still has them.
    async def _get_session(self, proxy_url: str | None) -> object:
        if (current := self._current()) is not self._used:
            self._used = current
            self._sessions.clear()  # type: ignore[attr-defined] # as above
        return await super()._get_session(proxy_url)  # type: ignore[misc] # as above

    def _current(self) -> ssl.SSLContext:
        return tls_context() if self.trust is None else self.trust.context()


def connection_options(trust: Trust | None = None, proxy: Proxy | None = None) -> dict[str, Any]:
    """For the configuration of each client: no endpoint but the one in the settings, and what its
    connections go through.

    Args:
        trust: the certificate authorities; None for the system's.
        proxy: what https goes through; None for direct connections.
    """
    session: type[_TrustingSession] = _TrustingSession
    if trust is not None:

        class WithFile(_TrustingSession): ...

        WithFile.trust = trust
        session = WithFile
    proxies = {} if proxy is None else {"https": proxy.url_with_password()}
    return {**blocking_options(), "proxies": proxies, "http_session_cls": session}


def blocking_options() -> dict[str, Any]:
    """As ``connection_options``, for clients of ``isolated_blocking_session``."""
    return {"ignore_configured_endpoint_urls": True, "proxies": {}}


class _NoTokens:
    """A provider of bearer tokens. Botocore's own takes some from variables
    (``AWS_BEARER_TOKEN_BEDROCK``) and from files of the user's account."""

    def load_token(self, **_: object) -> None:
        """None."""


def _isolate(session: Session) -> None:
    """Replace what reads the environment or the user's account whatever the variables are."""
    session.register_component("token_provider", _NoTokens())
    # Botocore's own looks into ~/.aws/models first: for the endpoints of AWS, among others.
    models = Loader([Loader.BUILTIN_DATA_PATH], include_default_search_paths=False)
    session.register_component("data_loader", models)


def isolated_session() -> AioSession:
    """A session without configuration: credentials and endpoints are passed to it."""
    session = AioSession(session_vars=_VARIABLES)
    # Parsing a response blocks the event loop, and dateutil, which botocore parses times with,
    # took four fifths of the time for a listing.
    factory = session.get_component("response_parser_factory")
    factory.set_parser_defaults(timestamp_parser=timestamp)
    _isolate(session)
    return session


def isolated_blocking_session() -> Session:
    """As ``isolated_session``, for threads. It trusts the system's certificate authorities, as far
    as a file holds them."""
    session = Session(session_vars=_VARIABLES)
    _isolate(session)
    bundle = system_bundle_file()
    # True: botocore's own list. With None it would look into the environment once more.
    session.set_config_variable("ca_bundle", True if bundle is None else str(bundle))
    return session


def timestamp(value: str | float) -> datetime:
    """A time in a response of AWS: ISO 8601, as in XML, or another form that botocore reads."""
    try:
        return datetime.fromisoformat(str(value))
    except ValueError:
        return parse_timestamp(str(value))
