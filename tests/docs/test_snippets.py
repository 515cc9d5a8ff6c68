"""Every code block of the pages is executed or validated: here, or by a test that is named here."""

from __future__ import annotations

import ast
import asyncio
import inspect
import json
import re
import subprocess
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from secrets import token_hex
from typing import Any

import anyio
import pytest
from fastmcp import FastMCP
from mcp.server.mcpserver import MCPServer
from pydantic import BaseModel
from starlette.applications import Starlette

from authsvc.cli.connection import NAMES as ADMIN_SETTINGS
from authsvc.console.config import ConsoleSettings
from authsvc.credentials.policy import session_policy
from authsvc.server.config import Settings
from authsvc.server.running import running as running_authsvc
from mcp_adapter.server.config import Settings as AdapterSettings
from mcp_adapter.tools.loading import selected
from tests.support.bounds import TIMEOUT_SECONDS
from tests.support.clock import START, Clock
from tests.support.https import PrivateAuthority
from tests.support.processes import ROOT
from tests.support.service import settings_for
from tests.support.snippets import PAGES, Block, blocks_of, commands_of
from tests.support.tokens import IdentityProvider

RESOURCE = "https://mcp.example.com/mcp"
NOT_CODE = {"", "text", "mermaid"}
"""Pictures, and output: those of providers.md are compared by its own tests."""


@dataclass(frozen=True)
class Elsewhere:
    """Blocks that another test executes.

    Attributes:
        test: which one.
        page: where they are.
        languages: which.
        has: a text that is in them; empty for all of the page.
    """

    test: str
    page: str
    languages: frozenset[str]
    has: str = ""

    def covers(self, block: Block) -> bool:
        """Whether it is one of them."""
        return (
            block.page == self.page and block.language in self.languages and self.has in block.text
        )


def elsewhere(test: str, page: str, *languages: str, has: str = "") -> Elsewhere:
    return Elsewhere(f"tests/{test}", page, frozenset(languages), has)


PROTECT, MIGRATION = "docs/protect-your-server.md", "docs/migration.md"

