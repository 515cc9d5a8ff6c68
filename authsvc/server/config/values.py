"""The types of single settings."""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import AfterValidator, Field, SecretStr

from authsvc.common import guessable
from authsvc.common.formats import check_endpoint, check_line, check_node
from authsvc.net.addresses import is_listening_address
from authsvc.net.proxies import read_proxy
from authsvc.tokens.algorithms import NAMES, canonical_name


def _algorithm(name: str) -> str:
    if name not in NAMES:
        raise ValueError(f"is one of {', '.join(NAMES)}")
    return canonical_name(name)


Algorithm = Annotated[str, AfterValidator(_algorithm)]


def _proxy_url(url: SecretStr) -> SecretStr:
    read_proxy(url.get_secret_value())
    return url


_HEADER = re.compile(r"[a-z0-9!#$%&'*+.^_`|~-]{1,127}")


def _header(text: str) -> str:
    if text and not _HEADER.fullmatch(text):
        raise ValueError("is the name of a header, in lower case, of at most 127 characters")
    return text


def each_once(names: tuple[str, ...]) -> tuple[str, ...]:
    """A list without repetitions.

    Raises:
        ValueError: it is empty. A minimal length of the field would be reported besides each wrong
            name.
    """
    if not names:
        raise ValueError("names one or more")
    return tuple(dict.fromkeys(names))


def _listening_address(address: str) -> str:
    if address.startswith("unix:") and address != "unix:":
        return check_line(address)
    if not is_listening_address(address):
        raise ValueError(
            "is an address like 127.0.0.1:50051 or unix:/run/authsvc.sock, the port from 0 to "
            "65535, an IPv6 address in brackets"
        )
    return address


_DIGEST = re.compile("[0-9a-f]{64}")


def _token_digest(text: str) -> str:
    if not _DIGEST.fullmatch(text):
        raise ValueError(
            "is the SHA-256 of a service token: 64 hexadecimal digits in lower case, and no sha256:"
        )
    if fault := guessable.fault(text.encode()):
        raise ValueError(
            f"is no service token's digest: {fault}; make the token with: openssl rand -hex 32"
        )
    return text


ListeningAddress = Annotated[str, AfterValidator(_listening_address)]
HostAndPort = Annotated[str, AfterValidator(check_node)]
HeaderName = Annotated[str, AfterValidator(_header)]
EndpointUrl = Annotated[str, AfterValidator(check_endpoint)]
ProxyUrl = Annotated[SecretStr, AfterValidator(_proxy_url)]
Line = Annotated[str, AfterValidator(check_line)]
NonEmpty = Annotated[str, Field(min_length=1), AfterValidator(check_line)]
RoleArn = Annotated[
    str, Field(pattern=r"^arn:aws[a-z-]*:iam::\d{12}:role/[A-Za-z0-9_+=,.@/-]{1,576}$")
]
TokenDigest = Annotated[str, AfterValidator(_token_digest)]
"""The SHA-256 of a service token. Whether another token can be guessed does not show in it."""
