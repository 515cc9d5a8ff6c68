"""Why a request over HTTP failed, in a sentence: what an exception's name alone does not say."""

from __future__ import annotations

import os
import re
import socket
import ssl
from collections.abc import Sequence
from enum import Enum

import httpx2


class Stage(Enum):
    """How far a failed request came."""

    CONNECTION = "connection"
    """There was none, or none through the proxy."""
    TLS = "tls"
    """The handshake failed."""
    ANSWER = "answer"
    """The request was sent, or failed for another reason."""


class ProxyAnswerError(ConnectionError):
    """A proxy was reached, and did not connect to the host."""


class Failure(Enum):
    """What keeps a request from its answer, as far as it takes another remedy."""

    LOOKUP = "lookup"
    """The host's name has no address."""
    REFUSED = "refused"
    """The host is reachable, and nothing listens at the port."""
    TIMEOUT = "timeout"
    """No connection, or no answer, in time."""
    UNREACHABLE = "unreachable"
    """There is no connection for another reason."""
    PROXY = "proxy"
    """The proxy was reached, and does not connect to the host."""
    ADDRESS = "address"
    """The host's address is not permitted."""
    UNTRUSTED = "untrusted"
    """Its certificate leads to no trusted authority."""
    DATES = "dates"
    """Its certificate has expired, or is not valid yet."""
    OTHER_NAME = "other name"
    """Its certificate is for another host."""
    OUR_CERTIFICATE = "our certificate"
    """It requires a client's certificate, or does not accept the one that it was shown."""
    TLS = "tls"
    """The handshake failed for another reason."""
    ANSWER = "answer"
    """There is an answer, or the request failed for another reason."""

    @property
    def stage(self) -> Stage:
        """How far the request came."""
        return _STAGES.get(self, Stage.ANSWER)


_STAGES = {
    Failure.LOOKUP: Stage.CONNECTION,
    Failure.REFUSED: Stage.CONNECTION,
    Failure.TIMEOUT: Stage.CONNECTION,
    Failure.UNREACHABLE: Stage.CONNECTION,
    Failure.PROXY: Stage.CONNECTION,
    Failure.UNTRUSTED: Stage.TLS,
    Failure.DATES: Stage.TLS,
    Failure.OTHER_NAME: Stage.TLS,
    Failure.OUR_CERTIFICATE: Stage.TLS,
    Failure.TLS: Stage.TLS,
}

_OF_OUR_CERTIFICATE = re.compile(
    r"ALERT_(BAD_CERTIFICATE|UNSUPPORTED_CERTIFICATE|CERTIFICATE_(REVOKED|EXPIRED|UNKNOWN|REQUIRED)"
    r"|UNKNOWN_CA|ACCESS_DENIED)\Z"
)
"""OpenSSL's reasons for alerts about a certificate (RFC 8446 section 6.2). One that a server sends
is about the client's; before ALERT_ is a version of TLS."""

_UNTRUSTED = frozenset({18, 19, 20, 21})
"""OpenSSL's codes (X509_V_ERR) for a chain that ends in no trusted authority."""

_NOT_YET_VALID, _EXPIRED = 9, 10
_OTHER_NAME = frozenset({62, 63, 64})

_MAX_CHAIN = 20
"""Exceptions that are followed from the one that was raised."""


def explained(error: BaseException) -> str:
    """The kind of a failed request, and its cause: a certificate, or the system's error.

    Nothing of the message of ``error`` itself is shown: it may quote what the other side sent.
    """
    told = cause_of(error) or _own_cause(error)
    return f"{type(error).__name__}: {told}" if told else type(error).__name__


def cause_of(error: BaseException) -> str:
    """The first cause of an error that OpenSSL or the system explains; empty without one."""
    return next(filter(None, map(_cause, _chain(error))), "")


def setting_of(failure: Failure) -> str:
    """The setting of an endpoint that may mend a failed request: ``ca_file`` where the chain of its
    certificate ends in no trusted authority, ``proxy`` where there was no connection; empty for any
    other failure."""
    if failure is Failure.UNTRUSTED:
        return "ca_file"
    # A host that refuses a connection is reachable: the port is wrong, or nothing listens.
    is_unreached = failure.stage is Stage.CONNECTION and failure is not Failure.REFUSED
    return "proxy" if is_unreached else ""


