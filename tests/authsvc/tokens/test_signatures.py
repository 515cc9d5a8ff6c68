"""Raw signatures with known verdicts, thousands of them, without any file from outside.

They stand beside the vectors of ``test_wycheproof.py``, which are whole tokens and few of a kind.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Callable, Iterable
from dataclasses import replace
from functools import cache, partial

import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import padding
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256

from authsvc.tokens.algorithms import ALGORITHMS
from tests.support.signatures import ecdsa, eddsa, longer_hashes, macs, rsa
from tests.support.signatures.cases import Case

CASES: dict[str, Callable[[], Iterable[Case]]] = {
    "HS256": macs.cases,
    "RS256": rsa.pkcs1_cases,
    "PS256": rsa.pss_cases,
    "ES256": ecdsa.cases,
    "EdDSA": eddsa.cases,
    **{name: partial(longer_hashes.cases, name) for name in longer_hashes.ALGORITHMS},
}

AT_LEAST = {"HS256": 800, "RS256": 2_800, "PS256": 2_800, "ES256": 1_200, "EdDSA": 1_000}
AT_LEAST |= {"HS384": 700, "HS512": 900, "RS384": 2_800, "RS512": 2_800}
AT_LEAST |= {"PS384": 2_800, "PS512": 2_800, "ES384": 1_200, "ES512": 1_500}
"""How many cases there are of each algorithm; with fewer, something would go untested."""


@cache
def cases_of(algorithm: str) -> list[Case]:
    """The cases of an algorithm, which are not made before some test needs them."""
    return list(CASES[algorithm]())


def test_every_algorithm_has_cases() -> None:
    assert set(CASES) == set(ALGORITHMS) == set(AT_LEAST)


@pytest.mark.parametrize("algorithm", AT_LEAST)
def test_every_verdict_is_the_known_one(algorithm: str) -> None:
    wrong = [case.name for case in cases_of(algorithm) if case.verdict() is not case.valid]
    assert wrong == []


@pytest.mark.parametrize(("algorithm", "cases"), AT_LEAST.items())
def test_there_are_many_cases_of_both_verdicts(algorithm: str, cases: int) -> None:
    valid = [case.valid for case in cases_of(algorithm)]
    assert len(valid) >= cases
    assert valid.count(True) >= 3


# The cases tell a careless verifier from a careful one.


def truncated_mac(case: Case) -> bool:
    assert isinstance(case.material, bytes)
    mac = hmac.digest(case.material, case.message, "sha256")
    return len(case.signature) >= 16 and mac.startswith(case.signature)


def extended_mac(case: Case) -> bool:
    return replace(case, signature=case.signature[:32]).verdict()


def der_too(case: Case) -> bool:
    try:
        r, s = decode_dss_signature(case.signature)
        return replace(case, signature=r.to_bytes(32) + s.to_bytes(32)).verdict()
    except (ValueError, OverflowError):
        return case.verdict()


def any_width(case: Case) -> bool:
    half = len(case.signature) // 2
    r, s = (int.from_bytes(part) for part in (case.signature[:half], case.signature[half:]))
    if max(r, s) >= 2**256:
        return False
    return replace(case, signature=r.to_bytes(32) + s.to_bytes(32)).verdict()


def reduced_ecdsa(case: Case) -> bool:
    if len(case.signature) != 64:
        return False
    r, s = (
        int.from_bytes(part) % ecdsa.ORDER for part in (case.signature[:32], case.signature[32:])
    )
    return replace(case, signature=r.to_bytes(32) + s.to_bytes(32)).verdict()


def reduced_eddsa(case: Case) -> bool:
    s = int.from_bytes(case.signature[32:], "little") % eddsa.ORDER
    return replace(case, signature=case.signature[:32] + s.to_bytes(32, "little")).verdict()


def reduced_rsa(case: Case) -> bool:
    s = int.from_bytes(case.signature) % rsa.KEY.n
    return len(case.signature) == rsa.SIZE and replace(case, signature=s.to_bytes(256)).verdict()


def padded_rsa(case: Case) -> bool:
    return replace(case, signature=case.signature.rjust(rsa.SIZE, b"\0")).verdict()


def opened(case: Case) -> bytes:
    return pow(int.from_bytes(case.signature), rsa.KEY.e, rsa.KEY.n).to_bytes(rsa.SIZE)


def ends_with_digest(case: Case) -> bool:
    return opened(case).endswith(hashlib.sha256(case.message).digest())


def something_after_digest(case: Case) -> bool:
    start, _, content = opened(case)[2:].partition(b"\0")
    wanted = rsa.DIGEST_INFO + hashlib.sha256(case.message).digest()
    return not start.strip(b"\xff") and content.startswith(wanted)


def any_salt_length(case: Case) -> bool:
    assert isinstance(case.material, RSAPublicKey)
    how = padding.PSS(padding.MGF1(SHA256()), padding.PSS.AUTO)
    try:
        case.material.verify(case.signature, case.message, how, SHA256())
    except InvalidSignature:
        return False
    return True


CARELESS: Iterable[tuple[str, Callable[[Case], bool]]] = [
    ("HS256", truncated_mac),
    ("HS256", extended_mac),
    ("ES256", der_too),
    ("ES256", any_width),
    ("ES256", reduced_ecdsa),
    ("EdDSA", reduced_eddsa),
    ("RS256", reduced_rsa),
    ("PS256", reduced_rsa),
    ("RS256", padded_rsa),
    ("PS256", padded_rsa),
    ("RS256", ends_with_digest),
    ("RS256", something_after_digest),
    ("PS256", any_salt_length),
]


@pytest.mark.parametrize(("algorithm", "careless"), CARELESS)
def test_a_careless_verifier_is_found(algorithm: str, careless: Callable[[Case], bool]) -> None:
    # The special cases are the last ones.
    assert any(careless(case) is not case.valid for case in reversed(cases_of(algorithm)))
