"""Secrets that could be guessed: published examples, words, sequences, and what repeats itself.

Length says nothing: 32 equal characters are 32 characters. What chance has made is never refused.
"""

from __future__ import annotations

import base64
import math
import re

MIN_BITS = 80.0
"""What a secret is worth at least, by the estimate below. Chance leaves 32 hexadecimal digits, the
shortest secret that is taken, 96 bits and more by it; see the decision record 0016."""

REMEDY = "make one with: openssl rand -hex 32"
"""For messages."""

_PHRASE_BITS = 6.0
"""What a word, a sequence or a repetition is worth: which one of several dozen it is."""

_SEPARATORS = " -_.:/"

_MIN_PHRASE = 4
"""Characters of a sequence or a repetition; chance makes shorter ones too often."""

_PUBLISHED = frozenset(
    {
        # The keys of RFC 7515 appendix A.1 and RFC 7520 section 3.5.
        "AyM1SysPpbyDfgZld3umj1qzKObwVMkoqQ-EstJQLr_T-1qS0gZH75aKtMN3Yj0iPS4hcgUuTwjAzZr1Z9CAow",
        "hJtXIZ2uSN5kbQfbtTNWbpdmhkV8FJG-Onbc6mxCcYg",
        # Tutorials' and debuggers' keys that are found in services again and again.
        "a-string-secret-at-least-256-bits-long",
        "09d25e094faa6ca2556c818166b7a9563b93f7099f6f0f4caa6cf63b88e8d3e7",
        "404E635266556A586E3272357538782F413F4428472B4B6250645367566B5970",
        "413F4428472B4B6250655368566D5970337336763979244226452948404D6351",
    }
)

_WORDS = """
    about access account admin administrator and app application apple auth authentication
    authsvc base64 battery bit bits byte bytes can change changed changeit changeme character
    characters chars code config correct credential credentials database default demo dev
    develop development dont dummy enough env example examples fake file foo bar baz for from
    generate generated good guess guest hash have hello here hidden hmac horse hs256 hunter2
    insecure into internal java json just jwt key keys least letmein local localhost login long
    love made master minimum more must name need never new not nobody only openssl our pass
    passphrase passwd password pepper phrase placeholder please private prod production public
    put qwerty random replace replaced root safe salt sample secret secrets secure security
    server service session set sha256 shared should sign signature signing simple some something
    spring staging staple strong super system temp temporary test tester testing text than that
    the this tmp todo token tokens top try unsafe use used user using value very web welcome
    will with word world yes you your
    """.split()  # noqa: SIM905 - a list of 170 strings is none to read

_WORD = re.compile("|".join(sorted(_WORDS, key=len, reverse=True)))

_SEQUENCES = tuple(
    text
    for line in (
        "0123456789012345678901234567890",
        "abcdefghijklmnopqrstuvwxyzabcdefghijklmnopqrstuvwxyz",
        "0123456789abcdef0123456789abcdef",
        "qwertyuiop",
        "asdfghjkl",
        "zxcvbnm",
        "1qaz2wsx3edc4rfv5tgb6yhn7ujm",
        "!@#$%^&*()",
    )
    for text in (line, line[::-1])
)


def fault(secret: bytes) -> str:
    """Why a secret could be guessed; empty where nothing says so.

    Args:
        secret: as it is used. No part of it is in the answer.
    """
    if _is_published(secret):
        return "it is a published example"
    if estimated_bits(secret, enough=MIN_BITS) < MIN_BITS:
        return "it is made of repetitions, sequences or common words"
    return ""


def estimated_bits(secret: bytes, *, enough: float = math.inf) -> float:
    """What is left of a secret where words, sequences and repetitions are worth next to nothing.

    A low estimate of anything that chance has made: each other byte counts as one of those that
    occur, and not as one of 256.

    Args:
        secret: as it is used.
        enough: bits after which the rest is not looked at: that takes as long as the square of its
            length.
    """
    text = secret.decode("latin-1").lower()
    literal_bits = math.log2(len(set(secret))) if secret else 0.0
    bits, at = 0.0, 0
    while at < len(text) and bits < enough:
        known = max(_run(text, at), _repetition(text, at))
        known = max(_word(text, at), known if known >= _MIN_PHRASE else 0)
        if known:
            # Never more than its characters would have been worth by themselves.
            bits += min(_PHRASE_BITS, known * literal_bits)
            at += known
            # What joins words is worth nothing.
            at += at < len(text) and text[at] in _SEPARATORS
        else:
            bits += literal_bits
            at += 1
    return bits


def _is_published(secret: bytes) -> bool:
    text = secret.strip().decode("latin-1").lower()
    return text in _PUBLISHED_TEXTS or secret in _PUBLISHED_BYTES


def _word(text: str, at: int) -> int:
    """How long the longest known word here is; 0 for none."""
    found = _WORD.match(text, at)
    return found.end() - at if found else 0


def _run(text: str, at: int) -> int:
    """How long a sequence begins here: of a keyboard's, the digits', the alphabet's, or of
    neighbouring or equal bytes."""
    steps = 1
    if at + 1 < len(text) and (step := ord(text[at + 1]) - ord(text[at])) in {-1, 0, 1}:
        while at + steps < len(text) and ord(text[at + steps]) - ord(text[at + steps - 1]) == step:
            steps += 1
    start = text[at : at + _MIN_PHRASE]
    found = (
        _common(sequence, sequence.find(start), text, at)
        for sequence in _SEQUENCES
        if len(start) == _MIN_PHRASE and start in sequence
    )
    return max(steps, *found, 0)


def _repetition(text: str, at: int) -> int:
    """How much of what follows was there before, itself included: ``aaaa`` repeats its first."""
    if text.find(text[at : at + _MIN_PHRASE], 0, at + _MIN_PHRASE - 1) < 0:
        return 0
    length = _MIN_PHRASE
    while at + length < len(text) and text.find(text[at : at + length + 1], 0, at + length) >= 0:
        length += 1
    return length


def _common(one: str, start: int, other: str, at: int) -> int:
    length = 0
    while (
        start + length < len(one)
        and at + length < len(other)
        and one[start + length] == other[at + length]
    ):
        length += 1
    return length


def _decoded(text: str) -> bytes:
    if len(text) % 4 == 0 and all(character in "0123456789abcdefABCDEF" for character in text):
        return bytes.fromhex(text)
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


_PUBLISHED_TEXTS = frozenset(text.lower() for text in _PUBLISHED)
_PUBLISHED_BYTES = frozenset(map(_decoded, _PUBLISHED))