def failure_of(error: BaseException) -> Failure:
    """What kept a request from its answer."""
    causes = _chain(error)
    if any(isinstance(cause, ssl.SSLError) for cause in causes):
        return _tls_failure(causes)
    if isinstance(error, httpx2.ProxyError | ProxyAnswerError):
        return Failure.PROXY
    if any(isinstance(cause, socket.gaierror) for cause in causes):
        return Failure.LOOKUP
    if any(isinstance(cause, ConnectionRefusedError) for cause in causes):
        return Failure.REFUSED
    if isinstance(error, httpx2.TimeoutException | TimeoutError):
        return Failure.TIMEOUT
    is_unreached = isinstance(error, httpx2.ConnectError | OSError)
    return Failure.UNREACHABLE if is_unreached else Failure.ANSWER


def _tls_failure(causes: Sequence[BaseException]) -> Failure:
    """aiohttp's errors, which are of OpenSSL's classes too, have no code; their causes have."""
    for code in (getattr(cause, "verify_code", None) for cause in causes):
        if code in _UNTRUSTED:
            return Failure.UNTRUSTED
        if code in (_NOT_YET_VALID, _EXPIRED):
            return Failure.DATES
        if code in _OTHER_NAME:
            return Failure.OTHER_NAME
    if any(is_about_our_certificate(cause) for cause in causes):
        return Failure.OUR_CERTIFICATE
    return Failure.TLS


def is_about_dates(error: ssl.SSLError) -> bool:
    """Whether a certificate is rejected since it has expired, or is not valid yet."""
    return getattr(error, "verify_code", None) in {_NOT_YET_VALID, _EXPIRED}


def is_about_our_certificate(error: BaseException) -> bool:
    """Whether a server has ended TLS over the client's certificate, or the lack of one."""
    reason = getattr(error, "reason", None)
    return isinstance(error, ssl.SSLError) and bool(_OF_OUR_CERTIFICATE.search(reason or ""))


def _cause(error: BaseException) -> str:
    """What an exception of Python's own says; empty where it is no such one."""
    # aiohttp's errors are of OpenSSL's classes, and have none of their attributes.
    if isinstance(error, ssl.SSLCertVerificationError) and hasattr(error, "verify_code"):
        return f"certificate verify failed: {_certificate_fault(error)}"
    if isinstance(error, ssl.SSLError):
        reason = getattr(error, "reason", None)
        if is_about_our_certificate(error):
            told = re.split("ALERT_", str(reason))[-1].lower().replace("_", " ")
            return f"TLS failed: the server's alert on the client's certificate: {told}"
        return f"TLS failed: {reason.lower().replace('_', ' ')}" if reason else ""
    if isinstance(error, socket.gaierror):
        return lookup_fault(error)
    if isinstance(error, OSError) and error.errno and error.errno > 0:
        return os.strerror(error.errno)
    return ""


def _own_cause(error: BaseException) -> str:
    """What the class of a failed request says; empty where its name says it all."""
    if isinstance(error, httpx2.ProxyError):
        # The proxy's own words are not shown.
        status = re.match(r"[0-9]{3}\b", str(error))
        return f"it answered {status[0] if status else 'something else'} to CONNECT"
    if isinstance(error, httpx2.ConnectTimeout):
        return "no connection in time"
    if isinstance(error, httpx2.TimeoutException):
        return "no answer in time"
    if isinstance(error, httpx2.RemoteProtocolError):
        return "the answer is not HTTP, or ends before it is complete"
    return ""


def lookup_fault(error: OSError | UnicodeError) -> str:
    """Why a name has no address."""
    if isinstance(error, socket.gaierror) and error.strerror:
        return f"the host has no address: DNS: {error.strerror.lower()}"
    return "the host has no address"


def _certificate_fault(error: ssl.SSLCertVerificationError) -> str:
    """OpenSSL's message, and what mends it."""
    told = error.verify_message
    if error.verify_code in _UNTRUSTED:
        return f"{told}; if a private authority has issued it, set ca_file to that authority's"
    if error.verify_code == _NOT_YET_VALID:
        return f"{told}; compare the clocks"
    if error.verify_code == _EXPIRED:
        return f"{told}; renew it there, or mend this machine's clock"
    if error.verify_code in _OTHER_NAME:
        return f"{told} (host name mismatch: it is for another host)"
    return told


def _chain(error: BaseException) -> list[BaseException]:
    """The exception and those that led to it, the first cause last."""
    found: list[BaseException] = []
    below: BaseException | None = error
    while below is not None and len(found) < _MAX_CHAIN:
        found.append(below)
        below = below.__cause__ or below.__context__
    return found
