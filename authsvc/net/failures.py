"""Why a request over HTTP failed, in a sentence: what an exception's name alone does not say."""

from __future__ import annotations

import os
import re
import socket
import ssl
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


def setting_of(error: BaseException) -> str:
    """The setting of an endpoint that may mend a failed request: ``ca_file`` where the chain of its
    certificate ends in no trusted authority, ``proxy`` where there was no connection; empty for any
    other failure."""
    for cause in _chain(error):
        if getattr(cause, "verify_code", None) in _UNTRUSTED:
            return "ca_file"
    for cause in _chain(error):
        # A host that refuses a connection is reachable: the port is wrong, or nothing listens.
        if isinstance(cause, ConnectionRefusedError):
            return ""
    return "proxy" if stage_of(error) is Stage.CONNECTION else ""


def stage_of(error: BaseException) -> Stage:
    """How far a failed request came."""
    causes = _chain(error)
    if any(isinstance(cause, ssl.SSLError) for cause in causes):
        return Stage.TLS
    is_unconnected = isinstance(
        error, httpx2.ConnectError | httpx2.ConnectTimeout | httpx2.ProxyError
    ) or any(isinstance(cause, socket.gaierror) for cause in causes)
    return Stage.CONNECTION if is_unconnected else Stage.ANSWER


def _cause(error: BaseException) -> str:
    """What an exception of Python's own says; empty where it is no such one."""
    # aiohttp's errors are of OpenSSL's classes, and have none of their attributes.
    if isinstance(error, ssl.SSLCertVerificationError) and hasattr(error, "verify_code"):
        return f"certificate verify failed: {_certificate_fault(error)}"
    if isinstance(error, ssl.SSLError):
        reason = getattr(error, "reason", None)
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
