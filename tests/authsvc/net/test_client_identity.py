"""A client's certificate: the files that it follows, and who is shown it."""

from __future__ import annotations

import asyncio
import logging
import os
import ssl
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
)

from authsvc.net.certificates import SignedCertificate
from authsvc.net.client_identity import (
    CERTIFICATE_SETTING,
    KEY_SETTING,
    MAX_FILE_BYTES,
    ClientIdentity,
    ClientIdentityError,
)
from authsvc.net.failures import Failure, Stage
from authsvc.net.fetching import Fetcher, FetchError
from authsvc.net.proxies import read_proxy
from authsvc.net.trust import Trust
from authsvc.net.watched_file import WATCH_INTERVAL_SECONDS
from tests.authsvc.common.test_client_authentication import certificate_pem, pem
from tests.support.bounds import TIMEOUT_SECONDS
from tests.support.clock import Clock
from tests.support.https import PrivateAuthority, alerting, serving_https, tunnelling

pytestmark = pytest.mark.anyio

VERSIONS = pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
FORM = {"token": "x"}


@pytest.fixture
def authority(tmp_path: Path) -> PrivateAuthority:
    return PrivateAuthority(tmp_path)


def write(folder: Path, signed: SignedCertificate) -> tuple[Path, Path]:
    """The files of a certificate and of its key."""
    files = folder / "client.pem", folder / "client.key"
    files[0].write_bytes(signed.certificate_pem())
    files[1].write_bytes(signed.key_pem())
    return files


def der(signed: SignedCertificate) -> bytes:
    return signed.certificate.public_bytes(Encoding.DER)


def showing(authority: PrivateAuthority, files: tuple[Path, Path], clock: Clock) -> Fetcher:
    trust = Trust(authority.file(), clock)
    return Fetcher(trust=trust, identity=ClientIdentity(*files, trust, clock))


async def failed(fetcher: Fetcher, url: str) -> FetchError:
    with pytest.raises(FetchError) as caught:
        await fetcher.post(url, FORM, {})
    return caught.value


@VERSIONS
async def test_the_server_is_shown_the_certificate(
    tmp_path: Path, authority: PrivateAuthority, clock: Clock, version: ssl.TLSVersion
) -> None:
    own = authority.client()
    fetcher = showing(authority, write(tmp_path, own), clock)
    async with serving_https(authority.demanding(version=version)) as site:
        site.answers["/token"] = b"{}"
        body, _ = await fetcher.post(f"{site.url}/token", FORM, {})
    assert body == b"{}"
    assert site.peers == [der(own)]


@VERSIONS
async def test_a_server_that_does_not_take_the_certificate(
    tmp_path: Path, authority: PrivateAuthority, clock: Clock, version: ssl.TLSVersion
) -> None:
    (tmp_path / "other").mkdir()
    stranger = PrivateAuthority(tmp_path / "other").client()
    with alerting(authority.demanding(version=version)) as url:
        without = await failed(Fetcher(trust=Trust(authority.file())), f"{url}/token")
        strange = await failed(showing(authority, write(tmp_path, stranger), clock), url)
        old = authority.client(days=-0.001)
        expired = await failed(showing(authority, write(tmp_path, old), clock), url)
    # TLS 1.2 has no alert for a certificate that is missing (RFC 5246 section 7.4.6).
    missing = [without] if version is ssl.TLSVersion.TLSv1_3 else []
    assert without.failure.stage is Stage.TLS
    for error in (*missing, strange, expired):
        assert error.failure is Failure.OUR_CERTIFICATE, error
        assert "alert on the client's certificate" in str(error)
        assert not error.setting
    assert "expired" in str(expired)
    assert "unknown ca" in str(strange)


