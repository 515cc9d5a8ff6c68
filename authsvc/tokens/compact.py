"""Strict parsing of a JWS in compact serialisation (RFC 7515 section 7.1), before PyJWT sees it.

An accepted token has one spelling only: canonical base64url, UTF-8 JSON without duplicate members,
bounded in length and nesting. Parsing does not verify the signature.
"""

from __future__ import annotations

import json
import math
import re
from binascii import a2b_base64, b2a_base64
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NoReturn

from authsvc.domain.errors import AuthError, Reason

MAX_TOKEN_BYTES = 65536
"""Longest token that is accepted, unless configured otherwise."""

MAX_KEY_ID_BYTES = 512
"""Longest ``kid``."""

MAX_NESTING = 32
"""Deepest nesting of JSON arrays and objects, the outermost included."""

MAX_INTEGER_CHARACTERS = 32
"""Longest JSON integer, sign included; far longer than any claim needs."""

_REJECTED_HEADERS = {
    "crit": "ask its issuer for access tokens without critical extensions",
    "zip": "ask its issuer for access tokens that are not compressed and lack this header",
    "b64": "ask its issuer for access tokens with an encoded payload, without this header",
}
"""What to ask of an issuer whose tokens have a header that is not accepted."""
# `crit` names extensions, none of which is supported (RFC 7515 section 4.1.11). `zip` is for JWE
# only and could be a decompression bomb (RFC 8725 section 3.6). `b64` changes what is signed
# (RFC 7797). Headers that hold or locate keys (`jwk`, `jku`, `x5u`, `x5c`) are never read: keys
# come from the configuration only (RFC 8725 section 3.10). They are ignored, not rejected, because
# legitimate issuers send them.

_JWE_DOTS = 4
"""A JWE has five parts (RFC 7516 section 7.1)."""

_TO_BASE64 = bytes.maketrans(b"-_+/=", b"+/...")
"""The alphabet of base64url as that of base64, and what is of base64 alone as a character of
neither."""

_STRING = re.compile(r'"(?:[^"\\]++|\\.)*+"?', re.DOTALL)
# Possessive, and it matches from every quote on, closed or not. If it could fail at one quote and
# start again at the next, a token of escaped quotes would take time quadratic in its length.
_BRACKET = re.compile(r"[\[\]{}]")


@dataclass(frozen=True, slots=True)
class CompactJws:
    """The parts of a well-formed JWS. Its signature is not verified yet.

    Attributes:
        algorithm: header ``alg``.
        key_id: header ``kid``; None when absent.
        token_type: header ``typ`` in lower case, without ``application/``; empty when absent.
        header: the protected header.
        payload: any bytes; of a JWT the claims, as JSON.
        signing_input: the bytes that are signed.
        signature: the signature; may be empty.
    """

    algorithm: str
    key_id: str | None
    token_type: str
    header: Mapping[str, object] = field(repr=False)
    payload: bytes = field(repr=False)
    signing_input: bytes = field(repr=False)
    signature: bytes = field(repr=False)


def parse_jws(token: str, *, max_bytes: int = MAX_TOKEN_BYTES) -> CompactJws:
    """The parts of a token.

    Args:
        token: the bare token.
        max_bytes: its longest accepted length.

    Raises:
        AuthError: TOKEN_TOO_LARGE or TOKEN_MALFORMED; nothing else, whatever ``token`` is.
    """
    if len(token) > max_bytes:
        raise too_large(max_bytes)
    if not token.isascii() or token.count(".") != 2:
        raise _no_jws(token)
    signing_input, _, signature = token.encode("ascii").rpartition(b".")
    header_segment, _, payload_segment = signing_input.partition(b".")
    header = _object("header", _decode("header", header_segment))
    _check_header(header)
    return CompactJws(
        algorithm=_header_text(header, "alg"),
        key_id=_key_id(header) if "kid" in header else None,
        token_type=_media_type(header, "typ"),
        header=header,
        payload=_decode("payload", payload_segment),
        signing_input=signing_input,
        signature=_decode("signature", signature),
    )


def parse_claims(payload: bytes) -> dict[str, object]:
    """The claims set of a JWT (RFC 7519 section 4).

    Raises:
        AuthError: TOKEN_MALFORMED unless strict JSON, see ``parse_json_object``.
    """
    return _object("payload", payload)


def unverified_claims(token: str) -> dict[str, object]:
    """The claims of a token in the shape of a JWT. Neither header nor signature are looked at.

    Args:
        token: three segments, of any length.

    Raises:
        AuthError: TOKEN_MALFORMED unless its payload is a claims set, spelled as in ``parse_jws``.
    """
    if not token.isascii():
        raise _malformed("not ASCII")
    _, payload, _ = token.split(".")
    return parse_claims(_decode("payload", payload.encode("ascii")))


