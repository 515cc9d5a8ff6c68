"""Any tables that start, any principal, any name: an independent reading of the page is right."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain, combinations, product
from pathlib import Path
from typing import Any

import anyio
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from authsvc.credentials.cache import CacheCounts
from authsvc.credentials.exchange import ExchangeBroker
from authsvc.credentials.exchange.profile import Exchanged
from authsvc.credentials.routing import CredentialRouter
from authsvc.domain.credential_requests import CredentialRequest
from authsvc.domain.errors import AuthError
from authsvc.domain.resolution import BearerCredentials, Principal, Secret
from authsvc.server.config.credential_routes import routed_tables, tables_for
from authsvc.server.config.credentials import CredentialSettings
from authsvc.server.config.references import credential_faults
from tests.authsvc.credentials.test_routing import Recording
from tests.support.clock import START

ISSUERS = ("https://a.example", "https://b.example")
RESOURCES = ("https://mcp.example/1", "https://mcp.example/2")
ROLES = ("dev", "ops")
SCOPES = ("read", "write")
NAMES = ("", "api")
SECRET = Path("/run/secrets/x")

Table = dict[str, Any]


def some(values: tuple[str, ...]) -> st.SearchStrategy[list[str]]:
    return st.lists(st.sampled_from(values), min_size=1, max_size=2, unique=True)


conditions = st.fixed_dictionaries(
    {"name": st.sampled_from(NAMES)},
    optional={
        "resources": some(RESOURCES),
        "for_issuers": some(ISSUERS),
        "for_roles": some(ROLES),
        "for_scopes": some(SCOPES),
    },
).filter(lambda it: not it["name"] or "resources" in it)

OF_KIND: dict[str, st.SearchStrategy[Table]] = {
    "static": st.fixed_dictionaries(
        {
            "role": st.sampled_from(ROLES),
            "access_key_id": st.just("AKIA"),
            "secret_access_key_file": st.just(SECRET),
        }
    ),
    "sts": st.just(
        {
            "region": "eu-west-1",
            "ambient": True,
            "roles": [
                {"issuer": issuer, "arn": "arn:aws:iam::123456789012:role/r"} for issuer in ISSUERS
            ],
        }
    ),
    "exchange": st.just(
        {
            "issuers": [*ISSUERS],
            "endpoint": "https://idp.example/token",
            "client_id": "authsvc",
            "client_secret_file": SECRET,
        }
    ),
}


def tables_of(kind: str) -> st.SearchStrategy[list[Table]]:
    return st.lists(st.builds(lambda a, b: {**a, **b}, OF_KIND[kind], conditions), max_size=3)


configurations = st.fixed_dictionaries({}, optional={it: tables_of(it) for it in OF_KIND})


def subsets(values: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
    return chain.from_iterable(combinations(values, n) for n in range(len(values) + 1))


PRINCIPALS = [
    Principal(issuer, "alice", START + 600, roles=roles, scopes=scopes)
    for issuer, roles, scopes in product(ISSUERS, subsets(ROLES), subsets(SCOPES))
]


def is_for(table: Table, who: Principal) -> bool:
    """Whether a table's own conditions hold: what docs/credentials.md says, and no code of ours."""
    if "role" in table and table["role"] not in who.roles:
        return False
    if "for_issuers" in table and who.issuer not in table["for_issuers"]:
        return False
    if "for_roles" in table and not any(role in who.roles for role in table["for_roles"]):
        return False
    return all(scope in who.scopes for scope in table.get("for_scopes", []))


def in_order(configuration: dict[str, list[Table]], name: str, resource: str) -> list[str]:
    """The tables for a name and a resource, by kind and position, the first one first."""
    of_name = [
        (f"credentials.{kind}[{position}]", table)
        for kind in ("static", "sts", "exchange")
        for position, table in enumerate(configuration.get(kind, []))
        if table["name"] == name
    ]
    return [
        *(label for label, table in of_name if resource in table.get("resources", [])),
        *(label for label, table in of_name if "resources" not in table),
    ]


def by_label(configuration: dict[str, list[Table]]) -> dict[str, Table]:
    return {
        f"credentials.{kind}[{position}]": table
        for kind, tables in configuration.items()
        for position, table in enumerate(tables)
    }


def faults_of(configuration: dict[str, list[Table]]) -> list[tuple[str, str]]:
    """Where, and what."""
    found = credential_faults(
        CredentialSettings.model_validate(configuration), {*RESOURCES}, {*ISSUERS}
    )
    return [(f"{it.at[0]}.{it.at[1]}[{it.at[2]}]", it.message) for it in found]