async def test_a_changed_pair_takes_effect(
    tmp_path: Path, authority: PrivateAuthority, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    first, second = authority.client(), authority.client()
    certificate, key = write(tmp_path, first)
    fetcher = showing(authority, (certificate, key), clock)
    async with serving_https(authority.demanding()) as site:
        site.answers["/token"] = b"{}"

        async def shown() -> bytes | None:
            clock.advance(WATCH_INTERVAL_SECONDS)
            await fetcher.post(f"{site.url}/token", FORM, {})
            return site.peers[-1]

        assert await shown() == der(first)
        # While the pair is half replaced the last one stays in use, and that is logged once.
        certificate.write_bytes(second.certificate_pem())
        assert [await shown() for _ in range(3)] == [der(first)] * 3
        assert caplog.text.count("does not belong to the key") == 1
        key.write_bytes(second.key_pem())
        assert await shown() == der(second)
        key.unlink()
        assert await shown() == der(second)
        assert "No such file" in caplog.text
        key.write_bytes(second.key_pem())
        assert await shown() == der(second)
    assert second.key_pem().decode().splitlines()[1] not in caplog.text


async def test_rotation_in_one_step_under_load_fails_no_call(
    tmp_path: Path, authority: PrivateAuthority, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    """Key and certificate in one file, which is renamed into place."""
    caplog.set_level(logging.ERROR)
    file = tmp_path / "both.pem"

    def replace(signed: SignedCertificate) -> None:
        (tmp_path / "new").write_bytes(signed.key_pem() + signed.certificate_pem())
        (tmp_path / "new").rename(file)

    certificates = [authority.client() for _ in range(5)]
    replace(certificates[0])
    fetcher = showing(authority, (file, file), clock)
    async with serving_https(authority.demanding()) as site, asyncio.timeout(TIMEOUT_SECONDS):
        site.answers["/token"] = b"{}"
        for signed in certificates:
            replace(signed)
            clock.advance(WATCH_INTERVAL_SECONDS / 2)
            calls = [fetcher.post(f"{site.url}/token", FORM, {}) for _ in range(8)]
            clock.advance(WATCH_INTERVAL_SECONDS / 2)
            await asyncio.gather(*calls)
    assert len(site.requests) == 40
    assert set(site.peers) == set(map(der, certificates))
    assert not caplog.text


async def test_a_removed_authority_is_trusted_no_more(
    tmp_path: Path, authority: PrivateAuthority, clock: Clock
) -> None:
    files = write(tmp_path, authority.client())
    fetcher = showing(authority, files, clock)
    (tmp_path / "other").mkdir()
    other = PrivateAuthority(tmp_path / "other").authority.certificate_pem()
    async with serving_https(authority.demanding()) as site:
        site.answers["/token"] = b"{}"
        await fetcher.post(f"{site.url}/token", FORM, {})
        files[1].write_text("half a key")
        authority.file().write_bytes(other)
        clock.advance(WATCH_INTERVAL_SECONDS)
        for _ in range(2):
            error = await failed(fetcher, f"{site.url}/token")
            assert error.setting == KEY_SETTING
            clock.advance(WATCH_INTERVAL_SECONDS)
        write(tmp_path, authority.client())
        assert (await failed(fetcher, f"{site.url}/token")).setting == "ca_file"
        authority.file()
        clock.advance(WATCH_INTERVAL_SECONDS)
        await fetcher.post(f"{site.url}/token", FORM, {})
        # Once it trusts the new authorities, it loads them no more.
        assert fetcher.identity is not None
        assert fetcher.identity.context() is fetcher.identity.context()
    assert len(site.requests) == 2


@pytest.mark.parametrize("by_tls", [False, True])
async def test_a_proxy_is_not_shown_the_certificate(
    tmp_path: Path, authority: PrivateAuthority, clock: Clock, by_tls: bool
) -> None:
    own = authority.client()
    fetcher = showing(authority, write(tmp_path, own), clock)
    of_proxy = authority.server()
    # It asks for a certificate, and takes a client without one.
    of_proxy.verify_mode = ssl.CERT_OPTIONAL
    of_proxy.load_verify_locations(cadata=authority.authority.certificate_pem().decode())
    async with (
        serving_https(authority.demanding()) as site,
        tunnelling(of_proxy if by_tls else None) as proxy,
    ):
        site.answers["/token"] = b"{}"
        through = Fetcher(
            trust=fetcher.trust, identity=fetcher.identity, proxy=read_proxy(proxy.url)
        )
        await through.post(f"{site.url}/token", FORM, {})
    assert site.peers == [der(own)]
    assert proxy.peers == [None]


async def test_another_server_is_not_shown_the_certificate(
    tmp_path: Path, authority: PrivateAuthority, clock: Clock
) -> None:
    fetcher = showing(authority, write(tmp_path, authority.client()), clock)
    async with (
        serving_https(authority.demanding()) as site,
        serving_https(authority.demanding()) as elsewhere,
    ):
        site.redirects["/token"] = f"{elsewhere.url}/token"
        error = await failed(fetcher, f"{site.url}/token")
    assert (error.status, elsewhere.requests, elsewhere.peers) == (307, [], [])
    plain = await failed(fetcher, "http://127.0.0.1:1/token")
    assert "needs https" in str(plain)


def encrypted(signed: SignedCertificate) -> bytes:
    how = BestAvailableEncryption(b"hush")
    return signed.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, how)


def as_pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def as_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


Change = Callable[[Path, Path, SignedCertificate], object]
FAULTS: list[tuple[str, str, Change]] = [
    ("No such file", CERTIFICATE_SETTING, lambda c, k, s: c.unlink()),
    ("No such file", KEY_SETTING, lambda c, k, s: k.unlink()),
    ("no certificate in PEM", CERTIFICATE_SETTING, lambda c, k, s: c.write_text("hush")),
    ("no certificate in PEM", CERTIFICATE_SETTING, lambda c, k, s: c.write_bytes(s.key_pem())),
    ("no private key in PEM", KEY_SETTING, lambda c, k, s: k.write_text("hush")),
    ("has a password", KEY_SETTING, lambda c, k, s: k.write_bytes(encrypted(s))),
    (
        "does not belong to the key",
        CERTIFICATE_SETTING,
        lambda c, k, s: k.write_bytes(PrivateAuthority(c.parent).client().key_pem()),
    ),
    ("is no regular file", CERTIFICATE_SETTING, lambda c, k, s: as_pipe(c)),
    ("is no regular file", KEY_SETTING, lambda c, k, s: as_pipe(k)),
    ("is no regular file", KEY_SETTING, lambda c, k, s: as_folder(k)),
    ("is larger", KEY_SETTING, lambda c, k, s: k.write_bytes(b" " * (MAX_FILE_BYTES + 1))),
]


@pytest.mark.parametrize(("fault", "setting", "change"), FAULTS)
def test_files_that_cannot_be_used(
    tmp_path: Path, authority: PrivateAuthority, fault: str, setting: str, change: Change
) -> None:
    own = authority.client()
    files = write(tmp_path, own)
    change(*files, own)
    with pytest.raises(ClientIdentityError, match=fault) as caught:
        ClientIdentity(*files)
    assert caught.value.setting == setting
    assert str(tmp_path) in str(caught.value)
    assert "hush" not in str(caught.value)


def test_a_key_that_tls_has_no_use_for(tmp_path: Path) -> None:
    """P-192 is too weak for OpenSSL's default level, and can be read."""
    key = ec.generate_private_key(ec.SECP192R1())
    (tmp_path / "both").write_bytes(pem(key) + certificate_pem(key))
    with pytest.raises(ClientIdentityError, match="OpenSSL rejects") as caught:
        ClientIdentity(tmp_path / "both", tmp_path / "both")
    assert caught.value.setting == CERTIFICATE_SETTING


def test_nothing_of_the_key_is_shown(tmp_path: Path, authority: PrivateAuthority) -> None:
    own = authority.client()
    identity = ClientIdentity(*write(tmp_path, own))
    assert own.key_pem().decode().splitlines()[1] not in repr(identity) + repr(identity.__dict__)
    assert identity.expires == own.certificate.not_valid_after_utc.timestamp()