def parse_json_object(data: bytes) -> dict[str, object]:
    """Parse a JSON object (RFC 8259) that all parsers read in the same way.

    Raises:
        ValueError: it is not UTF-8 or not an object, has duplicate members at any depth, lone
            surrogates, or numbers that are not finite or are too long, or is nested beyond
            ``MAX_NESTING``. The message does not quote the data.
    """
    text = data.decode("utf-8")
    check_nesting(text, MAX_NESTING)
    value = _DECODER.decode(text)
    if not isinstance(value, dict):
        raise ValueError("not a JSON object")
    if "\\u" in text:
        # Only an escape can produce a lone surrogate; encoding finds it.
        json.dumps(value, ensure_ascii=False).encode("utf-8")
    return value


def too_large(max_bytes: int) -> AuthError:
    """For a token that is longer than the configuration accepts."""
    detail = f"more than {max_bytes} bytes"
    return AuthError(Reason.TOKEN_TOO_LARGE, detail, setting="max_token_bytes")


def _malformed(detail: str) -> AuthError:
    return AuthError(Reason.TOKEN_MALFORMED, detail)


def _no_jws(token: str) -> AuthError:
    """For a text that has not the three parts of a JWS."""
    dots = token.count(".")
    if not token.isascii() or dots not in (0, _JWE_DOTS):
        return _malformed("not three segments of ASCII")
    if dots:
        return _malformed(
            "five segments: an encrypted token (JWE); ask its issuer for access tokens that are "
            "signed and not encrypted"
        )
    return AuthError(
        Reason.TOKEN_MALFORMED,
        "one segment, not three: an opaque token can be introspected alone",
        setting="introspection",
    )


def _decode(part: str, segment: bytes) -> bytes:
    """Canonical base64url without padding (RFC 7515 appendix C)."""
    standard, rest = segment.translate(_TO_BASE64), len(segment) % 4
    try:
        decoded = a2b_base64(standard + b"=" * (-rest % 4), strict_mode=True)
    except ValueError:
        raise _malformed(f"{part}: not base64url") from None
    # The last character of an incomplete group has bits that decode to nothing.
    if rest and b2a_base64(decoded[1 - rest :])[:rest] != standard[-rest:]:
        raise _malformed(f"{part}: not canonical base64url")
    return decoded


def _object(part: str, data: bytes) -> dict[str, object]:
    try:
        return parse_json_object(data)
    except ValueError:
        # The error itself may quote the token.
        raise _malformed(f"{part}: not strict JSON") from None


def _check_header(header: Mapping[str, object]) -> None:
    for name, remedy in _REJECTED_HEADERS.items():
        if name in header:
            raise _malformed(f"header {name} is not accepted: {remedy}")
    if _media_type(header, "cty") == "jwt":
        raise _malformed(
            "nested tokens are not accepted: ask its issuer for access tokens that hold claims, "
            "not another token"
        )


def _header_text(header: Mapping[str, object], name: str) -> str:
    value = header.get(name)
    if not isinstance(value, str):
        raise _malformed(f"header {name}: not a string")
    return value


def _key_id(header: Mapping[str, object]) -> str:
    key_id = _header_text(header, "kid")
    if len(key_id.encode("utf-8")) > MAX_KEY_ID_BYTES:
        raise _malformed(f"header kid: more than {MAX_KEY_ID_BYTES} bytes")
    return key_id


def _media_type(header: Mapping[str, object], name: str) -> str:
    """A media type as RFC 7515 section 4.1.9 compares them; empty when absent."""
    if name not in header:
        return ""
    return _header_text(header, name).lower().removeprefix("application/")


def check_nesting(text: str, deepest: int) -> None:
    """Reject text that nests arrays and objects more than ``deepest`` levels deep.

    The check is exact for JSON, and up to the first fault otherwise, where the parser stops.

    Raises:
        ValueError: it is nested too deeply.
    """
    if text.count("[") + text.count("{") <= deepest:
        return
    depth = 0
    for bracket in _BRACKET.findall(_STRING.sub("", text)):
        depth += 1 if bracket in "[{" else -1
        if depth > deepest:
            raise ValueError("nested too deeply")


def _unique_members(members: list[tuple[str, object]]) -> dict[str, object]:
    unique = dict(members)
    if len(unique) != len(members):
        raise ValueError("duplicate members")
    return unique


def _bounded_integer(digits: str) -> int:
    if len(digits) > MAX_INTEGER_CHARACTERS:
        raise ValueError("integer too long")
    return int(digits)


def _finite_float(digits: str) -> float:
    value = float(digits)
    if not math.isfinite(value):
        raise ValueError("number out of range")
    return value


def _reject_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


_DECODER = json.JSONDecoder(
    object_pairs_hook=_unique_members,
    parse_int=_bounded_integer,
    parse_float=_finite_float,
    parse_constant=_reject_constant,
)
