"""Which folder may import which: the arrows of docs/architecture.md, read off the imports."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.bounds import TIMEOUT_SECONDS

ROOT = Path(__file__).parents[1]

PARTS = {"tokens", "stores", "credentials", "access", "audit"}

MAY_IMPORT = {
    "net": set(),
    "domain": set(),
    "v1": set(),
    "internal": set(),
    "common": {"net"},
    "wire": {"domain", "common", "v1"},
    "http_server": {"common", "net"},
    "http_auth": {"domain", "common", "net", "audit"},
    "tokens": {"domain", "common", "net"},
    "stores": {"domain", "common", "net"},
    "credentials": {"domain", "common", "net"},
    "audit": {"domain", "common"},
    "access": {"domain", "common", "net", "audit"},
    "assertions": {"domain", "common", "net", "stores", "audit"},
    "telemetry": {"domain", "common", "net", "assertions", "signals", *PARTS},
    "resolver": {"domain", "common", *PARTS},
    "admin": {"domain", "common", *PARTS},
    "signals": {"domain", "common", "net", "admin", "audit", *PARTS},
    "rpc": {
        *("domain", "common", "access", "audit", "resolver", "admin"),
        *("telemetry", "wire", "v1", "internal"),
    },
    "gateways": {
        *("domain", "common", "net", "access", "audit", "resolver", "telemetry", "rpc"),
        *("http_auth", "internal"),
    },
    "client": {"domain", "common", "net", "http_auth", "wire", "v1", "internal"},
    "console": {"domain", "common", "net", "client", "http_server", "telemetry"},
    "server": {
        *("domain", "common", "net", *PARTS),
        *("assertions", "telemetry", "resolver", "admin", "rpc", "wire", "v1"),
        *("http_auth", "http_server", "gateways", "signals"),
    },
    "diagnosis": {
        *("domain", "common", "net", "audit", "tokens", "stores", "access", "assertions", "client"),
        *("credentials", "gateways", "server", "signals"),
    },
    "cli": {
        *("domain", "common", "net", "tokens", "access", "audit", "client"),
        *("assertions", "telemetry", "server", "console", "diagnosis"),
    },
    "__init__": set(),
    "__main__": {"cli", "common"},
    "mcp_adapter.gate": {"domain", "common", "net", "audit", "http_auth", "client"},
    "mcp_adapter.fastmcp": {"common", "http_auth"},
    "mcp_adapter.http_client": {"domain", "common", "net", "mcp_adapter.gate"},
    "mcp_adapter.aws": {"common", "domain", "mcp_adapter.gate"},
    "mcp_adapter.transport": {"domain", "common", "http_auth", "mcp_adapter.gate"},
    "mcp_adapter.tools": {"domain", "common", "http_auth", "mcp_adapter.gate"},
    "mcp_adapter.server": {
        *("domain", "common", "net", "audit", "http_auth", "client", "http_server", "telemetry"),
        *("mcp_adapter.gate", "mcp_adapter.transport", "mcp_adapter.tools"),
    },
    "mcp_adapter.testing": {
        *("domain", "common", "tokens", "stores", "access", "audit", "resolver", "admin"),
        "mcp_adapter.gate",
    },
    "mcp_adapter.__init__": {
        *("audit", "domain", "http_auth", "mcp_adapter.gate", "mcp_adapter.http_client"),
    },
    "mcp_adapter.__main__": {"common", "mcp_adapter.server"},
}
"""The other folders that each folder of ``authsvc`` (no prefix) and ``mcp_adapter`` may import."""

ONLY_IN = {
    "grpc": {"wire", "rpc", "client", "gateways", "net", "server", "v1"},
    "google": {"wire", "rpc", "client", "gateways", "net", "server", "v1"},
    "grpc_health": {"rpc", "server"},
    "grpc_reflection": {"rpc", "server"},
    "starlette": {
        *("console", "mcp_adapter.gate", "mcp_adapter.transport", "mcp_adapter.server"),
        *("mcp_adapter.testing", "signals"),
    },
    "hpack": {"client"},
    "fastmcp": {"mcp_adapter.fastmcp"},
    "jinja2": {"console"},
    "uvicorn": {"http_server", "console", "server", "mcp_adapter.server"},
    "httptools": {"http_server"},
    "redis": {"stores", "telemetry", "diagnosis"},
    "jwt": {"common", "tokens", "assertions", "server", "cli"},
    "aiobotocore": {"common", "credentials", "mcp_adapter.aws", "mcp_adapter.tools"},
    "mcp_types": {
        *("http_auth", "mcp_adapter.gate", "mcp_adapter.transport", "mcp_adapter.tools"),
        *("server", "mcp_adapter.server"),
    },
    "mcp": {
        *("mcp_adapter.gate", "mcp_adapter.transport", "mcp_adapter.tools"),
        "mcp_adapter.server",
    },
}
"""The folders that may import a third party. One that is not named may be imported anywhere."""


def modules(package: str) -> list[Path]:
    return [path for path in sorted((ROOT / package).rglob("*.py")) if "_pb2" not in path.name]


MODULES = [*modules("authsvc"), *modules("mcp_adapter")]


def folder_of(parts: tuple[str, ...]) -> str:
    """The folder of a dotted name: ``tokens`` for ``authsvc.tokens.jwt``."""
    package, place = parts[0], parts[1] if len(parts) > 1 else "__init__"
    return place if package == "authsvc" else f"{package}.{place}"


def imports(path: Path) -> set[tuple[str, ...]]:
    """The dotted names that a file imports, functions included, in parts."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return {tuple(name.split(".")) for name in found}


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_folder_imports_those_below_it(path: Path) -> None:
    folder = folder_of(path.relative_to(ROOT).with_suffix("").parts)
    ours = {folder_of(name) for name in imports(path) if name[0] in {"authsvc", "mcp_adapter"}}
    assert ours - {folder, "__version__"} <= MAY_IMPORT[folder]
    roots = {name[0] for name in imports(path)}
    assert not {root for root in roots if folder not in ONLY_IN.get(root, {folder})}
    assert not roots & {
        "bench",
        "chaos",
        "conformance",
        "demo",
        "deploy",
        "drills",
        "fuzz",
        "tests",
    }


