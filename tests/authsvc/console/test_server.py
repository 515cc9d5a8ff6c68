"""The console as a program."""

from __future__ import annotations

import signal
from pathlib import Path

import httpx2

from tests.support.bounds import TIMEOUT_SECONDS
from tests.support.operators import write_tls
from tests.support.processes import spawn

START_SECONDS = TIMEOUT_SECONDS


def test_it_serves_until_sigterm(tmp_path: Path, operators_file: Path) -> None:
    tls = write_tls(tmp_path / "tls")
    config = tmp_path / "console.toml"
    config.write_text(
        f"""
listen = "127.0.0.1:0"
operators_file = "{operators_file}"
[authsvc]
target = "127.0.0.1:1"  # nothing listens there: the console starts all the same
ca_file = "{tls}/ca.pem"
service_token_file = "{tls}/operator"
"""
    )
    with spawn("authsvc.console", "serve", "--config", str(config)) as process:
        url = process.wait_for("listening on", START_SECONDS)["address"]
        assert "Passphrase" in httpx2.get(f"{url}/sign-in", timeout=START_SECONDS).text
        process.wait_for("authsvc.ca_file: ", START_SECONDS)  # and when it expires
        process.kill(signal.SIGTERM)
        assert process.wait(START_SECONDS) == 0


def test_a_setting_that_is_missing_is_named(tmp_path: Path) -> None:
    config = tmp_path / "console.toml"
    config.write_text("")
    with spawn("authsvc.console", "serve", "--config", str(config)) as process:
        assert process.wait(START_SECONDS) == 2
        assert "operators_file: is required" in process.output
        assert "authsvc: is required" in process.output
