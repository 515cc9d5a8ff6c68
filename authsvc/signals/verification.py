"""What logout tokens and security event tokens have in common: who signed them, for whom, when."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Protocol

from authsvc.domain.digests import text_digest
from authsvc.domain.errors import AuthError, Reason
from authsvc.signals.errors import SignalError, SignalErrorCode, invalid_request, signal_error
from authsvc.signals.signals import Stream
from authsvc.tokens.claims import YEAR_10000, kept_text, numeric_date, optional_text
from authsvc.tokens.compact import CompactJws, parse_claims, parse_jws, unverified_claims
from authsvc.tokens.jwt import candidates, replacements
from authsvc.tokens.keys import VerificationKey

MAX_SIGNAL_BYTES = 65_536
"""Longest token. Real ones have one or two thousand bytes."""

CLOCK_MARGIN_SECONDS = 300.0
"""A token is known as received for longer than it is accepted, by this: the clocks of replicas and
of the store differ."""

PATHS = {"secevent+jwt": "/signals/events", "logout+jwt": "/signals/logout"}
"""Where a token with this header ``typ`` belongs: a provider may have the other URL."""

MAX_AUDIENCES = 64
"""Entries of ``aud``."""


class Fairness(Protocol):
    """Lets one token through in each pass of the event loop: a flood of forged signals does not
    delay resolves. ``PassLimiter`` is one."""

    async def wait(self) -> None:
        """Wait for a pass of one's own."""
        ...


@dataclass(frozen=True, slots=True)
class SignedClaims:
    """The claims of a token whose signature is by a key of its stream, and whose audience is us.

    Attributes:
        stream: whose.
        claims: the payload.
        token_id: claim ``jti``.
    """

    stream: Stream
    claims: Mapping[str, object]
    token_id: str


AcceptedTypes = Callable[[Stream], Collection[str]]
"""The accepted header ``typ`` of a stream's tokens of one kind, in the form of
``CompactJws.token_type``."""


class SignatureVerifier:
    """Verifies who signed a token, and for whom. Belongs to one event loop.

    Args:
        streams: each issuer once.
        fairness: between tokens.

    Raises:
        ValueError: an issuer has two streams.
    """

    def __init__(self, streams: Iterable[Stream], *, fairness: Fairness) -> None:
        self._streams: dict[str, Stream] = {}
        for stream in streams:
            if stream.issuer in self._streams:
                raise ValueError(f"issuer {stream.issuer!r} has two streams")
            self._streams[stream.issuer] = stream
        self._fairness = fairness

    @property
    def streams(self) -> tuple[Stream, ...]:
        """All streams."""
        return tuple(self._streams.values())

    def claimed_issuer(self, text: str) -> str:
        """The issuer that a token claims to be of, for metrics and logs; empty where it has no
        stream here. Nothing is verified."""
        if len(text) > MAX_SIGNAL_BYTES or text.count(".") != 2:
            return ""
        try:
            issuer = optional_text(unverified_claims(text), "iss")
        except AuthError:
            return ""
        return issuer if issuer in self._streams else ""

    async def verify(
        self, text: str, types: AcceptedTypes, now: float, *, types_setting: str = ""
    ) -> SignedClaims:
        """The claims of a token, once the signature is verified; its times are not checked.

        Args:
            text: the bare token.
            types: of the kind that it was sent as.
            now: seconds since the epoch.
            types_setting: the setting of the stream that has the types; empty where none has.

        Raises:
            SignalError: it is rejected.
            AuthError: KEYS_UNAVAILABLE: the keys are unavailable, so that it may be valid.
        """
        # Before the token is parsed: that of the longest takes longer than a signature check.
        await self._fairness.wait()
        try:
            jws = parse_jws(text, max_bytes=MAX_SIGNAL_BYTES)
            claims = parse_claims(jws.payload)
            issuer = optional_text(claims, "iss")
        except AuthError as error:
            raise signal_error(error) from None
        stream = self._streams.get(issuer)
        if stream is None:
            raise SignalError(
                SignalErrorCode.INVALID_ISSUER,
                "The issuer is not known.",
                detail=f"iss {issuer[:128]!r} has no stream",
                setting="signals.streams",
            )
        _check_type(jws, types(stream), f"{stream.table}.{types_setting}" if types_setting else "")
        await self._check_signature(stream, jws, now)
        _check_audience(claims, stream)
        return SignedClaims(stream, claims, _token_id(claims))

    async def _check_signature(self, stream: Stream, jws: CompactJws, now: float) -> None:
        try:
            tried = await candidates(stream.keys, jws, now)
            if not _is_signed(jws, tried):
                newer = await replacements(stream.keys, jws, tried, now)
                if not _is_signed(jws, newer):
                    raise AuthError(Reason.TOKEN_SIGNATURE_INVALID)
        except AuthError as error:
            setting = stream.algorithms_setting if error.setting else ""
            raise signal_error(error, setting=setting) from None


