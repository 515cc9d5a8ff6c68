"""The files of an installation: secrets by deploy/make_secrets.py, and the configurations."""

from __future__ import annotations

import asyncio
import json
import secrets
import sys
from asyncio.subprocess import DEVNULL
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from chaos.identity import ISSUER, RESOURCE, Issuer
from chaos.program import ProgramError
from chaos.valkey import free_port

ROOT = Path(__file__).parents[1]
SCRIPT_SECONDS = 120.0

CONNECTION_SECONDS = 2
"""Age of a connection to a replica: each step of a rotation has to meet new connections."""


@dataclass
class Installation:
    """What all programs of a stage share.

    Attributes:
        folder: where its files are.
        issuer: whose tokens are trusted.
        store: the lines of the table ``[store]``.
        port: of each replica, which has an address of its own.
        metrics_port: likewise.
        callers: by name, the resources of each MCP server; its token is ``NAME-token``, of which
            authsvc has the digest.
        previous_secrets: names of the files in ``previous_secret_files``.
        tokens: by name of a caller, the files of its tokens, if not ``NAME-token.sha256`` alone.
    """

    folder: Path
    issuer: Issuer = field(default_factory=Issuer)
    store: str = ""
    port: int = field(default_factory=free_port)
    metrics_port: int = field(default_factory=free_port)
    callers: dict[str, list[str]] = field(default_factory=lambda: {"adapter": [RESOURCE]})
    previous_secrets: list[str] = field(default_factory=lambda: ["issuer.previous"])
    tokens: dict[str, list[str]] = field(default_factory=dict)

    @property
    def secrets(self) -> Path:
        """The folder of certificates, passwords and tokens."""
        return self.folder / "secrets"

    def mounted(self, program: str) -> Path:
        """The folder in which a program sees the secrets: its own copy, as in a container."""
        return self.folder / "mounts" / program

    @property
    def names(self) -> Path:
        """The file with the addresses of the replicas that serve."""
        return self.folder / "authsvc.addresses"

    @property
    def target(self) -> str:
        """Of the adapters."""
        return f"dns:///authsvc:{self.port}"

    @property
    def admin_config(self) -> Path:
        """The operator's configuration."""
        return self.folder / "admin.toml"

    async def prepare(self) -> None:
        """Write secrets, and the operator's configuration."""
        self.folder.mkdir(parents=True, exist_ok=True)
        await self.make_secrets(self.secrets)
        self.issuer.write_secret(self.secrets / "issuer.secret")
        # Of the rotation before: its tokens have expired.
        write_secret(self.secrets / "issuer.previous")
        self.mount("operator")
        self.admin_config.write_text(
            f'target = "localhost:{self.port}"\n'
            f'ca_file = "{self.mounted("operator")}/ca.crt"\n'
            f'service_token_file = "{self.mounted("operator")}/operator-token"\n',
            encoding="utf-8",
        )

    @staticmethod
    async def make_secrets(folder: Path) -> None:
        """Make what is missing or empty in a folder, as docs/deploy.md says."""
        process = await asyncio.create_subprocess_exec(
            sys.executable, "deploy/make_secrets.py", str(folder), cwd=ROOT, stdout=DEVNULL
        )
        async with asyncio.timeout(SCRIPT_SECONDS):
            if await process.wait():
                raise ProgramError("deploy/make_secrets.py has failed")

    def mount(self, program: str) -> None:
        """Bring the secrets, as they are now, to a program.

        Each file is replaced in one step, and only if it has changed.
        """
        here = self.mounted(program)
        here.mkdir(parents=True, exist_ok=True)
        for path in self.secrets.iterdir():
            is_token = "-token" in path.name and path.suffix != ".sha256"
            if is_token and program.startswith("authsvc"):
                continue
            replace_file(here / path.name, path.read_bytes())

    def serve_at(self, addresses: Iterable[str]) -> None:
        """Have the name of authsvc stand for these addresses."""
        replace_file(self.names, "\n".join(addresses).encode())

    def authsvc_toml(self, name: str, address: str) -> str:
        """The configuration of the replica at an address."""
        folder, here = self.folder, self.mounted(name)
        previous = json.dumps([f"{here}/{file}" for file in self.previous_secrets])
        return f"""
listen = "{address}:{self.port}"
log_format = "json"
audit_file = "{folder}/{name}.events.jsonl"
drain_seconds = 1
grace_seconds = 5
max_connection_age_seconds = {CONNECTION_SECONDS}

[tls]
certificate_file = "{here}/authsvc.crt"
key_file = "{here}/authsvc.key"

[metrics]
listen = "{address}:{self.metrics_port}"

[store]
{self.store}

[[callers]]
name = "operator"
admin = true
service_token_files = ["{here}/operator-token.sha256"]

[[issuers]]
issuer = "{ISSUER}"
algorithms = ["HS256"]
secret_file = "{here}/issuer.secret"
previous_secret_files = {previous}
{"".join(self._caller(caller, here) for caller in self.callers)}"""

    def adapter_toml(self, name: str, address: str, caller: str = "adapter") -> str:
        """The configuration of an adapter, which serves the first resource of its caller."""
        here = self.mounted(name)
        return f"""
listen = "{address}"
resource = "{self.callers[caller][0]}"
authorization_servers = ["{ISSUER}"]
log_format = "json"
grace_seconds = 5

[authsvc]
target = "{self.target}"
ca_file = "{here}/ca.crt"
service_token_file = "{here}/{caller}-token"

[metrics]
listen = "{address.rpartition(":")[0]}:{self.metrics_port + 1}"
"""

    def _caller(self, name: str, here: Path) -> str:
        files = [f"{here}/{file}" for file in self.tokens.get(name, [f"{name}-token.sha256"])]
        return f"""
[[callers]]
name = "{name}"
resources = {json.dumps(self.callers[name])}
service_token_files = {json.dumps(files)}
"""


def write_secret(path: Path) -> None:
    """A new secret or service token, as of ``openssl rand -hex 32``."""
    replace_file(path, f"{secrets.token_hex(32)}\n".encode())


def replace_file(path: Path, content: bytes) -> None:
    """Replace a file in one step, if its content differs; for its owner alone."""
    if path.exists() and path.read_bytes() == content:
        return
    new = path.with_name(f".{path.name}.new")
    new.touch(mode=0o600)
    new.write_bytes(content)
    new.replace(path)
