"""Trust in the system's authorities, wherever they are."""

from __future__ import annotations

import ssl
from pathlib import Path

import pytest

from authsvc.net import trust
from authsvc.net.certificates import make_authority
from authsvc.net.proxies import read_proxy
from authsvc.net.system_bundle import system_bundle


@pytest.mark.parametrize("is_told", [False, True])
def test_the_systems_store(*, is_told: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("SSL_CERT_FILE", "SSL_CERT_DIR"):
        monkeypatch.delenv(name, raising=False)
    if is_told:
        monkeypatch.setenv("SSL_CERT_FILE", "/missing")
    context = trust.new_tls_context()
    assert context.verify_mode is ssl.CERT_REQUIRED
    assert context.check_hostname


@pytest.mark.parametrize(
    ("text", "shown", "whole"),
    [
        ("HTTP://Proxy.example:3128/", "http://proxy.example:3128", "http://proxy.example:3128"),
        ("https://proxy.example", "https://proxy.example", "https://proxy.example"),
        ("http://u@p.example", "http://p.example", "http://u:@p.example"),
        ("http://u:a%3Ab%40@[::1]:1", "http://[::1]:1", "http://u:a%3Ab%40@[::1]:1"),
    ],
)
def test_a_proxy_with_and_without_its_password(text: str, shown: str, whole: str) -> None:
    proxy = read_proxy(text)
    assert (proxy.url, proxy.url_with_password()) == (shown, whole)
    assert shown in repr(proxy)
    assert proxy.url_with_password() == shown or whole not in repr(proxy)


def test_authorization_is_of_user_and_password() -> None:
    assert read_proxy("http://p.example").authorization() == ""
    # RFC 7617 section 2: of the decoded text.
    told = read_proxy("http://Aladdin:open%20sesame@p.example").authorization()
    assert told == "Proxy-Authorization: Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==\r\n"


def test_the_systems_store_as_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    authority = make_authority("CA", days=1).certificate_pem()
    told, other = tmp_path / "told.pem", tmp_path / "other.pem"
    told.write_bytes(b"text\n" + authority)
    monkeypatch.setattr("authsvc.net.system_bundle._BUNDLES", (str(tmp_path / "no"), str(other)))
    monkeypatch.setenv("SSL_CERT_FILE", str(told))
    assert system_bundle() == authority
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "missing"))
    assert system_bundle() is None
    other.write_bytes(b"")
    assert system_bundle() is None
    other.write_bytes(authority * 2)
    assert system_bundle() == authority * 2
