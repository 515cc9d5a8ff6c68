"""The formulas of docs/sizing.md, each a line or two. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import ceil

from bench.sizing.inputs import Inputs

GB = 1e9
MICROS = 1e6

LEAST_REPLICAS = 2
"""So that one may fail."""

FEED_PART = 0.5
"""Of what a replica may use of its core. A larger fleet is split into installations."""

VALKEY_PART = 0.6
"""Of the one core on which Valkey serves commands."""

CACHED_SESSIONS = 100_000
"""The default of ``[store] cached_sessions``."""

CACHED_TOKENS = 16_384
"""The default of ``cached_tokens``."""


@dataclass(frozen=True, slots=True)
class Assumptions:
    """What an operator knows or guesses about the users. The defaults are those of the page.

    Attributes:
        calls_a_minute: tool calls of a user, on an average over all users and the day.
        peak_factor: how much more there is in the busiest minutes.
        active: which share of the users has a session that is in use.
        sessions_a_user: of an active one.
        sessions_kept: of each user, in the store: those that were left are kept while idle.
        token_seconds: after which an active session has a new token.
        tool_micros: CPU of a tool itself.
        utilisation: of each core, at the peak.
        touch_seconds: how often a session's last use is written: a hundredth of the idle limit.
        replica_cores: cores of a replica of authsvc that its event loop can use.
        events_kept: in the log.
    """

    calls_a_minute: float = 0.1
    peak_factor: float = 3.0
    active: float = 0.2
    sessions_a_user: float = 1.5
    sessions_kept: float = 2.0
    token_seconds: float = 3_600.0
    tool_micros: float = 0.0
    utilisation: float = 0.6
    touch_seconds: float = 864.0
    replica_cores: float = 1.0
    events_kept: float = 100_000.0


@dataclass(frozen=True, slots=True)
class Size:
    """What so many users take at the peak. Installations share nothing, and the users evenly.

    Attributes:
        calls: tool calls a second, of all installations.
        reauthentications: new tokens a second, of all.
        adapter_cores: cores for the adapter, tools included, of all.
        installations: each a Valkey with its replicas.
        feed_share: of a core of each replica, for the feed.
        replicas: of authsvc in each installation, a core each.
        replica_bytes: memory of each replica.
        valkey_cores: CPU of each Valkey; it serves commands on one.
        valkey_bytes: memory of each, a third for its own overhead included.
        feed_bytes: a second, from each Valkey to its replicas.
    """

    calls: float
    reauthentications: float
    adapter_cores: int
    installations: int
    feed_share: float
    replicas: int
    replica_bytes: float
    valkey_cores: float
    valkey_bytes: float
    feed_bytes: float


def calls_a_core(micros: float, utilisation: float = 1.0) -> float:
    """How many calls of so much CPU a core serves in a second."""
    return utilisation * MICROS / micros


def sessions_a_gb(session_bytes: float) -> float:
    """How many sessions go into a GB."""
    return GB / session_bytes


def feed_share(inputs: Inputs, writes: float) -> float:
    """The share of a core that each replica spends on the feed, however many there are.

    At worst each event comes by a read of its own. A replica that is busy reads several at once, so
    this is what it costs where there is room, and an upper bound.
    """
    return writes * (inputs.feed_read_micros + inputs.feed_event_micros) / MICROS


def rates(assumptions: Assumptions, users: float) -> tuple[float, float]:
    """Tool calls and new tokens a second, at the peak."""
    it = assumptions
    sessions = users * it.active * it.sessions_a_user
    return (
        it.peak_factor * users * it.calls_a_minute / 60,
        it.peak_factor * sessions / it.token_seconds,
    )


def touch_rate(assumptions: Assumptions, users: float) -> float:
    """Writes of the last use a second, which have no event: no more of them than calls."""
    it = assumptions
    calls, _ = rates(it, users)
    return min(users * it.active * it.sessions_a_user / it.touch_seconds, calls)


def lookup_rate(calls: float, writes: float, replicas: int) -> float:
    """Lookups a second: after each new token, every other replica that is asked about the session
    reads the record once. There are no more of them than calls."""
    return min(writes * (replicas - 1), calls)


def size(inputs: Inputs, assumptions: Assumptions, users: float) -> Size:
    """What so many users take, in the fewest installations in which neither the feed takes more
    than its part of a replica's core, nor Valkey more than its part of one."""
    number = 1
    while not (found := _size(inputs, assumptions, users, number)) or (
        found.valkey_cores > VALKEY_PART
    ):
        number += 1
    return found


def _size(inputs: Inputs, it: Assumptions, users: float, number: int) -> Size | None:
    """The same in so many installations; None where the feed takes too much."""
    all_calls, all_writes = rates(it, users)
    calls, writes = all_calls / number, all_writes / number
    share = feed_share(inputs, writes)
    if share > FEED_PART * it.utilisation * it.replica_cores:
        return None
    touches = touch_rate(it, users) / number
    replicas = _replicas(inputs, it, calls, writes, touches)
    valkey = (
        (writes + touches) * inputs.valkey_write_micros
        + writes * replicas * inputs.valkey_read_micros
        + lookup_rate(calls, writes, replicas) * inputs.valkey_lookup_micros
    )
    adapter = all_calls * (inputs.adapter_micros + it.tool_micros) / MICROS
    stored = users / number * it.sessions_kept * inputs.valkey_session_bytes
    return Size(
        calls=all_calls,
        reauthentications=all_writes,
        adapter_cores=max(LEAST_REPLICAS, ceil(adapter / it.utilisation)),
        installations=number,
        feed_share=share,
        replicas=replicas,
        replica_bytes=replica_bytes(inputs, users / number * it.active * it.sessions_a_user),
        valkey_cores=valkey / MICROS,
        valkey_bytes=4 / 3 * (stored + it.events_kept * inputs.valkey_event_bytes),
        feed_bytes=writes * replicas * inputs.feed_event_bytes,
    )


