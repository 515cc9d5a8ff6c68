"""The measured figures that sizes are derived from: ``inputs.json``, which readers may replace."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, Self

MEASURED = Path(__file__).parent / "inputs.json"
"""As ``python -m bench.sizing --measure`` wrote it last."""


def _figure(text: str) -> Any:  # noqa: ANN401 - a dataclass's field
    return field(metadata={"text": text})


@dataclass(frozen=True, slots=True)
class Inputs:
    """What was measured, by field; the unit ends each name, and ``described`` says what it is."""

    adapter_micros: float = _figure("CPU of a tool call in the adapter, with gate and hop")
    authsvc_micros: float = _figure("CPU of its resolve in authsvc, from the cache")
    reauthentication_micros: float = _figure("CPU of a new RS256 token on a session (row 10)")
    lookup_micros: float = _figure("CPU of a resolve whose record is read from Valkey")
    reauthentication_round_trips: float = _figure("round trips to Valkey for a new token (row 10)")
    reauthentication_operations: float = _figure("operations of Valkey in these")
    creation_round_trips: float = _figure("round trips to Valkey for a new session (row 2)")
    creation_operations: float = _figure("operations of Valkey in these")
    lookup_operations: float = _figure("operations of Valkey for a record that is not cached")
    feed_read_micros: float = _figure("CPU of a read of the feed in a replica")
    feed_event_micros: float = _figure("CPU of an event of the feed in a replica")
    feed_event_bytes: float = _figure("bytes of an event to each replica")
    valkey_write_micros: float = _figure("CPU of a write in Valkey, made durable")
    valkey_read_micros: float = _figure("CPU of a read of the feed in Valkey, with its event")
    valkey_lookup_micros: float = _figure("CPU of a lookup in Valkey")
    valkey_session_bytes: float = _figure("memory of a session in Valkey, its indexes included")
    valkey_event_bytes: float = _figure("memory of an event of the log in Valkey")
    base_bytes: float = _figure("memory of a replica without sessions")
    session_bytes: float = _figure("memory of a cached record in a replica")
    busy_session_bytes: float = _figure("the same, with a token of 4 KB and a response of its own")

    @classmethod
    def load(cls, path: Path = MEASURED) -> Self:
        """Read a file.

        Raises:
            ValueError: it is not such a file.
        """
        known = json.loads(path.read_text(encoding="utf-8"))
        try:
            return cls(**{name: float(value) for name, value in known["figures"].items()})
        except (KeyError, TypeError) as error:
            raise ValueError(f"{path}: {error}") from None

    def save(self, path: Path, machine: dict[str, str]) -> None:
        """Write them, with where and when they were measured."""
        figures = {name: float(f"{value:.3g}") for name, value in asdict(self).items()}
        text = json.dumps({"machine": machine, "figures": figures}, indent=1)
        path.write_text(text + "\n", encoding="utf-8")

    def described(self) -> list[tuple[str, str, float]]:
        """Name, what it is, and the value."""
        return [(it.name, it.metadata["text"], getattr(self, it.name)) for it in fields(self)]