def expected(
    configuration: dict[str, list[Table]], name: str, resource: str, who: Principal
) -> str | None:
    tables = by_label(configuration)
    order = in_order(configuration, name, resource)
    return next((label for label in order if is_for(tables[label], who)), None)


@settings(max_examples=300)
@given(configurations)
def test_the_route_is_the_one_of_the_page(configuration: dict[str, list[Table]]) -> None:
    if faults_of(configuration):
        return
    brokers: dict[str, Recording] = {}
    routes = []
    for it in routed_tables(CredentialSettings.model_validate(configuration)):
        brokers[it.label] = Recording(it.label)
        routes.append(it.route(brokers[it.label]))
    router = CredentialRouter(routes)

    credentials = CredentialSettings.model_validate(configuration)

    async def issued(name: str, resource: str, who: Principal) -> str | None:
        got = await router.issue(
            who,
            token=Secret("t"),
            resource=resource,
            now=START,
            wanted=CredentialRequest(name),
        )
        assert isinstance(got, BearerCredentials | None)
        return None if got is None else got.access_token.reveal()

    async def check() -> None:
        for name, resource, who in product(NAMES, RESOURCES, PRINCIPALS):
            before = sum(len(it.asked) for it in brokers.values())
            right = expected(configuration, name, resource, who)
            if name and not in_order(configuration, name, resource):
                with pytest.raises(AuthError, match="ARGUMENT_INVALID"):
                    await issued(name, resource, who)
                assert not tables_for(credentials, name, resource)
            else:
                assert await issued(name, resource, who) == right
                tables = tables_for(credentials, name, resource)
                held = (it.label for it in tables if it.conditions.hold(who))
                assert next(held, None) == right
            after = sum(len(it.asked) for it in brokers.values())
            assert after - before == (right is not None)

    anyio.run(check)


@settings(max_examples=300)
@given(configurations)
def test_what_starts_gives_one_kind_and_uses_each_table(
    configuration: dict[str, list[Table]],
) -> None:
    """At a resource, a name gives one kind of table, whoever asks; and no table is idle."""
    faults = dict(faults_of(configuration))
    used: dict[str, set[str]] = {}
    kinds: dict[tuple[str, str], set[str]] = {}
    for name, resource, who in product(NAMES, RESOURCES, PRINCIPALS):
        if label := expected(configuration, name, resource, who):
            used.setdefault(label, set()).add(resource)
            kinds.setdefault((name, resource), set()).add(label.split("[")[0])
    tables = by_label(configuration)
    idle = {
        label
        for label, table in tables.items()
        if not used.get(label) or not {*table.get("resources", [])} <= used[label]
    }
    is_mixed = any(len(it) > 1 for it in kinds.values())
    bearer = {label.startswith("credentials.exchange") for label in used if tables[label]["name"]}
    if not faults:
        assert not idle
        assert not is_mixed
        assert len(bearer) < 2
    if idle or is_mixed or len(bearer) > 1:
        assert faults
    for label, message in faults.items():
        if "never applies" in message or "has no effect" in message:
            assert label in idle


class Echo:
    """A profile that exchanges a token for one that names whose it was."""

    async def exchanged(self, principal: Principal, token: Secret, now: float) -> Exchanged:
        text = f"{principal.issuer}|{principal.subject}|{token.reveal()}"
        return Exchanged(BearerCredentials(Secret(text), "Bearer", now + 60))


NAMES_ALIKE = ["", "a", "aa", "aaa"]
ALIKE = st.sampled_from(NAMES_ALIKE)


@given(st.lists(st.tuples(ALIKE, ALIKE, st.just("t") | ALIKE, st.booleans()), max_size=40))
def test_two_principals_share_no_entry(asked: list[tuple[str, str, str, bool]]) -> None:
    """Not even if their names, put together, are the same text."""
    broker = ExchangeBroker(
        Echo(),
        issuers=NAMES_ALIKE,
        client_id="authsvc",
        counts=CacheCounts(),
    )

    async def check() -> None:
        for issuer, subject, token, is_rejected in asked:
            got = await broker.issue(
                Principal(issuer, subject, START + 600),
                token=Secret(token),
                resource=RESOURCES[0],
                now=START,
                wanted=CredentialRequest(rejected=b"r" * 32 if is_rejected else b""),
            )
            assert isinstance(got, BearerCredentials)
            assert got.access_token.reveal() == f"{issuer}|{subject}|{token}"

    anyio.run(check)