OTHERS = [
    elsewhere(
        "authsvc/cli/test_credential_process.py::test_the_profile_of_the_page",
        "docs/credentials/in-a-tool.md",
        "ini",
    ),
    elsewhere(
        "docs/test_credentials_page.py::test_the_chart_mounts_the_assertion",
        "docs/credentials/client-authentication.md",
        "yaml",
        has="serviceAccountToken",
    ),
    elsewhere(
        "deploy/test_helm.py::test_another_server_is_let_in_as_the_page_says",
        "docs/operations.md",
        "yaml",
    ),
    elsewhere(
        "docs/test_migration.py::test_clients_see_what_the_table_says",
        MIGRATION,
        *("diff", "toml"),
    ),
    elsewhere(
        "docs/test_migration.py::test_the_commands_print_what_is_written_beside_them",
        MIGRATION,
        "sh",
        has="status()",
    ),
    elsewhere(
        "docs/test_migration.py::test_the_doctor_finds_nothing", MIGRATION, "sh", has="doctor"
    ),
    elsewhere(
        "docs/test_migration.py::test_explain_judges_tokens_as_the_old_check_did",
        MIGRATION,
        "sh",
        has="explain",
    ),
    elsewhere(
        "docs/test_migration.py::test_all_methods_can_be_closed_as_before", MIGRATION, "python"
    ),
    *(
        elsewhere(f"clients/test_other_languages.py::{test}", "docs/other-languages.md", language)
        for test, language in (
            ("test_the_typescript_of_the_page", "ts"),
            ("test_the_shell_of_the_page", "sh"),
        )
    ),
    *(
        elsewhere(f"{test}", "docs/gateways.md", language, has=has)
        for test, language, has in (
            ("docs/test_gateways.py::test_the_page_shows_the_files_of_the_example", "js", ""),
            ("docs/test_gateways.py::test_two_servers_behind_one_envoy", "yaml", "/notes"),
            (
                "docs/test_gateways.py::test_the_page_shows_the_files_of_the_example",
                "yaml",
                "static_resources",
            ),
            (
                "docs/test_gateways.py::test_the_page_shows_the_files_of_the_example",
                "python",
                "PyJWKClient",
            ),
            (
                "docs/test_gateways.py::test_the_page_shows_the_files_of_the_example",
                "python",
                "FastMCP(",
            ),
            (
                "docs/test_gateways.py::test_envoy_is_known_by_a_service_token",
                "yaml",
                "authsvc-token",
            ),
            (
                "deploy/test_helm.py::test_the_values_of_the_page_about_gateways",
                "yaml",
                "serveKeys",
            ),
        )
    ),
    elsewhere("test_readme.py::test_its_lines_protect_a_server", "README.md", "python"),
    elsewhere("examples/test_testing.py::test_the_page_passes", "docs/testing.md", "python"),
    elsewhere(
        "deploy/test_installation.py::test_an_operator_revokes_as_the_page_says",
        "docs/operations.md",
        "python",
    ),
    elsewhere(
        "field/test_providers.py::test_the_token_shown_gives_the_principal_shown",
        "docs/providers.md",
        *("toml", "json"),
    ),
    elsewhere(
        "field/test_providers.py::test_the_short_name_of_an_entra_scope_stands_for_the_long_one",
        "docs/providers.md",
        "python",
    ),
    elsewhere(
        "examples/test_pages.py::test_the_requirement_of_the_page_can_be_closed",
        PROTECT,
        "python",
        has="docs.unlisted",
    ),
    elsewhere(
        "examples/test_pages.py::test_the_logging_of_the_page_shows_the_fields",
        PROTECT,
        "python",
        has="basicConfig",
    ),
    elsewhere(
        "field/test_mounting.py::test_the_page_shows_what_the_examples_have",
        PROTECT,
        *("nginx", "yaml"),
    ),
]
EVERY = [block for page in PAGES for block in blocks_of(page)]
HERE = [it for it in EVERY if not any(other.covers(it) for other in OTHERS)]


def of(*languages: str) -> list[Block]:
    return [block for block in HERE if block.language in languages]


def reads(test: Path, block: Block) -> bool:
    """Whether a module of tests names the file of a block, and its language."""
    text = test.read_text(encoding="utf-8")
    return Path(block.page).name in text and bool(re.search(rf"\b{block.language}\b", text))


def test_every_block_is_of_a_language_that_is_tested() -> None:
    tested = {"python", "toml", "json", "sh", "console"} | NOT_CODE
    modules = [path for path in (ROOT / "tests").rglob("test_*.py") if path != Path(__file__)]
    for block in HERE:
        if block.language not in tested:
            assert any(reads(it, block) for it in modules), (
                f"{block}: execute it in a test, and name that in {Path(__file__).name}"
            )


@pytest.mark.parametrize("other", OTHERS, ids=lambda it: it.test)
def test_the_tests_that_execute_others_are_there(other: Elsewhere) -> None:
    assert any(other.covers(block) for block in EVERY)
    path, _, name = other.test.partition("::")
    text = (ROOT / path).read_text(encoding="utf-8")
    assert f"def {name}(" in text
    helpers = "".join(
        it.read_text(encoding="utf-8") for it in (ROOT / "tests/support").glob("providers*.py")
    )
    assert Path(other.page).name in text + helpers


# Python.


class Placeholders(ast.NodeTransformer):
    """What a page leaves to the reader, ``name=...``, is the variable of that name."""

    def visit_keyword(self, node: ast.keyword) -> ast.AST:
        """One argument."""
        self.generic_visit(node)
        if node.arg and isinstance(node.value, ast.Constant) and node.value.value is ...:
            node.value = ast.copy_location(ast.Name(node.arg, ast.Load()), node.value)
        return node


class Mcp(MCPServer):
    """The reader's server, whichever framework a block has it from."""

    def http_app(self, **options: Any) -> Starlette:  # noqa: ANN401 - of FastMCP
        """FastMCP's app."""
        return FastMCP[None]("page").http_app(**options)


