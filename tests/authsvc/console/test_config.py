"""The console's settings: loopback by default, and elsewhere only what is safe."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from authsvc.common.settings import ConfigError, load
from authsvc.console.config import AuthsvcSettings, ConsoleSettings
from authsvc.server.config import Settings
from tests.support.processes import ROOT

AUTHSVC = 'target = "127.0.0.1:50051"\nca_file = "ca.pem"\nservice_token_file = "token"'
TLS = '[tls]\ncertificate_file = "c.pem"\nkey_file = "c.key"'
URL = 'url = "https://console.example.com"'


def loaded(
    folder: Path, top: str = "", *, authsvc: str = AUTHSVC, tables: str = ""
) -> ConsoleSettings:
    path = folder / "console.toml"
    path.write_text(f'operators_file = "operators"\n{top}\n[authsvc]\n{authsvc}\n{tables}\n')
    return load(ConsoleSettings, path)


def test_by_default_it_listens_on_this_machine_only(tmp_path: Path) -> None:
    settings = loaded(tmp_path)
    assert settings.listen == "127.0.0.1:8081"
    assert not settings.is_secure
    assert settings.origins(8081) == {
        "http://127.0.0.1:8081",
        "http://localhost:8081",
        "http://[::1]:8081",
    }
    assert "http://localhost" in settings.origins(80)


def test_with_tls_it_may_listen_anywhere(tmp_path: Path) -> None:
    settings = loaded(tmp_path, f'listen = "0.0.0.0:443"\n{URL}', tables=TLS)
    assert settings.is_secure
    assert settings.origins(443) == {"https://console.example.com"}
    assert "https://localhost" in loaded(tmp_path, tables=TLS).origins(443)


def test_behind_a_proxy_it_may_listen_anywhere(tmp_path: Path) -> None:
    settings = loaded(tmp_path, f'listen = "[::]:8081"\n{URL}\nbehind_proxy = true')
    assert settings.is_secure
    assert settings.origins(8081) == {"https://console.example.com"}


@pytest.mark.parametrize(
    ("top", "tables", "says"),
    [
        ('listen = "0.0.0.0:8081"', "", "can be reached from other machines"),
        ('listen = "0.0.0.0:8081"', TLS, "url is required"),
        ("behind_proxy = true", "", "behind_proxy needs url"),
        (f"{URL}\nbehind_proxy = true", TLS, "either"),
        (URL, "", "url needs"),
        ("", '[metrics]\nlisten = "127.0.0.1:8081"', "is the address of listen"),
        ('url = "http://console.example.com"', TLS, "url: is an origin"),
        ('url = "https://console.example.com/"', TLS, "url: is an origin"),
        ('url = "https://Console.example.com"', TLS, "url: is an origin"),
        ('url = "https://me@console.example.com"', TLS, "url: is an origin"),
        ('url = "https://console.example.com:443"', TLS, "url: is an origin"),
        ('url = "https://console.example.com:x"', TLS, "url: is an origin"),
        ('url = "https://console.example.com?"', TLS, "url: is an origin"),
        ('url = "https://console..example"', TLS, "url: is an origin"),
        ('url = "https://console,example"', TLS, "url: is an origin"),
        (r'url = "https://console.example\n"', TLS, "url: is an origin"),
        ('listen = "127.0.0.1"', "", "listen: is an address"),
        ('listen = "a b:8081"', "", "listen: is an address"),
        ('listen = "::1:8081"', "", "listen: is an address"),
        ('listen = "127.0.0.1:99999"', "", "listen: is an address"),
        ('passphrase = "secret"', "", "passphrase: there is no such setting"),
        ("session_seconds = 0", "", "session_seconds"),
    ],
)
def test_unsafe_and_invalid_settings_are_named(
    tmp_path: Path, top: str, tables: str, says: str
) -> None:
    with pytest.raises(ConfigError, match=says):
        loaded(tmp_path, top, tables=tables)


@pytest.mark.parametrize(
    ("authsvc", "says"),
    [
        ('target = "127.0.0.1:50051"', "authsvc.ca_file: is required"),
        ('ca_file = "ca.pem"', "needs service_token_file, or certificate_file"),
        ('ca_file = "ca.pem"\ncertificate_file = "c.pem"', "go together"),
        (f'{AUTHSVC}\ntoken = "x"', "authsvc.token: there is no such setting"),
    ],
)
def test_credentials_for_authsvc_are_required(tmp_path: Path, authsvc: str, says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        loaded(tmp_path, authsvc=authsvc)


def test_its_variables_are_not_those_of_authsvc(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AUTHSVC_CONSOLE_LISTEN", "127.0.0.1:9999")
    assert loaded(tmp_path).listen == "127.0.0.1:9999"
    with pytest.raises(ConfigError) as caught:
        load(Settings, None)
    assert "AUTHSVC_CONSOLE_LISTEN" not in str(caught.value)


def test_the_pages_have_a_valid_example_and_every_setting(tmp_path: Path) -> None:
    page = (ROOT / "docs" / "console.md").read_text()
    reference = (ROOT / "docs" / "reference" / "configuration.md").read_text()
    settings_table = reference.partition("\n## authsvc console\n")[2]
    example = page.partition("# console.toml")[2].partition("```")[0]
    path = tmp_path / "console.toml"
    path.write_text(f"# {example}")
    settings = load(ConsoleSettings, path)
    assert settings.authsvc.target == "authsvc.internal:50051"
    for name in (*ConsoleSettings.model_fields, *AuthsvcSettings.model_fields):
        assert re.search(rf"[`\[][\w.]*\b{name}\b", settings_table), name
    for name in ("listen", "session_idle_seconds", "session_seconds", "events_kept"):
        default = ConsoleSettings.model_fields[name].default
        shown = f"{default:g}" if isinstance(default, float) else str(default)
        assert shown in settings_table, name
