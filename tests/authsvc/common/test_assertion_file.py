"""Assertions that something else keeps in a file."""

from __future__ import annotations

import os
from pathlib import Path

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from authsvc.common.client_authentication import (
    ASSERTION_TYPE,
    SPIFFE_ASSERTION_TYPE,
    AssertionFile,
    ExpiredAssertionError,
    NamedClient,
)
from authsvc.common.client_authentication.assertion_file import MAX_ASSERTION_BYTES
from authsvc.common.secret_file import SecretFileError
from tests.support.clock import START

KEY = ec.generate_private_key(ec.SECP256R1())
ENDPOINT = "https://idp.example/token"
SETTING = "credentials.exchange.client_assertion_file"


def signed(**claims: object) -> str:
    return jwt.encode(claims, KEY, "ES256")


def spoilt(**claims: object) -> str:
    return signed(sub="hush", **claims)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "token"
    path.write_text(signed(sub="spiffe://example.org/authsvc", exp=START + 60) + "\n")
    return path


def test_the_types_have_their_urns() -> None:
    """RFC 7523 section 2.2, and draft-ietf-oauth-spiffe-client-auth section 3.1."""
    names = "urn:ietf:params:oauth:client-assertion-type:"
    assert f"{names}jwt-bearer" == ASSERTION_TYPE
    assert f"{names}jwt-spiffe" == SPIFFE_ASSERTION_TYPE


def test_what_is_sent(file: Path) -> None:
    assertion = file.read_text().strip()
    sent = AssertionFile("authsvc", file, SETTING).parameters(ENDPOINT, START)
    assert sent.form == {
        "client_id": "authsvc",
        "client_assertion_type": ASSERTION_TYPE,
        "client_assertion": assertion,
    }
    assert (sent.headers, sent.secret) == ({}, assertion)
    assert assertion not in repr(sent)
    spiffe = AssertionFile("", file, SETTING, "jwt-spiffe").parameters(ENDPOINT, START)
    assert spiffe.form == {
        "client_assertion_type": SPIFFE_ASSERTION_TYPE,
        "client_assertion": assertion,
    }


def test_a_renewed_assertion_is_sent_at_once(file: Path) -> None:
    method = AssertionFile("authsvc", file, SETTING)
    assert method.expires() == START + 60
    method.parameters(ENDPOINT, START + 59.9)
    with pytest.raises(ExpiredAssertionError) as caught:
        method.parameters(ENDPOINT, START + 60 + 7_500)
    assert str(caught.value).startswith(f"{file}: the assertion expired 2 h 5 min ago: ")
    renewed = signed(exp=START + 9_000)
    file.write_text(renewed)
    sent = method.parameters(ENDPOINT, START + 60 + 7_500)
    assert sent.form["client_assertion"] == renewed
    file.write_text("")  # the last one stays in use until it expires
    assert method.parameters(ENDPOINT, START).form["client_assertion"] == renewed
    with pytest.raises(ExpiredAssertionError):
        method.parameters(ENDPOINT, START + 9_000)
    file.unlink()
    with pytest.raises(SecretFileError, match="No such file"):
        method.parameters(ENDPOINT, START)


@pytest.mark.parametrize("exp", [10**400, 1e308, START + 0.5])
def test_expiry_has_any_number(file: Path, exp: float) -> None:
    file.write_text(signed(exp=exp))
    AssertionFile("authsvc", file, SETTING).parameters(ENDPOINT, START)
    file.write_text(signed())
    assert AssertionFile("authsvc", file, SETTING).expires() is None
    AssertionFile("authsvc", file, SETTING).parameters(ENDPOINT, START)


@pytest.mark.parametrize(
    ("content", "fault"),
    [
        ("", "empty"),
        ("hush", "no JWT"),
        ("hush.hush.hush", "no JWT"),
        (f"{spoilt()}.x", "no JWT"),
        (f"{spoilt()}\n{spoilt()}", "no JWT"),
        (spoilt().rpartition(".")[0] + ".", "no signature"),
        (jwt.encode({"sub": "hush"}, "", "none"), "no signature"),
        (spoilt(exp="2030"), "exp of the JWT is no number"),
        (spoilt(exp=True), "exp of the JWT is no number"),
        (spoilt(exp=[]), "exp of the JWT is no number"),
        ("a" * (MAX_ASSERTION_BYTES + 1), "larger than"),
    ],
)
def test_a_file_without_an_assertion(file: Path, content: str, fault: str) -> None:
    file.write_text(content)
    method = AssertionFile("authsvc", file, SETTING)
    for call in (lambda: method.parameters(ENDPOINT, START), method.expires):
        with pytest.raises(SecretFileError, match=fault) as caught:
            call()
        assert str(file) in str(caught.value)
        assert "hush" not in str(caught.value)
        assert not content or content[:20] not in str(caught.value)


def test_claims_nested_too_deeply_are_no_jwt(file: Path) -> None:
    head, _, signature = signed().split(".")
    deep = jwt.utils.base64url_encode(b"[" * 30_000).decode()
    file.write_text(f"{head}.{deep}.{signature}")
    with pytest.raises(SecretFileError, match="no JWT"):
        AssertionFile("authsvc", file, SETTING).parameters(ENDPOINT, START)


def test_pipes_and_folders_are_rejected_without_waiting(file: Path) -> None:
    method = AssertionFile("authsvc", file, SETTING)
    file.unlink()
    os.mkfifo(file)
    with pytest.raises(SecretFileError, match="no regular file"):
        method.parameters(ENDPOINT, START)
    file.unlink()
    file.mkdir()
    with pytest.raises(SecretFileError, match="directory"):
        method.parameters(ENDPOINT, START)


def test_a_client_that_is_named_or_not() -> None:
    named = NamedClient("authsvc", SETTING).parameters(ENDPOINT, START)
    assert (named.form, named.headers, named.secret) == ({"client_id": "authsvc"}, {}, "")
    assert NamedClient("", SETTING).parameters(ENDPOINT, START).form == {}
