"""Who may know whom: the arrows of the architecture, read off the imports."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.bounds import TIMEOUT_SECONDS

ROOT = Path(__file__).parents[1]

DOMAIN = {"errors", "resolution", "sessions", "revocation", "events", "status", "buckets"}
"""Modules that know nothing but each other."""

ALLOWED = {
    "errors": set(),
    "addresses": set(),
    "urls": {"addresses"},
    "arguments": {"addresses", "urls"},
    "extras": set(),
    "buckets": set(),
    "guessable": set(),
    "lru": set(),
    "newest": set(),
    "status": set(),
    "issuer_watch": {"errors", "status", "tokens"},
    "resolution": {"errors"},
    "sessions": {"errors", "resolution"},
    "revocation": {"sessions"},
    "events": {"sessions", "revocation"},
    "tokens": {*DOMAIN, "addresses", "guessable", "lru", "tokens", "urls"},
    "stores": {*DOMAIN, "lru", "newest", "stores", "urls"},
    "aws_isolation": set(),
    "credentials": {*DOMAIN, "aws_isolation", "lru", "credentials"},
    "callers": {"arguments", "errors", "guessable"},
    "certificate_names": {"errors", "callers"},
    "audit": {"errors", "resolution", "sessions"},
    "limits": {"errors", "audit"},
    "settled": {"lru", "resolution", "sessions"},
    "turns": set(),
    "resolver": {
        *DOMAIN,
        *("tokens", "stores", "credentials", "callers", "audit", "limits", "settled", "turns"),
    },
    "administration": {*DOMAIN, "stores", "audit"},
    "wire": {"errors", "resolution", "v1"},
    "admin_wire": {*DOMAIN, "printable", "wire", "v1"},
    "edge": {"errors", "callers", "certificate_names", "limits", "audit", "wire"},
    "telemetry": {
        *DOMAIN,
        "arguments",
        "channels",
        "tokens",
        "stores",
        "credentials",
        "audit",
        "settings",
        "telemetry",
    },
    "waiting": {"errors", "edge"},
    "streaming": {"errors", "callers", "edge", "wire", "v1"},
    "servicer": {
        *("errors", "resolver", "callers", "edge", "streaming", "telemetry", "waiting", "wire"),
        "v1",
    },
    "admin_servicer": {"errors", "administration", "callers", "edge", "audit", "admin_wire", "v1"},
    "storage": {"errors", "config", "settings", "stores"},
    "channels": set(),
    "probe": {"channels", "client"},
    "diagnosis": {
        *("errors", "settings", "config", "issuers", "brokers", "tokens", "stores"),
        *("client", "admin_client", "probe", "certificates", "diagnosis"),
    },
    "certificates": set(),
    "event_loop": {"settings"},
    "tls": {"certificates"},
    "printable": set(),
    "process": set(),
    "workers": {"config", "settings"},
    "client": {
        *("addresses", "arguments", "channels", "errors", "printable", "resolution", "wire", "v1"),
        "client",
    },
    "descriptors": set(),
    "http_server": {"settings", "descriptors", "http_server"},
    "console": {
        *DOMAIN,
        "newest",
        "http_server",
        "admin_client",
        "client",
        "addresses",
        "arguments",
        "urls",
        "logs",
        "printable",
        "process",
        "settings",
        "event_loop",
        "extras",
        "console",
    },
}
"""Which of authsvc's own modules each may import."""

PURE = {*DOMAIN, "addresses", "arguments", "urls", "extras", "guessable", "lru", "newest"}
"""No third party at all."""

SPEAK_GRPC = {
    "wire",
    "channels",
    "client",
    "admin_client",
    "probe",
    "edge",
    "waiting",
    "streaming",
    "servicer",
    "server",
    "tls",
    "v1",
}


def modules(package: str) -> list[Path]:
    return [path for path in sorted((ROOT / package).rglob("*.py")) if "_pb2" not in path.name]


def room(path: Path) -> str:
    """The module's place under its package: ``tokens`` for ``authsvc/tokens/jwt.py``."""
    return path.relative_to(ROOT).parts[1].removesuffix(".py")


def imports(path: Path) -> set[str]:
    """Dotted names that a file imports, functions included."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module)
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def own(path: Path) -> set[str]:
    """The rooms of authsvc that a file imports from."""
    return {name.split(".")[1] for name in imports(path) if name.startswith("authsvc.")} - {
        "__version__"
    }


def third_parties(path: Path) -> set[str]:
    roots = {name.split(".")[0] for name in imports(path)}
    return roots - sys.stdlib_module_names - {"authsvc", "mcp_adapter", "demo"}


@pytest.mark.parametrize("path", modules("authsvc"), ids=lambda path: str(path.relative_to(ROOT)))
def test_authsvc(path: Path) -> None:
    where = room(path)
    if where in ALLOWED:
        assert own(path) <= ALLOWED[where]
    if where in PURE:
        assert not third_parties(path)
    if where not in SPEAK_GRPC:
        assert not third_parties(path) & {"grpc", "google", "grpc_health", "grpc_reflection"}
    if where != "console":
        assert not third_parties(path) & {"starlette", "jinja2"}
    if where not in {"console", "http_server"}:
        assert not third_parties(path) & {"uvicorn", "httptools"}
    assert not third_parties(path) & {"mcp", "mcp_types"}
    assert not any(name.split(".")[0] in {"mcp_adapter", "demo"} for name in imports(path))


GATE = (
    *("middleware", "bearer", "refusals", "requirements", "messages", "eras", "metadata"),
    *("forwarding", "open_paths", "session_ids", "users"),
)


@pytest.mark.parametrize("name", GATE)
def test_the_gate_knows_the_vocabulary_of_authsvc_alone(name: str) -> None:
    path = ROOT / "mcp_adapter" / f"{name}.py"
    assert own(path) <= {"arguments", "errors", "extras", "resolution"}
    assert not third_parties(path) & {"grpc", "google"}


@pytest.mark.parametrize(
    "path", modules("mcp_adapter"), ids=lambda path: str(path.relative_to(ROOT))
)
def test_the_adapter_speaks_to_authsvc_through_its_client(path: Path) -> None:
    assert not third_parties(path) & {"grpc", "google"}
    assert not own(path) & {"sessions", "stores", "tokens", "resolver", "servicer", "credentials"}


def test_the_client_needs_grpc_and_protobuf_alone() -> None:
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
    assert loaded <= {"authsvc", "grpc", "google", "typing_extensions", "cython_runtime", *sisters}
