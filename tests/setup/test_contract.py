"""A change of the proto that would break its clients is found before it lands."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from scripts import contract, npm


@pytest.fixture(scope="module", autouse=True)
def buf() -> None:
    npm.install(contract.PROTOS)


@pytest.fixture
def protos(tmp_path: Path) -> Path:
    """A copy of the protos, to be changed."""
    copy = tmp_path / "protos"
    shutil.copytree(contract.PROTOS, copy, ignore=shutil.ignore_patterns("node_modules"))
    return copy


def edit(protos: Path, old: str, new: str) -> None:
    proto = protos / "authsvc" / "v1" / "auth.proto"
    text = proto.read_text()
    assert old in text
    proto.write_text(text.replace(old, new, 1))


def test_the_proto_keeps_its_contract(protos: Path) -> None:
    contract.check(protos)


def test_accepting_changes_nothing(protos: Path) -> None:
    contract.accept(protos)
    assert (protos / contract.CONTRACT).read_text() == (
        contract.PROTOS / contract.CONTRACT
    ).read_text()


def test_a_field_may_be_added(protos: Path) -> None:
    edit(
        protos,
        "message CreateSessionRequest {",
        "message CreateSessionRequest {\n  // Added.\n  string added = 99;\n",
    )
    contract.check(protos)


@pytest.mark.parametrize(
    ("old", "new", "finding"),
    [
        ("string session_id = 1", "string session_id = 77", "session_id"),
        ("string session_id = 1", "string session = 1", "session_id"),
        ("string session_id = 1", "bytes session_id = 1", "session_id"),
        ("  rpc RevokeSession(", "  rpc revoke_session(", "revoke_session"),
    ],
    ids=["number", "name", "type", "rpc"],
)
def test_a_breaking_change_is_found(
    protos: Path, capfd: pytest.CaptureFixture[str], old: str, new: str, finding: str
) -> None:
    edit(protos, old, new)
    with pytest.raises(subprocess.CalledProcessError):
        contract.check(protos)
    output = capfd.readouterr()
    assert finding in output.out + output.err


def test_a_message_that_clients_use_cannot_go(
    protos: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    proto = protos / "authsvc" / "v1" / "auth.proto"
    proto.write_text(proto.read_text().replace("CreateSessionRequest", "OpenSessionRequest"))
    with pytest.raises(subprocess.CalledProcessError):
        contract.check(protos)
    assert "CreateSessionRequest" in capfd.readouterr().out
