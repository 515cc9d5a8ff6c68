"""Finds guessable secrets: published examples, common words and their digests, sequences and
repetitions, also encoded in hexadecimal or base64.

The length alone is no measure: 32 equal characters are 32 characters. Random secrets always pass.
"""

from __future__ import annotations

import base64
import binascii
import functools
import hashlib
import math
import re
from collections.abc import Iterator
from contextlib import suppress

MIN_BITS = 80.0
"""The least estimate of an accepted secret. 32 random hexadecimal digits, the shortest accepted
secret, have an estimate of 96 bits and more; see decision 0016."""

REMEDY = "make one with: openssl rand -hex 32"
"""The remedy in messages."""

_PHRASE_BITS = 6.0
"""Bits of a word, a sequence or a repetition: it is one of several dozen."""

_SEPARATORS = " -_.:/"

_MIN_PHRASE = 4
"""Shortest sequence or repetition. Shorter ones are too frequent in random text."""

_PUBLISHED = frozenset(
    {
        # The keys of RFC 7515 appendix A.1 and RFC 7520 section 3.5.
        "AyM1SysPpbyDfgZld3umj1qzKObwVMkoqQ-EstJQLr_T-1qS0gZH75aKtMN3Yj0iPS4hcgUuTwjAzZr1Z9CAow",
        "hJtXIZ2uSN5kbQfbtTNWbpdmhkV8FJG-Onbc6mxCcYg",
        # Keys of tutorials and debuggers that are often found in services.
        "a-string-secret-at-least-256-bits-long",
        "09d25e094faa6ca2556c818166b7a9563b93f7099f6f0f4caa6cf63b88e8d3e7",
        "404E635266556A586E3272357538782F413F4428472B4B6250645367566B5970",
        "413F4428472B4B6250655368566D5970337336763979244226452948404D6351",
        "3cfa76ef14937c1c0ea519f8fc057a80fcd04a7420f8e8bcd0a7567c272e007b",
        "3EK6FD+o0+c7tzBNVfjpMkNDi2yARAAKzQlk8O2IKoxQu4nF7EdAh8s3TwpHwrdWT6R",
    }
)

_WORDS = """
    abc123 about access account adipiscing admin administrator amet an and angular any anything
    api apikey app apple application as asymmetric at audience auth authentication authsvc
    backend bar base base64 baseball battery baz bearer bit bits boot brown by byte bytes can
    cat change changed changeit changeme character characters chars client code commit company
    complex config consectetur cookie correct credential credentials crypto csrf customer data
    database decrypt default demo dev develop development device difficult digits django do
    docker dog dolor dont dragon dummy eight elit encoded encrypt encrypted encryption enough
    enter env example examples express fake file five flask foo football for four fox from
    frontend generate generated generation generator github gitlab good guess guessable guest
    hard hash have hello here hidden hmac hmacsha256 horse how hs256 hs384 hs512 hub hunter2 if
    iloveyou in insecure insert internal into ipsum is issuer it java json jsonwebtoken jumps
    just jwt keep key keyboard keys kubernetes laravel lazy least length letmein letters local
    localhost login long longer lorem love made master max maximum me mercure min minimal
    minimum mix mixed mobile mode monkey more must my name need nest nestjs never new next
    nextauth nine no nobody node not number numbers oauth oauth2 of on one only openid openssl
    or our over own pass pass1234 passphrase passwd password pepper phrase placeholder please
    princess private privatekey prod production project public put quick qwerty qwerty123 rails
    random react really recommended refresh replace replaced required root safe salt sample
    secret secrets secure security server service session set seven sha1 sha256 sha512 shadow
    share shared short should sign signature signed signer signing signingkey simple sit six
    size so some something spring staging staple strict string strings strong strongest sunshine
    supabase super superman symbol symbols symfony symmetric system temp temporary ten test
    tester testing text than that the there thing this three tmp to todo token tokens top
    trustno1 try two ultra unguessable unsafe up us use used user using value verification
    verify very we web webtoken welcome welcome1 what when where who why will with word world
    yes you your yourself zero
""".split()  # noqa: SIM905 - a list of 344 strings is none to read

