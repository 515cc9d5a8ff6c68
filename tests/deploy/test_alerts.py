"""Each alert fires on its fault, in time, and beside it stays silent: made series, by promtool.

Each scenario is looked at with a scrape each 15 s and each 60 s, and says all the alerts that fire.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import pytest
import yaml  # type: ignore[import-untyped] # it has no stubs

from tests.support.promtool import (
    RULES,
    Line,
    Scenario,
    check,
    counter,
    gauge,
    jumps,
    restarted,
    without,
)

HOUR, DAY = 3600.0, 86400.0


def authsvc(name: str, labels: str = "", instance: str = "a") -> str:
    """The selector of a series of one replica."""
    return f'{name}{{job="authsvc",instance="{instance}"{"," if labels else ""}{labels}}}'


def adapter(name: str, labels: str = "", instance: str = "m") -> str:
    """The selector of a series of an adapter."""
    return f'{name}{{job="mcp-adapter",instance="{instance}"{"," if labels else ""}{labels}}}'


def console(name: str, labels: str = "") -> str:
    """The selector of a series of a console."""
    return f'{name}{{job="authsvc-console",instance="c"{"," if labels else ""}{labels}}}'


def envoy(name: str) -> str:
    """The selector of a series of a gateway."""
    return f'envoy_http_ext_authz_{name}{{job="envoy",instance="e"}}'


UP = gauge((1, 1))

HEALTHY: Mapping[str, Line] = {
    authsvc("up"): UP,
    authsvc("up", instance="b"): UP,
    authsvc("authsvc_ready"): UP,
    authsvc("authsvc_ready", instance="b"): UP,
    adapter("up"): UP,
    console("up"): UP,
}


def operations(instance: str, ok: Line, failed: Line, operation: str = "get") -> dict[str, Line]:
    """Operations of the store, all fast, and those that have failed."""

    def whole(now: float) -> float:
        return (ok(now) or 0.0) + (failed(now) or 0.0)

    name = "authsvc_store_operation"
    of, reason = f'operation="{operation}"', 'reason="STORE_UNAVAILABLE"'
    return {
        authsvc(f"{name}_failures_total", f"{of},{reason}", instance): failed,
        authsvc(f"{name}_duration_seconds_count", of, instance): whole,
    }


def latencies(operation: str, fast: Line, slow: Line) -> dict[str, Line]:
    """Durations of operations of the store: 1 ms at most, or 200 ms."""

    def whole(now: float) -> float:
        return (fast(now) or 0.0) + (slow(now) or 0.0)

    def bucket(bound: str) -> str:
        labels = f'operation="{operation}",le="{bound}"'
        return authsvc("authsvc_store_operation_duration_seconds_bucket", labels)

    return {
        bucket("0.001"): fast,
        bucket("0.1"): fast,
        bucket("0.25"): whole,
        bucket("+Inf"): whole,
    }


def resolves(result: str, line: Line, instance: str = "a") -> dict[str, Line]:
    return {authsvc("authsvc_resolves_total", f'result="{result}",via="stream"', instance): line}


def events(
    event: str, line: Line, caller: str = "mcp-1", reason: str = "OVERLOADED"
) -> dict[str, Line]:
    labels = f'event="{event}",reason="{reason}",caller="{caller}"'
    return {authsvc("authsvc_security_events_total", labels): line}


def credentials(result: str, line: Line, name: str = "api") -> dict[str, Line]:
    labels = f'result="{result}",name="{name}"'
    return {authsvc("authsvc_credentials_requests_total", labels): line}


def signals(result: str, line: Line, event: str = "") -> dict[str, Line]:
    labels = f'issuer="https://idp",event="{event}",result="{result}"'
    return {authsvc("authsvc_signals_total", labels): line}


def issuer(state: str, line: Line) -> dict[str, Line]:
    return {authsvc("authsvc_issuer_state", f'issuer="https://idp",state="{state}"'): line}


def stream(state: str, line: Line, instance: str = "a") -> dict[str, Line]:
    labels = f'issuer="https://idp",state="{state}"'
    return {authsvc("authsvc_signal_stream_state", labels, instance): line}


def poll(result: str, line: Line, instance: str = "a") -> dict[str, Line]:
    labels = f'issuer="https://idp",result="{result}"'
    return {authsvc("authsvc_signal_polls_total", labels, instance): line}


def requests(status: str, line: Line, instance: str = "m") -> dict[str, Line]:
    labels = f'method="tools/call",status="{status}",era="sessions"'
    return {adapter("mcp_adapter_requests_total", labels, instance): line}


STORE_OUTAGE = 610.0
"""When an outage begins that ends 135 s later: between two scrapes."""


def checks(reason: str, line: Line) -> dict[str, Line]:
    labels = f'operation="ready",reason="{reason}"'
    return {adapter("mcp_adapter_authsvc_failures_total", labels): line}


SPACE = "authsvc_store_space"


def space(kind: str, used: Line) -> dict[str, Line]:
    """What is used of 1000 bytes."""
    of = f'kind="{kind}"'
    return {
        authsvc(f"{SPACE}_used_bytes", of): used,
        authsvc(f"{SPACE}_limit_bytes", of): gauge((1, 1000)),
    }


def expiry(program: Callable[[str, str], str], prefix: str) -> Callable[..., dict[str, Line]]:
    """Makes the series of a file that ends so many seconds from the start, after such a life."""

    def series(kind: str, *, ends: float, life: float) -> dict[str, Line]:
        times = {"expire": ends, "issue": ends - life}
        return {
            program(f"{prefix}_{kind}_{name}_timestamp_seconds", 'setting="s"'): gauge((1, time))
            for name, time in times.items()
        }

    return series


BOTH = (
    ("authsvc", "AuthsvcCertificate", expiry(authsvc, "authsvc")),
    ("an adapter", "AdapterCertificate", expiry(adapter, "mcp_adapter")),
)


SCENARIOS = [
    Scenario("nothing happens", {}),
    # Targets
    Scenario(
        "a replica cannot be scraped",
        {authsvc("up"): gauge((600, 1), (1, 0))},
        {"AuthsvcDown": 780},
    ),
    Scenario(
        "one scrape fails",
        {
            authsvc("up"): gauge((600, 1), (59, 0), (1, 1)),
            authsvc("authsvc_ready"): without(UP, 600, 659),
            **resolves("created", without(counter((1800, 10)), 600, 659)),
            **poll("ok", without(counter((1800, 0.02)), 600, 659)),
        },
    ),
    Scenario(
        "a rollout: new replicas replace the old ones, and are not ready at first",
        {
            authsvc("up"): without(UP, 600, 9999),
            authsvc("authsvc_ready"): without(UP, 600, 9999),
            authsvc("up", instance="b"): without(UP, 660, 9999),
            authsvc("authsvc_ready", instance="b"): without(UP, 660, 9999),
            authsvc("up", instance="c"): without(UP, 0, 590),
            authsvc("authsvc_ready", instance="c"): without(gauge((620, 0), (1, 1)), 0, 590),
            authsvc("up", instance="d"): without(UP, 0, 650),
            authsvc("authsvc_ready", instance="d"): without(gauge((680, 0), (1, 1)), 0, 650),
        },
    ),
    Scenario(
        "all replicas are gone from discovery",
        {
            authsvc(name, instance=it): without(UP, 600, 9999)
            for name in ("up", "authsvc_ready")
            for it in ("a", "b")
        },
        {"AuthsvcAbsent": 1020},
    ),
    Scenario(
        "an adapter cannot be scraped",
        {adapter("up"): gauge((600, 1), (1, 0))},
        {"AdapterDown": 780},
    ),
    Scenario(
        "all adapters are gone from discovery",
        {adapter("up"): without(UP, 600, 9999)},
        {"AdapterAbsent": 1020},
    ),
    Scenario(
        "there has never been an adapter, nor a console",
        {adapter("up"): lambda _: None, console("up"): lambda _: None},
    ),
    Scenario(
        "the console cannot be scraped",
        {console("up"): gauge((600, 1), (1, 0))},
        {"ConsoleDown": 1020},
    ),
    Scenario(
        "the console is gone from discovery",
        {console("up"): without(UP, 600, 9999)},
        {"ConsoleDown": 1020},
    ),
    Scenario(
        "a rollout of the console: it is down, then gone, then another one is up",
        {
            console("up"): without(gauge((600, 1), (1, 0)), 660, 9999),
            console("up", 'pod="new"'): without(gauge((750, 0), (1, 1)), 0, 720),
        },
    ),
    Scenario(
        "a replica is not ready",
        {authsvc("authsvc_ready"): gauge((600, 1), (135, 0), (1, 1))},
        {"AuthsvcNotReady": 780},
    ),
    # The store
    *(
        Scenario(
            f"an outage of the store ends a load of {load} a second, with a scrape each {it} s",
            operations(
                "a",
                counter((STORE_OUTAGE, load), (135, 0), (900, load)),
                counter((STORE_OUTAGE, 0), (15, 3), (120, 0.1)),
            ),
            {"AuthsvcStoreFails": STORE_OUTAGE + seconds},
            scrapes=(it,),
        )
        for load in (20, 200)
        for it, seconds in ((15, 105), (30, 120), (60, 180))
    ),
    Scenario(
        "an outage of the store of 135 s, where nothing but the service's own tasks goes on",
        operations(
            "a",
            counter((STORE_OUTAGE, 0.1), (135, 0), (900, 0.1)),
            counter((STORE_OUTAGE, 0), (135, 0.06)),
        ),
        {"AuthsvcStoreFails": STORE_OUTAGE + 240},
        scrapes=(15, 30, 60),
    ),
    Scenario(
        "a third of the store's operations fails",
        operations("a", counter((7200, 20)), counter((STORE_OUTAGE, 0), (7200, 10))),
        {"AuthsvcStoreFails": STORE_OUTAGE + 240},
        scrapes=(15, 30, 60),
    ),
    Scenario(
        "a failover of the store of 10 s, under load",
        operations(
            "a",
            counter((STORE_OUTAGE, 50), (10, 0), (1200, 50)),
            counter((STORE_OUTAGE, 0), (10, 50)),
        ),
        scrapes=(15, 30, 60),
    ),
    Scenario(
        "a failover of the store of 15 s, where it is asked once a second, and little else goes on",
        operations(
            "a",
            counter((STORE_OUTAGE, 0.1), (15, 0), (1200, 0.1)),
            counter((STORE_OUTAGE, 0), (15, 1)),
        ),
        scrapes=(15, 30, 60),
    ),
    Scenario(
        "one operation of the store fails, where nothing else goes on",
        operations("a", counter((1, 0)), jumps((610, 1))),
    ),
    Scenario(
        "the store's disk is full for three minutes",
        {authsvc("authsvc_store_writes"): gauge((610, 1), (180, 0), (1, 1))},
        {"AuthsvcStoreNotWritable": 780},
    ),
    Scenario(
        "the store takes no writes, and is not followed: one alert for one cause",
        {
            authsvc("authsvc_store_writes"): gauge((610, 1), (180, 0), (1, 1)),
            authsvc("authsvc_ready"): gauge((605, 1), (190, 0), (1, 1)),
        },
        {"AuthsvcNotReady": 780},
    ),
    Scenario(
        "a failover: one replica's last write has failed",
        {authsvc("authsvc_store_writes"): gauge((610, 1), (20, 0), (1, 1))},
    ),
    *(
        Scenario(
            f"the {kind} of the store fills up",
            space(kind, lambda now: 800 + now / 12),
            {"AuthsvcStoreNearlyFull": 1380},
            seconds=1500,
        )
        for kind in ("disk", "memory")
    ),
    Scenario(
        "a dump needs space for some minutes",
        space("disk", gauge((600, 5e2), (240, 9e2), (1, 5e2))),
    ),
    Scenario("Valkey has no maxmemory", {authsvc(f"{SPACE}_used_bytes", 'kind="memory"'): UP}),
    Scenario(
        "Valkey cannot write its disk",
        {authsvc("authsvc_store_persistence_ok"): gauge((610, 1), (1, 0))},
        {"AuthsvcStoreNotPersistent": 1020},
    ),
    Scenario(
        "Valkey could not write its disk once, and could then",
        {authsvc("authsvc_store_persistence_ok"): gauge((610, 1), (120, 0), (1, 1))},
    ),
    *(
        Scenario(
            f"the clock of the store is {offset} s off",
            {
                authsvc("authsvc_clock_offset_seconds", 'peer="store"'): gauge(
                    (610, 0), (seconds, offset), (1, 9)
                ),
                authsvc("authsvc_clock_offset_seconds", 'peer="https://idp"'): gauge((1, -9)),
            },
            fires,
            seconds=1500,
        )
        for offset, seconds, fires in (
            (11, 1200, {"AuthsvcClockDiffers": 1320}),
            (-11, 1200, {"AuthsvcClockDiffers": 1320}),
            (11, 300, {}),
        )
    ),
    Scenario(
        "the store is slow",
        latencies("get", counter((1800, 20)), counter((600, 0), (1200, 1))),
        {"AuthsvcStoreSlow": 1500},
        seconds=1500,
    ),
    Scenario(
        "the service's own count and its pages take long",
        {
            **latencies("get", counter((1800, 20)), counter((1, 0))),
            **latencies("page", counter((1, 0)), counter((1800, 0.07))),
            **latencies("count", counter((1, 0)), counter((1800, 0.07))),
            **latencies("sweep", counter((1, 0)), counter((1800, 0.02))),
        },
        seconds=1500,
    ),
    Scenario(
        "one operation is slow, where nothing else goes on",
        latencies("get", counter((1800, 0.01)), jumps((610, 1))),
    ),
    # Keys
    Scenario(
        "an issuer has no keys",
        issuer("unavailable", gauge((600, 0), (300, 1), (1, 0))),
        {"AuthsvcIssuerUnavailable": 780},
    ),
    Scenario(
        "an issuer has no keys for a moment, at a start",
        issuer("unavailable", gauge((50, 1), (1, 0))),
    ),
    Scenario(
        "an issuer's keys are overdue",
        issuer("stale", gauge((600, 0), (1, 1))),
        {"AuthsvcKeysStale": 1020},
    ),
    Scenario(
        "the keys of assertions cannot be read",
        {authsvc("authsvc_assertion_keys_age_seconds"): gauge((600, 5), (120, 60), (1, 200))},
        {"AuthsvcAssertionKeysStale": 900},
    ),
    Scenario(
        "there have never been keys of assertions",
        {authsvc("authsvc_assertion_keys_age_seconds"): gauge((1, float("inf")))},
        {"AuthsvcAssertionKeysStale": 120},
    ),
    # Decisions
    Scenario(
        "forty subject mismatches at once, the first that there are",
        events("SUBJECT_MISMATCH", jumps((610, 40)), reason="SESSION_SUBJECT_MISMATCH"),
        {"AuthsvcSubjectMismatch": 720},
    ),
    Scenario(
        "a client mixes up two of its users now and then",
        events("SUBJECT_MISMATCH", counter((1800, 0.005)), reason="SESSION_SUBJECT_MISMATCH"),
    ),
    Scenario(
        "a caller is denied",
        events("CALLER_DENIED", counter((600, 0), (300, 0.1)), caller=""),
        {"AuthsvcCallerDenied": 900},
    ),
    Scenario(
        "a replica with many old denials restarts, and is scraped again after a gap",
        {
            **events(
                "CALLER_DENIED",
                without(restarted(counter((1, 0), start=5000), 600), 600, 720),
                caller="",
            ),
            **resolves("INTERNAL", without(restarted(counter((1, 0), start=3), 600), 600, 720)),
        },
    ),
    Scenario(
        "a caller is at its limits",
        events("LIMIT_REACHED", counter((600, 0), (120, 0.5))),
        {"AuthsvcLimitReached": 720},
    ),
    Scenario(
        "a user is at a limit",
        events("LIMIT_REACHED", counter((600, 0), (300, 1)), reason="RATE_LIMITED"),
    ),
    Scenario(
        "a fifth of all requests is beyond a limit",
        {
            authsvc("authsvc_rate_limited_total", 'limit="subject"'): counter((7200, 2)),
            **resolves("reused", counter((7200, 10))),
        },
        {"AuthsvcCallsLimited": 2700},
        seconds=3600,
        scrapes=(60,),
    ),
    Scenario(
        "one of many users is beyond a limit",
        {
            authsvc("authsvc_rate_limited_total", 'limit="subject"'): counter((7200, 0.5)),
            **resolves("reused", counter((7200, 10))),
        },
        seconds=3600,
        scrapes=(60,),
    ),
    Scenario(
        "a signing key is not known any more",
        {
            **resolves("reused", counter((7200, 8))),
            **resolves("TOKEN_KEY_UNKNOWN", without(counter((600, 0), (1800, 4)), 0, 600)),
        },
        {"AuthsvcRejections": 1500},
        seconds=1500,
    ),
    Scenario(
        "one of many clients has a token for another resource",
        {
            **resolves("reused", counter((7200, 8))),
            **resolves("TOKEN_AUDIENCE_MISMATCH", counter((7200, 1))),
        },
    ),
    Scenario(
        "at night, clients come once an hour, with a token that has expired, then with a new one",
        {
            **resolves("reused", counter((7200, 0.02))),
            **resolves("TOKEN_EXPIRED", counter((7200, 0.02))),
        },
        seconds=7200,
        scrapes=(60,),
    ),
    Scenario(
        "no client gets a new token",
        {
            **resolves("reused", counter((600, 1), (7200, 0.1))),
            **resolves("TOKEN_EXPIRED", counter((600, 0.02), (7200, 0.9))),
        },
        {"AuthsvcRejections": 1500},
        seconds=1500,
    ),
    Scenario(
        "one unexpected failure",
        resolves("INTERNAL", jumps((610, 1))),
        {"AuthsvcInternalErrors": 720},
    ),
    # Audit
    Scenario(
        "a call is not audited",
        {authsvc("authsvc_audit_calls_total", 'result="failed"'): jumps((610, 1))},
        {"AuthsvcAuditCallsLost": 720},
    ),
    Scenario(
        "a security event is not in the file",
        {
            authsvc("authsvc_audit_events_total", 'result="failed"'): jumps((610, 1)),
            authsvc("authsvc_audit_events_total", 'result="written"'): counter((1200, 1)),
        },
        {"AuthsvcAuditEventsLost": 720},
    ),
    Scenario(
        "an adapter does not audit a call",
        {adapter("mcp_adapter_audit_calls_total", 'result="dropped"'): jumps((610, 1))},
        {"AdapterAuditCallsLost": 720},
    ),
    # Credentials
    Scenario(
        "a token endpoint fails for six minutes, under load",
        {
            **credentials("ok", counter((600, 5), (360, 0), (7200, 5))),
            **credentials("CREDENTIALS_UNAVAILABLE", counter((600, 0), (360, 5))),
        },
        {"AuthsvcCredentialsFail": 1020},
    ),
    Scenario(
        "a token endpoint fails, with a request each four minutes",
        {
            **credentials("ok", jumps(*((time, 1) for time in range(60, 2400, 240)))),
            **credentials(
                "CREDENTIALS_UNAVAILABLE", jumps(*((it, 1) for it in range(2500, 7200, 240)))
            ),
        },
        {"AuthsvcCredentialsFail": 3900},
        seconds=5400,
    ),
    Scenario(
        "one request for credentials fails, where nothing else goes on",
        credentials("CREDENTIALS_UNAVAILABLE", jumps((610, 1))),
    ),
    Scenario(
        "a role's trust policy has changed",
        {
            **credentials("ok", counter((7200, 1))),
            **credentials("CREDENTIALS_REFUSED", counter((600, 0), (7200, 1))),
        },
        {"AuthsvcCredentialsRefused": 2400},
        seconds=3600,
        scrapes=(60,),
    ),
    Scenario(
        "one user of ten gets no credentials, as the token endpoint refuses them",
        {
            **credentials("ok", counter((7200, 1))),
            **credentials("CREDENTIALS_REFUSED", counter((7200, 0.1))),
        },
        seconds=3600,
        scrapes=(60,),
    ),
    Scenario(
        "a tool asks once by an unknown name",
        credentials("ARGUMENT_INVALID", jumps((610, 1)), name="unknown"),
        {"AuthsvcCredentialsUnknownName": 720},
    ),
    Scenario(
        "a claim is renamed: nobody gets credentials who did",
        {
            **credentials("ok", counter((DAY, 0.1))),
            **credentials("none", counter((DAY, 0.02), (DAY, 0.12))),
        },
        {"AuthsvcNoCredentials": DAY + 1.5 * HOUR},
        seconds=DAY + 2 * HOUR,
        scrapes=(900,),
    ),
    Scenario(
        "most have no credentials by design",
        {
            **credentials("ok", counter((2 * DAY, 0.005))),
            **credentials("none", counter((2 * DAY, 0.12))),
        },
        seconds=DAY + 2 * HOUR,
        scrapes=(900,),
    ),
    Scenario(
        "a client certificate is not renewed, and expires",
        {
            authsvc("authsvc_client_credential_expire_timestamp_seconds"): gauge((1, 3600)),
            authsvc("authsvc_client_credential_issue_timestamp_seconds"): gauge((1, -32400)),
        },
        {"AuthsvcClientCredentialExpires": 180, "AuthsvcClientCredentialExpired": 3780},
        seconds=4000,
    ),
    Scenario(
        "a client certificate of one minute of age",
        {
            authsvc("authsvc_client_credential_expire_timestamp_seconds"): gauge((1, 3600)),
            authsvc("authsvc_client_credential_issue_timestamp_seconds"): gauge((1, -60)),
        },
    ),
    *(
        Scenario(
            f"{name}: a certificate of a year is not renewed",
            of("certificate", ends=8 * DAY, life=365 * DAY),
            {f"{alert}Expires": 1800, f"{alert}ExpiresSoon": DAY + 3600},
            seconds=DAY + 7200,
            scrapes=(900,),
        )
        for name, alert, of in BOTH
    ),
    *(
        Scenario(f"{name}: {what}", of("certificate", ends=ends, life=life))
        for name, _, of in BOTH
        for what, ends, life in (
            ("a certificate of a day is a minute old", DAY - 60, DAY),
            ("a certificate of 90 days is renewed with 30 left", 29 * DAY, 90 * DAY),
            ("an authority of ten years has a quarter left", 900 * DAY, 3650 * DAY),
        )
    ),
    Scenario(
        "a console: a certificate of a year is not renewed",
        expiry(console, "authsvc_console")("certificate", ends=8 * DAY, life=365 * DAY),
        {"ConsoleCertificateExpires": 600},
    ),
    Scenario(
        "a console: a certificate of a day is a minute old",
        expiry(console, "authsvc_console")("certificate", ends=DAY - 60, life=DAY),
    ),
    *(
        Scenario(
            f"{name}: a file of certificates cannot be used",
            of("certificate", ends=0, life=0),
            {f"{alert}Expires": 600, f"{alert}ExpiresSoon": 600},
        )
        for name, alert, of in BOTH
    ),
    # Signals
    Scenario(
        "ten signals are rejected, the first that there are",
        signals("rejected", jumps((610, 10))),
        {"AuthsvcSignalsRejected": 720},
    ),
    Scenario("a scanner sends two logout tokens", signals("rejected", jumps((610, 2)))),
    Scenario(
        "a signal cannot be processed",
        signals("unavailable", jumps((610, 1))),
        {"AuthsvcSignalsUnavailable": 1080},
    ),
    Scenario(
        "a signal names nobody",
        signals("unknown_subject", jumps((610, 1)), "logout"),
        {"AuthsvcSignalsUnknownSubject": 720},
    ),
    Scenario(
        "a transmitter pauses its stream",
        {
            **stream("enabled", gauge((600, 1), (1, 0))),
            **stream("paused", gauge((600, 0), (1, 1))),
            **stream("paused", gauge((600, 0), (1, 1)), "b"),
        },
        {"AuthsvcSignalStreamStopped": 780},
    ),
    Scenario(
        "no replica polls",
        {
            authsvc("authsvc_signal_last_poll_time_seconds", 'issuer="https://idp"'): lambda now: (
                min(now, 600.0)
            ),
            **poll("ok", counter((600, 0.05))),
        },
        {"AuthsvcSignalsNotPolled": 1620, "AuthsvcSignalPollsFail": 1620},
        seconds=1800,
    ),
    Scenario(
        "one of two replicas polls",
        {
            authsvc("authsvc_signal_last_poll_time_seconds", 'issuer="https://idp"'): lambda now: (
                now
            ),
            **poll("ok", counter((600, 0.05))),
            **poll("ok", counter((1800, 0.05)), "b"),
        },
        {"AuthsvcSignalPollsFail": 1620},
        seconds=1800,
    ),
    # Gateways
    Scenario(
        "a gateway gets no answers",
        {
            envoy("ok"): counter((600, 10), (135, 0), (900, 10)),
            envoy("denied"): counter((1, 0)),
            envoy("error"): counter((600, 0), (135, 10)),
        },
        {"GatewayAuthsvcErrors": 780},
    ),
    Scenario(
        "a gateway with a request each 20 s gets no answers",
        {
            envoy("ok"): counter((600, 0.05), (135, 0), (900, 0.05)),
            envoy("denied"): counter((1, 0)),
            envoy("error"): counter((600, 0), (135, 0.05)),
        },
        {"GatewayAuthsvcErrors": 900},
    ),
    Scenario(
        "a gateway's connection breaks once, under load",
        {
            envoy("ok"): counter((1800, 100)),
            envoy("denied"): counter((1800, 1)),
            envoy("error"): jumps((610, 30)),
        },
    ),
    Scenario(
        "a gateway lets one request pass",
        {envoy("failure_mode_allowed"): jumps((610, 1))},
        {"GatewayOpen": 720},
    ),
    # Adapters
    Scenario(
        "an adapter does not reach authsvc for 135 s",
        {
            adapter("mcp_adapter_ready"): gauge((610, 1), (135, 0), (1, 1)),
            **checks("SERVICE_UNAVAILABLE", counter((610, 0), (135, 0.05))),
            **checks("CALLER_NOT_ALLOWED", counter((1, 0))),
        },
        {"AdapterNotReady": 745},
    ),
    Scenario(
        "an adapter's token is not known to authsvc any more",
        {
            adapter("mcp_adapter_ready"): gauge((610, 1), (1, 0)),
            **checks("CALLER_NOT_ALLOWED", counter((610, 0), (900, 0.06))),
        },
        {"AdapterDenied": 780},
    ),
    Scenario(
        "an adapter has the new token before the replicas have it",
        {
            adapter("mcp_adapter_ready"): gauge((610, 1), (20, 0), (1, 1)),
            **checks("CALLER_NOT_ALLOWED", jumps((612, 1), (627, 1))),
        },
    ),
    Scenario(
        "an adapter answers 503 to one request each 20 s, the only ones",
        {
            **requests("200", counter((600, 0.05))),
            **requests("503", without(counter((600, 0), (900, 0.05)), 0, 620)),
        },
        {"AdapterServerErrors": 1080},
    ),
    Scenario(
        "an adapter answers 500 to one request in a hundred",
        {**requests("200", counter((1800, 10))), **requests("500", counter((1800, 0.1)))},
    ),
    Scenario(
        "an adapter answers 503 while a replica restarts",
        {
            **requests("200", counter((600, 10), (10, 5), (1800, 10))),
            **requests("503", counter((600, 0), (10, 5))),
        },
    ),
    Scenario(
        "an adapter waits for authsvc",
        {
            adapter(
                "mcp_adapter_authsvc_duration_seconds_bucket", f'operation="resolve",le="{le}"'
            ): line
            for le, line in {
                "0.1": counter((1800, 5)),
                "0.25": counter((1800, 5)),
                "0.5": counter((600, 5), (1200, 6)),
                "+Inf": counter((600, 5), (1200, 6)),
            }.items()
        },
        {"AdapterAuthsvcSlow": 1500},
        seconds=1500,
    ),
]


@pytest.mark.parametrize("scenario", SCENARIOS, ids=str)
def test_alerts(scenario: Scenario, tmp_path: Path) -> None:
    check(replace(scenario, series={**HEALTHY, **scenario.series}), tmp_path)


def test_each_alert_fires_in_a_scenario() -> None:
    """And so does not in each other one, as a scenario says all that fire."""
    groups = yaml.safe_load(RULES.read_text())["groups"]
    alerts = {rule["alert"] for group in groups for rule in group["rules"]}
    assert alerts == {it for scenario in SCENARIOS for it in scenario.fires}