def test_the_domain_needs_the_standard_library_alone() -> None:
    roots = {name[0] for path in modules("authsvc/domain") for name in imports(path)}
    assert roots <= {"authsvc", *sys.stdlib_module_names}


def test_the_folders_have_no_cycle() -> None:
    settled: set[str] = set()
    while ready := {room for room, below in MAY_IMPORT.items() if below <= settled} - settled:
        settled |= ready
    assert settled == set(MAY_IMPORT)


def test_every_folder_has_a_rule() -> None:
    assert {folder_of(path.relative_to(ROOT).with_suffix("").parts) for path in MODULES} <= set(
        MAY_IMPORT
    )


def test_the_client_needs_grpc_protobuf_and_hpack_alone() -> None:
    script = (
        "before = set(sys.modules)\n"
        "import authsvc.client\n"
        "loaded = {name.split('.')[0] for name in set(sys.modules) - before}\n"
        "print(*loaded - set(sys.stdlib_module_names))"
    )
    result = subprocess.run(
        [sys.executable, "-I", "-c", f"import sys; sys.path.insert(0, {str(ROOT)!r})\n{script}"],
        capture_output=True,
        text=True,
        check=True,
        timeout=TIMEOUT_SECONDS,
    )
    loaded = {name for name in result.stdout.split() if not name.startswith("_")}
    # grpc itself loads its sister packages where they are installed.
    sisters = {"grpc_health", "grpc_reflection", "grpc_tools", "grpc_status"}
    assert loaded <= {
        "authsvc",
        "grpc",
        "google",
        "hpack",
        "typing_extensions",
        "cython_runtime",
        *sisters,
    }
