"""``[ext_authz]``: each fault of it is named, all of them at once."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from authsvc.common.settings import ConfigError, load
from authsvc.domain.credential_requests import CredentialRequest
from authsvc.server.config import Settings
from authsvc.server.ext_authz import routes_of
from tests.support.bounds import TIMEOUT_SECONDS
from tests.support.python_site import begin_processes_without

TOP = """
resources = ["https://mcp.example/files", "https://mcp.example/mail"]
[store]
kind = "memory"
[[issuers]]
issuer = "https://idp.example"
algorithms = ["HS256"]
secret_file = "secret"
"""

ASSERTIONS = """
[assertions]
issuer = "https://authsvc.example"
"""

FILES = """
[[ext_authz.routes]]
resource = "https://mcp.example/files"
"""

MAIL = """
[[ext_authz.routes]]
resource = "https://mcp.example/mail"
"""

NAMED = "credential_name = "

MAIL_API = """
[[credentials.static]]
role = "reader"
access_key_id = "AKIAREADER"
secret_access_key_file = "secret"
name = "mail-api"
resources = ["https://mcp.example/mail"]
"""


def loaded(folder: Path, text: str) -> Settings:
    path = folder / "authsvc.toml"
    path.write_text(TOP + text)
    return load(Settings, path)


def complaints(folder: Path, text: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        loaded(folder, text)
    return str(caught.value).splitlines()


def test_it_is_off_by_default(tmp_path: Path) -> None:
    assert loaded(tmp_path, "").ext_authz is None


def test_the_table_alone_is_enough(tmp_path: Path) -> None:
    settings = loaded(tmp_path, ASSERTIONS + "[ext_authz]\n").ext_authz
    assert settings is not None
    assert (settings.adopt_sessions, settings.routes) == (True, ())


def test_a_route_has_the_defaults_of_the_table(tmp_path: Path) -> None:
    text = f"{ASSERTIONS}[ext_authz]\nadopt_sessions = false\n{FILES}{MAIL}adopt_sessions = true\n"
    settings = loaded(tmp_path, text).ext_authz
    assert settings is not None
    routes = routes_of(settings)
    adopts = {
        name: routes.of(f"https://mcp.example/{name}").adopt_sessions
        for name in ("files", "mail", "other")
    }
    assert adopts == {"files": False, "mail": True, "other": False}
    assert "tools/list" in routes.of("https://mcp.example/files").open_methods


def test_a_route_names_its_credentials(tmp_path: Path) -> None:
    named = f"credentials = true\n{NAMED}'mail-api'\n"
    settings = loaded(tmp_path, f"{ASSERTIONS}{FILES}credentials = true\n{MAIL}{named}{MAIL_API}")
    assert settings.ext_authz is not None
    routes = routes_of(settings.ext_authz)
    wanted = [routes.of(f"https://mcp.example/{it}").wanted for it in ("files", "mail", "other")]
    assert wanted == [CredentialRequest(), CredentialRequest("mail-api"), None]


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("[ext_authz]\n", "ext_authz: needs [assertions]"),
        (
            f"{ASSERTIONS}[[ext_authz.routes]]\nresource = 'https://x.example'\n",
            "ext_authz.routes[https://x.example].resource: no caller may resolve for it",
        ),
        (f"{ASSERTIONS}{FILES}{FILES}", "another route has it"),
        (
            f"{ASSERTIONS}{FILES}{MAIL}path = '/files/'\n",
            "is where https://mcp.example/files is",
        ),
        (
            f"{ASSERTIONS}{FILES}hosts = ['a.x']\n{MAIL}path = '/files'\nhosts = ['b.x', 'a.x']\n",
            "is where https://mcp.example/files is",
        ),
        (f"{ASSERTIONS}{FILES}tools = {{ delete = [] }}\n", "tools.delete: names no scope"),
        (f"{ASSERTIONS}{FILES}tools = {{ delete = ['a b'] }}\n", "tools.delete: "),
        (f"{ASSERTIONS}{FILES}scopes = ['a b']\n", "scopes: "),
        (f"{ASSERTIONS}{FILES}open_methods = ['']\n", "open_methods: "),
        (f"{ASSERTIONS}{FILES}credentials = true\n{NAMED}'a b'\n", "credential_name: is a name"),
        (f"{ASSERTIONS}{FILES}{NAMED}'mail-api'\n", "without credentials = true"),
        *(
            (
                f"{ASSERTIONS}{FILES}credentials = true\n{NAMED}'{name}'\n{MAIL_API}",
                f"[credentials] has name = '{name}' and https://mcp.example/files in its resources",
            )
            for name in ("mail-api", "other")
        ),
        (f"{ASSERTIONS}{FILES}authorization_servers = ['ftp://x']\n", "authorization_servers: "),
        (f"{ASSERTIONS}{FILES}tool = {{}}\n", "is it tools?"),
        (f"{ASSERTIONS}[ext_authz]\nadopt = true\n", "ext_authz.adopt"),
        *(
            (f"{ASSERTIONS}{FILES}hosts = ['{host}']\n", "hosts: ")
            for host in ("A.example", "a.example/x", "https://a.example", "*.example", "", "a:0")
        ),
        *(
            (f"{ASSERTIONS}{FILES}path = '{path}'\n", "path: ")
            for path in ("x", "/x?y", "/x#y", "/a/../b", "/a//b", "/a%2fb", "/a;b", "/*", "/./a")
        ),
    ],
)
def test_a_fault_is_named(tmp_path: Path, text: str, named: str) -> None:
    (complaint,) = complaints(tmp_path, text)
    assert named in complaint


def test_all_faults_are_named_at_once(tmp_path: Path) -> None:
    wrong = f"{FILES}path = 'x'\ntools = {{ delete = [] }}\n"
    first, second = complaints(tmp_path, wrong)
    assert "path: is a path" in first
    assert "tools.delete: names no scope" in second
    unknown = f"{FILES}[[ext_authz.routes]]\nresource = 'https://x.example'\n"
    first, second = complaints(tmp_path, unknown)
    assert "needs [assertions]" in first
    assert "routes[https://x.example].resource: no caller may" in second


def test_check_config_names_the_missing_extra(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "secret").write_text("3f9c0b6f5f0a4f6fb7d3f1c9a8e2d4b6" * 2)
    (tmp_path / "secret").chmod(0o600)
    loaded(tmp_path, ASSERTIONS + "[ext_authz]\n")
    begin_processes_without("mcp_types", tmp_path, monkeypatch)
    command = [sys.executable, "-m", "authsvc", "check-config", "--config", "authsvc.toml"]
    ran = subprocess.run(
        command, check=False, cwd=tmp_path, capture_output=True, text=True, timeout=TIMEOUT_SECONDS
    )
    assert ran.returncode == 2
    assert 'ext_authz needs the extra "envoy" (mcp_types is missing)' in ran.stderr