def replica_bytes(inputs: Inputs, sessions: float) -> float:
    """Memory of a replica that is asked about so many sessions, with the default sizes of caches:
    records, and fewer tokens and responses."""
    cached = min(sessions, CACHED_SESSIONS)
    busy = min(sessions, CACHED_TOKENS)
    return (
        inputs.base_bytes
        + (cached - busy) * inputs.session_bytes
        + busy * inputs.busy_session_bytes
    )


def _replicas(inputs: Inputs, it: Assumptions, calls: float, writes: float, touches: float) -> int:
    """The fewest replicas, two at least, whose cores have room for their part of the calls, new
    tokens and lookups, and for all of the feed."""
    work = calls * inputs.authsvc_micros + writes * inputs.reauthentication_micros
    room = it.utilisation * it.replica_cores - feed_share(inputs, writes)
    replicas = LEAST_REPLICAS
    while True:
        round_trips = lookup_rate(calls, writes, replicas) + touches
        lookups = round_trips * inputs.lookup_micros
        if (work + lookups) / MICROS / replicas <= room:
            return replicas
        replicas += 1


def feed_limit(inputs: Inputs, assumptions: Assumptions) -> float:
    """Writes a second at which the feed takes all that a replica may use."""
    return (
        assumptions.utilisation
        * assumptions.replica_cores
        * MICROS
        / (inputs.feed_read_micros + inputs.feed_event_micros)
    )


def valkey_replicas(inputs: Inputs, writes: float) -> float:
    """How many replicas one Valkey feeds at so many writes a second; lookups come on top."""
    room = VALKEY_PART * MICROS - writes * inputs.valkey_write_micros
    return max(0.0, room / (writes * inputs.valkey_read_micros))


def derived(inputs: Inputs, assumptions: Assumptions) -> Mapping[str, str]:
    """The page's single figures, by what they are."""
    it, calls = assumptions, assumptions.calls_a_minute / 60
    tokens = it.active * it.sessions_a_user / it.token_seconds
    return {
        "tool calls a second and core, adapter": f"{calls_a_core(inputs.adapter_micros):,.0f}",
        "resolves a second and core, authsvc": f"{calls_a_core(inputs.authsvc_micros):,.0f}",
        "new tokens a second and core, authsvc": (
            f"{calls_a_core(inputs.reauthentication_micros):,.0f}"
        ),
        "sessions a GB, cached in a replica": f"{sessions_a_gb(inputs.session_bytes):,.0f}",
        "sessions a GB, with token and response": (
            f"{sessions_a_gb(inputs.busy_session_bytes):,.0f}"
        ),
        "sessions a GB of Valkey": f"{sessions_a_gb(inputs.valkey_session_bytes):,.0f}",
        "writes a second at which the feed is all that a replica does": (
            f"{feed_limit(inputs, it):,.0f}"
        ),
        "replicas that one Valkey feeds at 500 writes a second": (
            f"{valkey_replicas(inputs, 500.0):,.0f}"
        ),
        "replicas from which the feed costs more than the requests": (
            f"{costliest_replicas(inputs, calls / tokens):,.0f}"
        ),
    }


def costliest_replicas(inputs: Inputs, calls_a_token: float) -> float:
    """At how many replicas the feed costs all of them together what the requests do, whatever the
    rate: each event is read by every replica, and each call is served by one."""
    work = calls_a_token * inputs.authsvc_micros + inputs.reauthentication_micros
    return work / (inputs.feed_read_micros + inputs.feed_event_micros)


def table(
    inputs: Inputs, assumptions: Assumptions, users: Sequence[int]
) -> Mapping[str, list[str]]:
    """The page's table: a row for each quantity, a column for each number of users."""
    sizes = [size(inputs, assumptions, number) for number in users]
    return {
        "tool calls a second, at the peak": [_rate(it.calls) for it in sizes],
        "new tokens a second": [_rate(it.reauthentications) for it in sizes],
        "adapter: cores": [f"{it.adapter_cores:,}" for it in sizes],
        "installations of authsvc and Valkey": [f"{it.installations:,}" for it in sizes],
        "in each: replicas of a core": [f"{it.replicas:,}" for it in sizes],
        "a replica: of its core, for the feed": [f"{it.feed_share:.1%}" for it in sizes],
        "a replica: memory": [f"{it.replica_bytes / 1e6:,.0f} MB" for it in sizes],
        "Valkey: of its core": [f"{it.valkey_cores:.1%}" for it in sizes],
        "Valkey: memory": [f"{it.valkey_bytes / 1e6:,.0f} MB" for it in sizes],
        "Valkey: feed to its replicas": [f"{it.feed_bytes / 1e6:,.2f} MB/s" for it in sizes],
    }


def _rate(value: float) -> str:
    return f"{value:,.0f}" if value >= 10 else f"{value:.2f}"