def reader_has(token: str) -> dict[str, Any]:
    """What the pages' blocks build upon: names that the reader has before the first one."""
    return {
        "mcp": Mcp("page"),
        "app": Starlette(),
        "resolver": "127.0.0.1:50051",
        "resource": RESOURCE,
        "session_id": "",
        "token": token,
    }


def execute(blocks: list[Block], names: dict[str, Any], here: Mapping[str, str]) -> None:
    """Execute blocks one after the other, each as the body of an ``async`` function may be.

    Args:
        blocks: of one page.
        names: that they find, and to which they add.
        here: by what a page writes, what is here in its place.
    """
    for block in blocks:
        text = block.text
        for written, replaced in here.items():
            text = text.replace(written, replaced)
        padded = "\n" * block.line + text  # a traceback has the page's own lines
        tree = Placeholders().visit(ast.parse(padded))
        code = compile(tree, block.page, "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
        returned = eval(code, names)  # noqa: S307 - the page's own code
        if inspect.isawaitable(returned):
            asyncio.run(asyncio.wait_for(returned, TIMEOUT_SECONDS))


PYTHON_PAGES = sorted({block.page for block in of("python")})


@pytest.mark.anyio
@pytest.mark.parametrize("page", PYTHON_PAGES)
async def test_python_runs(page: str, tmp_path: Path, clock: Clock, idp: IdentityProvider) -> None:
    settings = settings_for(tmp_path, idp, resources=(RESOURCE,))
    names = reader_has(idp.token("ada", aud=RESOURCE))
    PrivateAuthority(tmp_path).file("authsvc-ca.pem")
    (tmp_path / "authsvc-token").write_text(token_hex(32))
    async with running_authsvc(settings, clock=clock) as address:
        blocks = [block for block in of("python") if block.page == page]
        # In a thread: the blocking client waits for the service, which runs in this one.
        here = {"127.0.0.1:50051": address, "/run/secrets": str(tmp_path)}
        await anyio.to_thread.run_sync(execute, blocks, names, here)
    if page == PROTECT:
        assert names["resolution"].principal.subject == "ada"


def test_the_tool_of_the_page_is_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (block,) = (it for it in of("python") if it.page == "docs/tools.md")
    (tmp_path / "my_tools.py").write_text(block.text)
    monkeypatch.syspath_prepend(tmp_path)
    (settings,) = (
        AdapterSettings(**ADAPTER, **tomllib.loads(it.text))
        for it in of("toml")
        if "my_tools" in it.text
    )
    assert "greet" in {tool.name for tool in selected(settings.tools)}


# TOML.

ISSUERS = [
    {"issuer": name, "algorithms": ["RS256"], "discover": True}
    for name in ("https://idp.example.com", "https://idp.example")
]
AUTHSVC: dict[str, Any] = {
    "listen": "127.0.0.1:50051",
    "resources": [RESOURCE, "https://mcp.example/api"],
    "issuers": ISSUERS,
}
ADAPTER: dict[str, Any] = {
    "listen": "127.0.0.1:8000",
    "resource": RESOURCE,
    "authorization_servers": ["https://idp.example.com"],
}
ASSERTIONS = {"issuer": "https://authsvc.example.com", "encryption_key_file": "key"}
TLS = {"certificate_file": "server.pem", "key_file": "server.key"}
SERVER = {"name": "server", "resources": [RESOURCE], "service_token_files": ["token"]}
PROGRAMS = ("authsvc", "adapter", "admin", "console")


def programs_of(block: Block) -> list[str]:
    """The programs that a block configures: its first comment names them, else its tables do."""
    comment = block.text.partition("\n")[0] if block.text.startswith("#") else ""
    named = re.match(r"# (?:mcp-)?(\w+)(?:\.toml)?(?:, and mcp-(\w+))?", comment)
    if named:
        return [name for name in named.groups() if name]
    return ["adapter" if "tools" in tomllib.loads(block.text) else "authsvc"]


def with_base(given: Mapping[str, Any]) -> dict[str, Any]:
    """A fragment of ``authsvc.toml``, with what stands before it on its page or anywhere."""
    base = {name: it for name, it in AUTHSVC.items() if name not in given}
    made = {**base, **given}
    if "callers" in given:
        made.setdefault("tls", TLS)
        made["callers"] = [SERVER, *made["callers"]]
        del made["resources"]
    if isinstance(made["issuers"], dict):  # [issuers.claims]: of the table above it
        made["issuers"] = [{**ISSUERS[0], **made["issuers"]}]
    if "ext_authz" in given:
        made.setdefault("assertions", ASSERTIONS)
    if "introspection" in given:
        issuer = given["introspection"]["issuer"]
        made["issuers"] = [it for it in made["issuers"] if it["issuer"] != issuer]
    return made


def validate(program: str, given: Mapping[str, Any]) -> BaseModel | None:
    """
    Raises:
        ValueError: these are no settings of the program.
    """
    match program:
        case "authsvc":
            whole = {"resources", "issuers"} <= given.keys()
            return Settings(**(given if whole else with_base(given)))
        case "adapter":
            return AdapterSettings(**{**ADAPTER, **given})
        case "console":
            return ConsoleSettings(**given)
        case "admin":
            if unknown := given.keys() - {*ADMIN_SETTINGS}:
                raise ValueError(f"unknown: {unknown}")
            return None
    raise ValueError(f"there is no program {program}")


@pytest.mark.parametrize("block", of("toml"), ids=str)
def test_toml_is_of_settings(block: Block) -> None:
    given = tomllib.loads(block.text)
    assert given
    for program in programs_of(block):
        validate(program, given)


def test_settings_that_are_not_there_are_found() -> None:
    for program in PROGRAMS:
        with pytest.raises(ValueError, match="colour"):
            validate(program, {"colour": "red"})
    with pytest.raises(ValueError, match="no program"):
        validate("another", {})


# JSON.


def documents(text: str) -> Iterator[Any]:
    """The documents of a text that has one or more.

    Raises:
        ValueError: it is no JSON.
    """
    decoder, rest = json.JSONDecoder(), text.strip()
    while rest:
        document, end = decoder.raw_decode(rest)
        yield document
        rest = rest[end:].lstrip()


@pytest.mark.parametrize("block", of("json"), ids=str)
def test_json_is_json(block: Block) -> None:
    assert [*documents(block.text)]


def test_the_session_policy_of_the_page_is_the_one_that_is_sent() -> None:
    (block,) = (it for it in of("json") if "DateLessThan" in it.text)
    (shown,) = documents(block.text)
    permissions = ("s3:GetBucketLocation", "s3:ListBucket", "s3:GetObject")
    made = session_policy(("alpha",), permissions, ends=int(START) + 600, partition="aws")
    assert made is not None
    assert shown == json.loads(made.forms[0])


# Shells. tests/docs/test_commands.py looks up the commands and options of ours in them.


@pytest.mark.parametrize("page", sorted({block.page for block in of("sh", "console")}))
def test_a_shell_can_parse_what_is_typed(page: str) -> None:
    for block in of("sh", "console"):
        if block.page == page:
            assert commands_of(block)
            assert parsed(commands_of(block)) == "", str(block)


def parsed(script: str) -> str:
    """What ``bash -n`` finds fault with; empty for nothing."""
    done = subprocess.run(
        ["/bin/bash", "-n"],
        input=script,
        capture_output=True,
        text=True,
        timeout=TIMEOUT_SECONDS,
        check=False,
    )
    return done.stderr


def test_faults_of_a_shell_are_found() -> None:
    assert parsed("echo 'open\n")


def test_a_block_without_an_end_is_found() -> None:
    with pytest.raises(ValueError, match=r"p\.md:2: a code block without an end"):
        blocks_of("p.md", "text\n```sh\nls\n")
    (block,) = blocks_of("p.md", "1. x\n\n   ```sh\n   ls\n     -l\n   ```\n")
    assert (block.line, block.language, block.text) == (3, "sh", "ls\n  -l\n")
