"""The demo's files and their content."""

from __future__ import annotations

import json
import secrets
from dataclasses import dataclass
from pathlib import Path

from demo.buckets import BUCKETS

ISSUER = "https://idp.demo.example"
SCOPES = ("buckets.read", "objects.read")
PERMISSIONS = ("s3:ListBucket", "s3:GetObject", "s3:GetBucketLocation")
ROLES = ("reader", "analyst")


@dataclass(frozen=True, slots=True)
class Layout:
    """The demo's folder and ports."""

    folder: Path
    authsvc_port: int
    adapter_port: int
    s3_port: int
    metrics_port: int

    @property
    def resource(self) -> str:
        """The canonical URI of the adapter's endpoint."""
        return f"http://127.0.0.1:{self.adapter_port}/mcp"

    @property
    def authsvc_config(self) -> Path:
        """authsvc's configuration."""
        return self.folder / "authsvc.toml"

    @property
    def adapter_config(self) -> Path:
        """The adapter's configuration."""
        return self.folder / "adapter.toml"

    @property
    def token(self) -> Path:
        """A valid token, to paste."""
        return self.folder / "token"

    def log(self, name: str) -> Path:
        """The log of one of the processes."""
        return self.folder / f"{name}.log"

    def write(self) -> None:
        """Write configuration and keys. Existing keys are kept, so that old tokens stay valid."""
        self.folder.mkdir(parents=True, exist_ok=True)
        self._write_secret("secret")
        self._write_secret("aws.key")
        self.authsvc_config.write_text(self._authsvc_toml(), encoding="utf-8")
        self.adapter_config.write_text(self._adapter_toml(), encoding="utf-8")

    def _write_secret(self, name: str) -> None:
        path = self.folder / name
        if not path.exists():
            path.touch(mode=0o600)
            path.write_text(secrets.token_hex(32) + "\n", encoding="ascii")

    def _authsvc_toml(self) -> str:
        roles = "".join(
            f"""
[[credentials.sts.roles]]
issuer = "{ISSUER}"
role = "{role}"
arn = "arn:aws:iam::123456789012:role/demo-{role}"
"""
            for role in ROLES
        )
        return f"""\
# Written by the demo at each start.
listen = "127.0.0.1:{self.authsvc_port}"
resources = ["{self.resource}"]
local_operators = true
log_level = "debug"

[metrics]
listen = "127.0.0.1:{self.metrics_port}"

[store]
path = {_quoted(self.folder / "authsvc.db")}

[[issuers]]
issuer = "{ISSUER}"
algorithms = ["HS256"]
secret_file = {_quoted(self.folder / "secret")}

[[credentials.sts]]
region = "us-east-1"
endpoint_url = "http://127.0.0.1:{self.s3_port}"
access_key_id = "DEMO"
secret_access_key_file = {_quoted(self.folder / "aws.key")}
{roles}
# What `authsvc token` puts into a token when a flag is absent.
[development]
issuer = "{ISSUER}"
audience = "{self.resource}"
roles = ["reader"]
scopes = {json.dumps(SCOPES)}
permissions = {json.dumps(PERMISSIONS)}
buckets = {json.dumps(BUCKETS)}
"""

    def _adapter_toml(self) -> str:
        return f"""\
# Written by the demo at each start.
listen = "127.0.0.1:{self.adapter_port}"
resource = "{self.resource}"
authorization_servers = ["{ISSUER}"]

[authsvc]
target = "127.0.0.1:{self.authsvc_port}"

[s3]
endpoint_url = "http://127.0.0.1:{self.s3_port}"
region = "us-east-1"
"""


def _quoted(path: Path) -> str:
    return json.dumps(str(path))
