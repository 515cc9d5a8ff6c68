"""A wrong setting stops the start, by its name."""

from __future__ import annotations

from pathlib import Path

import pytest

from authsvc.config import Settings, is_local
from authsvc.settings import ConfigError, load

MINIMAL = """
resources = ["https://mcp.example/mcp"]
[[issuers]]
issuer = "https://idp.example"
algorithms = ["HS256"]
secret_file = "secret"
"""


def written(folder: Path, text: str) -> Path:
    path = folder / "authsvc.toml"
    path.write_text(text)
    return path


def complaint(folder: Path, text: str) -> str:
    with pytest.raises(ConfigError) as caught:
        load(Settings, written(folder, text))
    return str(caught.value)


def test_defaults(tmp_path: Path) -> None:
    settings = load(Settings, written(tmp_path, MINIMAL))
    assert settings.listen == "127.0.0.1:50051"
    assert (settings.store.kind, settings.store.path) == ("sqlite", Path("var/authsvc.db"))
    assert settings.sessions.unauthenticated_idle_seconds == 3600
    assert settings.sessions.authenticated_idle_seconds == 86400
    assert settings.sessions.absolute_seconds == 30 * 86400
    assert settings.issuers[0].required_claims == ("exp", "iat")


def test_the_environment_goes_above_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AUTHSVC_LISTEN", "127.0.0.1:6000")
    monkeypatch.setenv("AUTHSVC_STORE__KIND", "memory")
    monkeypatch.setenv("AUTHSVC_RESOURCES", '["https://env.example/mcp"]')
    settings = load(Settings, written(tmp_path, MINIMAL + "[store]\npath = 'x.db'\n"))
    assert settings.listen == "127.0.0.1:6000"
    assert (settings.store.kind, settings.store.path) == ("memory", Path("x.db"))
    assert settings.resources == ("https://env.example/mcp",)


@pytest.mark.parametrize(
    ("old", "new", "named"),
    [
        ('resources = ["https://mcp.example/mcp"]', "", "resources: is required"),
        ('resources = ["https://mcp.example/mcp"]', "resources = []", "resources"),
        ("https://mcp.example/mcp", "mcp.example/mcp", "resources.0: is a canonical URI"),
        ("https://mcp.example/mcp", "https://mcp.example/mcp#x", "resources.0: is a canonical"),
        ("https://mcp.example/mcp", "https://MCP.example/mcp", "resources.0: is a canonical"),
        ("resources", 'listen = "0.0.0.0:50051"\nresources', "listen: must be a loopback"),
        ("resources", 'listen = "10.1.2.3:50051"\nresources', "listen: must be a loopback"),
        ("resources", 'listen = "[::]:50051"\nresources', "listen: must be a loopback"),
        ("resources", 'listen = "nonsense"\nresources', "listen: is an address like"),
        ("resources", 'lsten = "x"\nresources', "lsten: there is no such setting"),
        ("secret_file", "secret_fil", "issuers.0.secret_fil: there is no such setting"),
        ('secret_file = "secret"', "", "issuers.0: needs exactly one of secret_file and jwks_file"),
        ('secret_file = "secret"', 'secret_file = "s"\njwks_file = "j"', "exactly one of"),
        ('["HS256"]', '["RS256"]', "issuers.0: secret_file goes with"),
        ('["HS256"]', '["HS256", "RS256"]', "issuers.0: secret_file goes with"),
        ('["HS256"]', '["none"]', "issuers.0.algorithms.0"),
        ('secret_file = "secret"', 'jwks_file = "j"', "issuers.0: secret_file goes with"),
        ('secret_file = "secret"', 'secret_file = "s"\nleeway_seconds = -1', "leeway_seconds"),
        ("[[issuers]]", "[store]\nkind = 'redisx'\n[[issuers]]", "store.kind"),
    ],
)
def test_wrong_settings_are_named(tmp_path: Path, old: str, new: str, named: str) -> None:
    assert named in complaint(tmp_path, MINIMAL.replace(old, new))


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"nowhere\.toml: No such file"):
        load(Settings, tmp_path / "nowhere.toml")


def test_what_is_not_toml_is_named(tmp_path: Path) -> None:
    assert "not TOML" in complaint(tmp_path, "=")


def test_unknown_variables_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AUTHSVC_LISTENN", "127.0.0.1:1")
    assert "AUTHSVC_LISTENN: there is no such setting" in complaint(tmp_path, MINIMAL)


def test_values_are_not_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AUTHSVC_LISTEN", "hush-hush")
    assert "hush-hush" not in complaint(tmp_path, MINIMAL)


@pytest.mark.parametrize(
    "address", ["127.0.0.1:1", "127.8.8.8:1", "[::1]:1", "localhost:1", "unix:/tmp/x"]
)
def test_local_addresses(address: str) -> None:
    assert is_local(address)


@pytest.mark.parametrize(
    "address", ["0.0.0.0:1", "[::]:1", "192.168.0.1:1", "example.com:1", ":1", "localhost.evil:1"]
)
def test_addresses_that_are_not_local(address: str) -> None:
    assert not is_local(address)
