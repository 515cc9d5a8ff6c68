"""What the suite says is read as it is meant."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from conformance import suite
from conformance.suite import Scenario, SuiteError, Verdict
from scripts import npm

pytestmark = pytest.mark.anyio

PRINTED = """\
Running requirements 2026-07-28 (3 scenarios) against http://127.0.0.1:1/mcp

=== Running scenario: first-one ===
=== Running scenario: second ===
=== Running scenario: third ===

=== SUMMARY ===
✓ first-one: 1 passed, 0 failed
Not scored for 2026-07-28: 1 scenario(s) run, 1 failing. These do not affect conformance.
  ✗ second (extension)
"""

STAMP = "2026-11-23T21-24-49-753Z"


def check(status: str, check_id: str = "a", message: str | None = None) -> dict[str, object]:
    return {"id": check_id, "status": status, "errorMessage": message}


@pytest.mark.parametrize(
    ("statuses", "verdict"),
    [
        (["SUCCESS"], Verdict.PASSES),
        (["SUCCESS", "INFO", "SKIPPED"], Verdict.PASSES),
        (["SUCCESS", "WARNING"], Verdict.WARNS),
        (["SUCCESS", "WARNING", "FAILURE"], Verdict.FAILS),
        (["SKIPPED", "INFO"], Verdict.NOT_RUN),
        ([], Verdict.FAILS),
    ],
)
def test_the_worst_check_counts(statuses: list[str], verdict: Verdict) -> None:
    scenario = Scenario.of("name", "", map(check, statuses))

    assert scenario.verdict is verdict
    assert scenario.passed == statuses.count("SUCCESS")


def test_complaints_are_told_once() -> None:
    checks = [check("FAILURE", "a", "no")] * 2 + [check("WARNING", "b", "hm"), check("INFO", "c")]

    assert Scenario.of("name", "", checks).complaints == ("a: no", "b: hm")


def stand_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    """Put a shell script in Node's place: its last argument is the folder for results."""
    results = {"first-one": [check("SUCCESS")], "second": [check("FAILURE", "b", "no")]}
    script = [
        "#!/bin/sh",
        'for last; do :; done; test "$2" = server || exit 1',
        *(
            f"mkdir \"$last/server-{name}-{STAMP}\"; printf '%s' '{json.dumps(checks)}' "
            f'> "$last/server-{name}-{STAMP}/checks.json"'
            for name, checks in results.items()
        ),
        f"cat <<'END'\n{text}\nEND",
    ]
    node = tmp_path / "node"
    node.write_text("\n".join(script))
    node.chmod(0o700)
    monkeypatch.setattr(npm, "NODE", node)


async def test_scenarios_come_in_order_with_what_was_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stand_in(tmp_path, monkeypatch, PRINTED)

    scenarios = await suite.run("http://127.0.0.1:1/mcp", "2026-07-28")

    assert scenarios == [
        Scenario("first-one", "", Verdict.PASSES, 1),
        Scenario("second", "extension", Verdict.FAILS, 0, ("b: no",)),
        Scenario("third", "", Verdict.FAILS, 0),
    ]


async def test_a_suite_that_breaks_off_has_found_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stand_in(tmp_path, monkeypatch, PRINTED.partition("=== SUMMARY")[0] + "TypeError: broke")

    with pytest.raises(SuiteError, match="TypeError: broke"):
        await suite.run("http://127.0.0.1:1/mcp", "2026-07-28")


def test_the_version_is_the_pinned_one() -> None:
    package = json.loads((Path(suite.__file__).parent / "package.json").read_text())

    assert package["dependencies"] == {"@modelcontextprotocol/conformance": suite.version()}


def test_no_registry_is_named() -> None:
    lock = (Path(suite.__file__).parent / "package-lock.json").read_text()

    assert '"resolved"' not in lock
