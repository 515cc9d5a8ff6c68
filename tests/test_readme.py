"""What the README shows is true."""

from __future__ import annotations

import re
import subprocess
import tomllib
from pathlib import Path
from typing import Any

from starlette.applications import Starlette

from authsvc.server.config import Settings
from mcp_adapter import SessionGate, caller
from mcp_adapter.server.config import Settings as AdapterSettings
from tests.support.bounds import TIMEOUT_SECONDS

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
DEPLOY = (ROOT / "docs" / "deploy.md").read_text()
LINES_AT_MOST = 120


def configurations(page: str) -> list[dict[str, Any]]:
    return [tomllib.loads(block) for block in re.findall(r"```toml\n(.*?)```", page, re.DOTALL)]


def test_it_is_short() -> None:
    assert len(README.splitlines()) <= LINES_AT_MOST


def test_its_lines_protect_a_server() -> None:
    (block,) = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    page: dict[str, Any] = {"app": Starlette()}
    exec(block, page)  # noqa: S102 - the page's own code

    assert isinstance(page["app"], SessionGate)
    assert page["caller"] is caller


def test_the_configurations_of_the_deploy_page_are_sound() -> None:
    one_machine, adapter, proxied, claims, *rest = configurations(DEPLOY)
    issuers, callers, *stores, introspection = rest
    over_tls, replicas, spread, sentinel = stores
    Settings(**one_machine)
    AdapterSettings(**adapter)
    AdapterSettings(**{**adapter, **proxied})
    issuer = {**one_machine["issuers"][0], **claims["issuers"]}
    assert Settings(**{**one_machine, "issuers": [issuer]}).issuers[0].claims.subject == ("uid",)
    Settings(**{**one_machine, **issuers})
    assert Settings(**{**one_machine, **introspection}).introspection is not None
    without_resources = {name: one_machine[name] for name in one_machine if name != "resources"}
    settings = Settings(**{**without_resources, **callers})
    assert [caller.name for caller in settings.callers] == ["buckets", "wiki"]
    AdapterSettings(**{**adapter, **over_tls})
    assert Settings(**{**one_machine, **replicas}).store.redis_server().tls
    AdapterSettings(**{**adapter, **spread})
    assert Settings(**{**one_machine, **sentinel}).store.redis_server().tls


def test_the_files_that_it_names_exist() -> None:
    links = re.findall(r"\]\(([^)#:]+)\)", README)
    assert links
    for link in links:
        assert (ROOT / link).exists(), link


def test_the_documents_link_to_what_exists() -> None:
    for document in (ROOT / "docs").rglob("*.md"):
        for link in re.findall(r"\]\(([^)#:]+)\)", document.read_text()):
            assert (document.parent / link).exists(), f"{document.name}: {link}"


def test_the_targets_that_it_names_exist() -> None:
    listed = subprocess.run(
        ["/usr/bin/make", "help"],
        capture_output=True,
        text=True,
        cwd=ROOT,
        check=True,
        timeout=TIMEOUT_SECONDS,
    ).stdout
    for target in set(re.findall(r"`?make (\w+)`?", README)):
        assert f"make {target} " in listed, target


def test_tests_that_the_security_page_names_exist() -> None:
    page = (ROOT / "docs" / "security.md").read_text()
    tests = "".join(path.read_text() for path in (ROOT / "tests").rglob("test_*.py"))
    for name in set(re.findall(r"\b(test_\w+)`", page)):
        assert f"def {name}(" in tests, name
