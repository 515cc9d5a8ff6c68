"""The demo's 32 buckets, and a few objects in each."""

from __future__ import annotations

import json

TEAMS = ("atlas", "beacon", "cedar", "delta", "ember", "fjord", "grove", "harbor")
KINDS = ("raw", "curated", "models", "reports")

BUCKETS = tuple(f"{team}-{kind}" for team in TEAMS for kind in KINDS)


def objects(bucket: str) -> dict[str, bytes]:
    """Bodies by key, the same at every start."""
    team, _, kind = bucket.partition("-")
    days = {
        f"2026/11/{day:02}/{kind}.csv": f"day,team,value\n2026-11-{day:02},{team},{day * 7}\n"
        for day in range(1, 6)
    }
    about = json.dumps({"team": team, "kind": kind, "owner": f"{team}@example.com"}, indent=2)
    bodies = {"README.md": f"# {bucket}\n\nThe {kind} data of team {team}.\n", **days}
    bodies["about.json"] = about + "\n"
    return {key: body.encode() for key, body in bodies.items()}
