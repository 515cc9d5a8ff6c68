"""Calls are audited as the setting says, with declared arguments alone."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from authsvc.audit.calls import (
    CUT,
    MAX_ARGUMENTS,
    MAX_VALUE_CHARACTERS,
    CallAudit,
    CallEvent,
    CallOutcome,
    CallsAudited,
    declared_arguments,
)


@dataclass(frozen=True)
class Someone:
    subject: str
    issuer: str = ""
    client_id: str = ""


@pytest.mark.parametrize(("calls", "wanted"), [("off", 0), ("full", 1000)])
def test_none_or_all_are_audited(calls: CallsAudited, wanted: int) -> None:
    audit = CallAudit(calls)
    assert sum(audit.wants() for _ in range(1000)) == wanted


def test_a_ratio_is_audited() -> None:
    audit = CallAudit("sampled", sample_ratio=0.5)
    assert 300 < sum(audit.wants() for _ in range(1000)) < 700


def test_a_call_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    audit = CallAudit()
    audit.record(
        CallEvent(
            "tools/call",
            CallOutcome.SUCCEEDED,
            tool="list_objects",
            subject="alice",
            actors=(Someone("agent", client_id="c1"),),
            arguments={"bucket": "b1"},
        )
    )
    (line,) = [vars(record) for record in caplog.records if record.name == "authsvc.calls"]
    assert (line["event_type"], line["tool"], line["subject"]) == ("CALL", "list_objects", "alice")
    assert line["actors"] == [{"subject": "agent", "issuer": "", "client_id": "c1"}]
    assert line["arguments"] == {"bucket": "b1"}
    assert audit.counts["written"] == 1


def test_declared_arguments_alone_and_bounded() -> None:
    sent = {"bucket": "b" * 1000, "secret": "s3cr3t", "keys": ["k"] * 100_000, "count": 7}
    found = declared_arguments(sent, ["bucket", "keys", "count", "missing"])
    assert list(found) == ["bucket", "keys", "count"]
    assert found["count"] == "7"
    assert all(len(value) <= MAX_VALUE_CHARACTERS for value in found.values())
    assert found["bucket"].endswith(CUT)
    assert found["keys"].endswith(CUT)


def test_at_most_so_many_arguments() -> None:
    names = [f"n{number}" for number in range(100)]
    assert len(declared_arguments(dict.fromkeys(names, 1), names)) == MAX_ARGUMENTS
