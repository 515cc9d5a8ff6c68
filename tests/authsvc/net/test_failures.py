"""What a failed request is called: its class and its cause, in none of the other side's words."""

from __future__ import annotations

import errno
import socket
import ssl

import httpx2
import pytest

from authsvc.net.failures import cause_of, explained, lookup_fault


def caused(error: BaseException, *causes: BaseException) -> BaseException:
    """An error with causes, the nearest first."""
    last = error
    for cause in causes:
        last.__cause__ = cause
        last = cause
    return error


def rejected(code: int, message: str) -> ssl.SSLCertVerificationError:
    error = ssl.SSLCertVerificationError("hush")
    error.verify_code, error.verify_message = code, message
    return error


class OfAiohttp(ssl.SSLCertVerificationError):
    """As aiohttp has one: without OpenSSL's attributes."""


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (httpx2.ConnectError("hush"), "ConnectError"),
        (httpx2.ConnectTimeout("hush"), "ConnectTimeout: no connection in time"),
        (httpx2.ReadTimeout("hush"), "ReadTimeout: no answer in time"),
        (
            httpx2.RemoteProtocolError("hush"),
            "RemoteProtocolError: the answer is not HTTP, or ends before it is complete",
        ),
        (httpx2.ProxyError("407 hush"), "ProxyError: it answered 407 to CONNECT"),
        (httpx2.ProxyError("4071 hush"), "ProxyError: it answered something else to CONNECT"),
        (
            caused(httpx2.ConnectError("x"), OSError("x"), OSError(errno.EHOSTUNREACH, "hush")),
            "ConnectError: No route to host",
        ),
        (
            caused(httpx2.ConnectError("x"), socket.gaierror(-2, "Name or service not known")),
            "ConnectError: the host has no address: DNS: name or service not known",
        ),
        (
            caused(httpx2.ConnectError("x"), rejected(9, "certificate is not yet valid")),
            (
                "ConnectError: certificate verify failed: certificate is not yet valid; compare "
                "the clocks"
            ),
        ),
        (
            caused(httpx2.ConnectError("x"), rejected(79, "invalid CA certificate")),
            "ConnectError: certificate verify failed: invalid CA certificate",
        ),
        (
            caused(OfAiohttp("hush"), rejected(18, "self-signed certificate")),
            (
                "OfAiohttp: certificate verify failed: self-signed certificate; if a private "
                "authority has issued it, set ca_file to that authority's"
            ),
        ),
        (ssl.SSLError("hush"), "SSLError"),
        (ValueError("hush"), "ValueError"),
    ],
)
def test_a_failure_is_named(error: BaseException, told: str) -> None:
    assert explained(error) == told


def test_causes_that_go_round_are_followed_for_a_while() -> None:
    first, second = ValueError("a"), ValueError("b")
    first.__context__, second.__context__ = second, first
    assert cause_of(first) == ""


def test_a_name_that_cannot_be_looked_up() -> None:
    assert lookup_fault(UnicodeError("hush")) == "the host has no address"
    assert lookup_fault(OSError("hush")) == "the host has no address"