def _is_signed(jws: CompactJws, keys: Iterable[VerificationKey]) -> bool:
    return any(key.verifies(jws.signing_input, jws.signature) for key in keys)


def _check_type(jws: CompactJws, accepted: Collection[str], setting: str) -> None:
    """
    Args:
        jws: the token.
        accepted: values of ``typ``.
        setting: that has them; empty for none.

    Raises:
        SignalError: the token has another ``typ``: it was signed for another purpose.
    """
    if jws.token_type in accepted:
        return
    shown = ", ".join(sorted(name or "none" for name in accepted))
    path = PATHS.get(jws.token_type, "")
    hint = f"; such a token is sent to {path}" if path else ""
    raise invalid_request(
        "The header typ is not that of this kind of token.",
        detail=f"typ {jws.token_type[:32]!r}, accepted: {shown}{hint}",
        setting="" if path else setting,
    )


def _check_audience(claims: Mapping[str, object], stream: Stream) -> None:
    """
    Raises:
        SignalError: the token is for somebody else.
    """
    audience = claims.get("aud")
    named = [audience] if isinstance(audience, str) else audience
    if not isinstance(named, list) or not 0 < len(named) <= MAX_AUDIENCES:
        raise invalid_request("Claim aud is not a string or a list of some.")
    # An entry that is no string is nobody.
    if any(isinstance(name, str) and name in stream.audiences for name in named):
        return
    raise SignalError(
        SignalErrorCode.INVALID_AUDIENCE,
        "The token is for another audience.",
        detail=f"aud {repr(audience)[:300]}, expected {' or '.join(map(repr, stream.audiences))}",
        setting=f"{stream.table}.audiences",
    )


def _token_id(claims: Mapping[str, object]) -> str:
    try:
        token_id = kept_text(claims, "jti")
    except AuthError as error:
        raise signal_error(error) from None
    if not token_id:
        raise invalid_request("Claim jti is missing: a repeated token would not be recognized.")
    return token_id


def issue_time(
    claims: Mapping[str, object], stream: Stream, now: float, *, max_age_seconds: float
) -> float:
    """When a token was issued, in seconds since the epoch: not in the future, and not long ago.

    Args:
        claims: of the token, verified.
        stream: whose; it says how far its clock may deviate.
        now: seconds since the epoch.
        max_age_seconds: how long ago it may have been issued.

    Raises:
        SignalError: claim ``iat`` is missing, in the future or too old, or the token has expired
            (``exp``) or is not valid yet (``nbf``).
    """
    try:
        issued, expires, begins = (numeric_date(claims, name) for name in ("iat", "exp", "nbf"))
    except AuthError as error:
        raise signal_error(error) from None
    if issued is None:
        raise invalid_request("Claim iat is missing.")
    leeway = stream.leeway_seconds
    if (begin := max(issued, begins or 0.0)) > now + leeway:
        raise invalid_request(
            "The token was issued in the future.",
            detail=f"issued {begin - now:.6g} s in the future, {leeway:.6g} s are accepted: "
            "compare the clocks",
            setting=f"{stream.table}.leeway_seconds",
        )
    if issued <= now - max_age_seconds - leeway:
        raise invalid_request(
            "The token was issued too long ago.", setting=f"{stream.table}.max_age_seconds"
        )
    if expires is not None and now >= expires + leeway:
        raise invalid_request(
            "The token has expired.",
            detail=f"issued {now - issued:.6g} s ago, expired {now - expires:.6g} s ago, "
            f"{leeway:.6g} s are accepted: compare the clocks",
        )
    return issued


def event_time(values: Iterable[object], issued: float, latest: float) -> float:
    """When an event happened, in seconds since the epoch.

    Args:
        values: where senders say so, any JSON values; some count in milliseconds. The first that
            is a time counts.
        issued: when its token was issued, which is when it happened or later.
        latest: what is later is a mistake.
    """
    for value in values:
        if isinstance(value, int | float) and not isinstance(value, bool) and value > 0:
            seconds = value / 1_000 if value >= YEAR_10000 else float(value)
            return max(issued, min(seconds, latest))
    return issued


def message_key(kind: str, issuer: str, token_id: str) -> str:
    """What a received token is stored by: a digest, 43 characters of base64url.

    Args:
        kind: of token: a ``jti`` of one kind is none of another.
        issuer: claim ``iss``.
        token_id: claim ``jti``.
    """
    return text_digest(json.dumps([kind, issuer, token_id]))
