"""What a program presents elsewhere stays in use while its file is empty, and that is logged
once. What it verifies with ends with its file: ``tests/authsvc/access/test_callers.py``."""

from __future__ import annotations

import errno
from collections.abc import Callable
from pathlib import Path

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from authsvc.common.client_authentication import (
    AssertionFile,
    ClientAuthentication,
    ClientSecretBasic,
    ClientSecretPost,
    PrivateKeyJwt,
)
from authsvc.common.secret_file import SecretFileError, held_secret
from authsvc.credentials.secrets import read_held_secret
from authsvc.domain.errors import AuthError
from authsvc.stores.redis.clients import _PasswordFile

pytestmark = pytest.mark.usefixtures("files_always_checked")

Present = Callable[[], object]


def token(number: int) -> str:
    return jwt.encode({"sub": str(number)}, "k" * 32, algorithm="HS256")


def key(_: int) -> str:
    made = ec.generate_private_key(ec.SECP256R1())
    return made.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()


def by(method: ClientAuthentication) -> Present:
    return lambda: method.parameters("https://idp.example/token", 0.0).secret


def by_private_key(path: Path) -> Present:
    method = PrivateKeyJwt("client", path, "private_key_file")

    def numbers() -> object:
        signing = method._current(0.0).key
        assert isinstance(signing, ec.EllipticCurvePrivateKey)
        return signing.private_numbers()

    return numbers


PRESENTED: dict[str, tuple[Callable[[int], str], Callable[[Path], Present]]] = {
    "a secret": (str, lambda path: held_secret(path).read),
    "client_secret_basic": (str, lambda path: by(ClientSecretBasic("client", path, "s"))),
    "client_secret_post": (str, lambda path: by(ClientSecretPost("client", path, "s"))),
    "an assertion": (token, lambda path: by(AssertionFile("client", path, "s"))),
    "a key": (key, by_private_key),
    "a token for STS": (token, lambda path: lambda: read_held_secret(path).reveal()),
    "Valkey's password": (str, lambda path: _PasswordFile("authsvc", path).get_credentials),
}


@pytest.mark.parametrize("kind", PRESENTED)
def test_the_last_one_stays_in_use(
    kind: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    made, presenting = PRESENTED[kind]
    path = tmp_path / "file"
    path.write_text("")
    present = presenting(path)
    with pytest.raises((SecretFileError, AuthError, OSError), match="is empty"):
        present()  # there has been none
    path.write_text(made(1))
    first = present()
    path.write_text("")
    assert [present(), present()] == [first, first]
    path.unlink()  # removed, as no program does that writes it
    with pytest.raises((SecretFileError, AuthError, OSError), match="No such file"):
        present()
    path.write_text(made(2))
    second = present()
    assert second != first
    path.write_text("")
    assert present() == second
    warned = [it.getMessage() for it in caplog.records]
    assert all("stays in use" in it and str(path) in it for it in warned)
    assert sum("is empty" in it for it in warned) == 2


@pytest.mark.parametrize("kind", PRESENTED)
def test_a_folder_that_may_not_be_searched_is_no_removed_file(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made, presenting = PRESENTED[kind]
    path = tmp_path / "file"
    path.write_text(made(1))
    present = presenting(path)
    first = present()

    def denied(path: Path, **_: object) -> None:  # tests may run as root, who may search any
        raise PermissionError(errno.EACCES, "Permission denied", str(path))

    with monkeypatch.context() as patched:
        patched.setattr(Path, "stat", denied)
        path.write_text("")
        assert present() == first
    path.unlink()
    path.parent.rmdir()
    path.parent.write_text("a file in place of the folder")
    with pytest.raises((SecretFileError, AuthError, OSError)):
        present()