_DIGESTED = (
    *("", "123456", "12345678", "123456789", "your-256-bit-secret"),
    *_WORDS,
    *sorted(_PUBLISHED),
)
"""Texts whose digests are as guessable as the texts."""

_DIGESTS = ("md5", "sha1", "sha256", "sha512")

_DIGEST_PREFIX = 16
"""Bytes of a digest that are compared: the length of the shortest; longer ones are often cut."""

_MIN_DECODED = 32
"""Shortest decoded text that is estimated: a random one of letters and digits of this length
passes."""

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
    """Why a secret is guessable; empty if it is not known to be.

    Args:
        secret: as it is used. No part of it is in the result.
    """
    decoded = tuple(_decoded(secret))
    if _is_published(secret):
        return "it is a published example"
    if any(text[:_DIGEST_PREFIX] in _known_digests() for text in (secret, *decoded)):
        return "it is the digest of a common word or of an empty text"
    texts = [text for text in decoded if len(text) >= _MIN_DECODED and _is_printable(text)]
    if any(estimated_bits(text, enough=MIN_BITS) < MIN_BITS for text in (secret, *texts)):
        return "it is made of repetitions, sequences or common words"
    return ""


def estimated_bits(secret: bytes, *, enough: float = math.inf) -> float:
    """An estimate of a secret's entropy, in which words, sequences and repetitions have few bits.

    It underestimates random secrets: each other byte is one of those that occur in the secret, and
    not one of 256.

    Args:
        secret: as it is used.
        enough: the estimate ends once it has so many bits. Its time is quadratic in the length.
    """
    text = secret.decode("latin-1").lower()
    literal_bits = math.log2(len(set(secret))) if secret else 0.0
    bits, at = 0.0, 0
    while at < len(text) and bits < enough:
        known = max(_run(text, at), _repetition(text, at))
        known = max(_word(text, at), known if known >= _MIN_PHRASE else 0)
        if known:
            # At most the bits of its characters by themselves.
            bits += min(_PHRASE_BITS, known * literal_bits)
            at += known
            # A separator after a word has no bits.
            at += at < len(text) and text[at] in _SEPARATORS
        else:
            bits += literal_bits
            at += 1
    return bits


def _is_published(secret: bytes) -> bool:
    text = secret.strip().decode("latin-1").lower()
    return text in _PUBLISHED_TEXTS or secret in _PUBLISHED_BYTES


def _word(text: str, at: int) -> int:
    """Length of the longest known word at a position; 0 for none."""
    found = _WORD.match(text, at)
    return found.end() - at if found else 0


def _run(text: str, at: int) -> int:
    """Length of the sequence at a position: of keys, digits, letters, or of consecutive or equal
    bytes."""
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
    """Length of the text at a position that occurs earlier: ``aaaa`` repeats its first ``a``."""
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


def _decoded(secret: bytes) -> Iterator[bytes]:
    """A secret decoded from hexadecimal, and from base64 of either alphabet."""
    text = secret.strip()
    with suppress(binascii.Error):
        yield binascii.unhexlify(text)
    unpadded = text.rstrip(b"=").replace(b"-", b"+").replace(b"_", b"/")
    with suppress(binascii.Error):
        yield base64.b64decode(unpadded + b"=" * (-len(unpadded) % 4), validate=True)


def _is_printable(text: bytes) -> bool:
    return text.isascii() and text.decode("ascii").isprintable()


@functools.cache
def _known_digests() -> frozenset[bytes]:
    """Prefixes of digests of common words, with and without the line end that ``echo`` adds."""
    return frozenset(
        hashlib.new(name, typed.encode(), usedforsecurity=False).digest()[:_DIGEST_PREFIX]
        for word in _DIGESTED
        for spelled in {word, word.capitalize()}
        for typed in (spelled, f"{spelled}\n")
        for name in _DIGESTS
    )


_PUBLISHED_TEXTS = frozenset(text.lower() for text in _PUBLISHED)
_PUBLISHED_BYTES = frozenset(decoded for text in _PUBLISHED for decoded in _decoded(text.encode()))
