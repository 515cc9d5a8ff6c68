"""The pages that are made from the code are as the code has them, and complete."""

from __future__ import annotations

import inspect
import re
import subprocess
import sys
from http import HTTPStatus
from pathlib import Path
from types import ModuleType

import pytest

import authsvc.client
import mcp_adapter
import mcp_adapter.testing
from authsvc.cli.remedies import NOTHING_TO_MEND, REMEDIES
from authsvc.domain.errors import AuthError, Reason
from authsvc.http_auth.refusals import refusal_of
from scripts.reasons import GUIDES
from tests.support.bounds import TIMEOUT_SECONDS

ROOT = Path(__file__).parents[2]
SECONDS = TIMEOUT_SECONDS


def test_the_reference_is_fresh() -> None:
    script = ROOT / "scripts" / "reference.py"
    checked = subprocess.run(
        [sys.executable, script, "--check"],
        cwd=ROOT,
        env={"PYTHONPATH": str(ROOT), "PATH": ""},
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )
    assert (checked.returncode, checked.stderr) == (0, "")


@pytest.mark.parametrize(
    ("page", "at_least"),
    [("configuration", 50), ("rpc", 50), ("python", 30), ("reasons", 25), ("tools", 15)],
)
def test_everything_is_described(page: str, at_least: int) -> None:
    text = (ROOT / "docs" / "reference" / f"{page}.md").read_text(encoding="utf-8")
    rows = [line for line in text.splitlines() if line.startswith("| `")]
    assert len(rows) > at_least
    assert [row for row in rows if re.search(r"\|\s*\|$", row)] == []


def test_every_reason_is_explained_with_its_statuses() -> None:
    text = (ROOT / "docs" / "reference" / "reasons.md").read_text(encoding="utf-8")
    rows = [line.strip("|").split("|") for line in text.splitlines() if line.startswith("| `")]
    shown = {cells[0].strip("` "): (cells[1].strip(), cells[2].strip()) for cells in rows}
    assert shown == {reason.name: (reason.status.value, over_http(reason)) for reason in Reason}


def test_clients_and_operators_are_told_what_to_do_about_every_reason() -> None:
    assert set(GUIDES) == set(Reason)
    for reason, guide in GUIDES.items():
        assert guide.meaning, reason.name
        assert guide.client, reason.name
        assert (reason in REMEDIES) is not (reason in NOTHING_TO_MEND), reason.name
        assert REMEDIES.get(reason) or NOTHING_TO_MEND[reason], reason.name


def over_http(reason: Reason) -> str:
    """The status that a client of a session sees, and the one reason of every 404."""
    refusal = refusal_of(AuthError(reason), in_session=True, scopes=())
    status = str(refusal.status.value)
    return f"{status} `{refusal.reason}`" if refusal.status == HTTPStatus.NOT_FOUND else status


@pytest.mark.parametrize("module", [authsvc.client, mcp_adapter, mcp_adapter.testing])
def test_public_classes_stand_on_their_own(module: ModuleType) -> None:
    """A reader in an editor sees the docstring of the class, and no other."""
    for name in module.__all__:
        of = getattr(module, name)
        described = {name: of, **(vars(of) if inspect.isclass(of) else {})}
        for member, value in described.items():
            text = inspect.getdoc(value) if callable(value) else "a value"
            assert member.startswith("_") or (text and not text.startswith("See ")), member
