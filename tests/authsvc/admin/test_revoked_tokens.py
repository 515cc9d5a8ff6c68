"""Marks of revoked tokens."""

from __future__ import annotations

from collections.abc import Collection
from types import MappingProxyType

import pytest

from authsvc.admin.revoked_tokens import KEYS_AT_ONCE
from authsvc.domain.errors import AuthError, Reason
from authsvc.domain.record import Grant
from authsvc.domain.revocation import NotBefore, NotBeforeKey, NotBefores
from tests.authsvc.admin.office import ALL, Office, fill, record
from tests.support.clock import START

pytestmark = pytest.mark.anyio

A, B = "https://a.example/mcp", "https://b.example/mcp"


async def marked(office: Office) -> dict[str, set[str]]:
    """The resources whose token is marked, by session; as both a list and each session say."""
    listing = await office.admin.sessions.page(ALL)
    for it in listing.records:
        assert await office.admin.sessions.get(it.id) == it
    return {
        it.id: {name for name, grant in it.grants.items() if grant.token_revoked}
        for it in listing.records
    }


async def test_each_token_is_marked_by_itself(office: Office) -> None:
    def grants(**more: float) -> MappingProxyType[str, Grant]:
        return MappingProxyType(
            {A: Grant(b"a", START, START + 600, "j1", "client", "digest"),
             B: Grant(b"b", START + more.get("later", 0.0), START + 600, "j2")}
        )  # fmt: skip

    await fill(
        office,
        record("s1", grants=grants(later=10.0)),
        record("s2", subject="bob", grants=grants()),
        record("anonymous", subject=""),
    )
    nothing: dict[str, set[str]] = {"s1": set(), "s2": set(), "anonymous": set()}
    assert await marked(office) == nothing
    for not_before, found in (
        (NotBefore(START, START, "idp", token_id="j2"), {"s2": {B}}),
        (NotBefore(START, START, "idp", provider_session="digest"), {"s1": {A}, "s2": {A, B}}),
        (NotBefore(START, START, "idp", "alice"), {"s1": {A}, "s2": {A, B}}),
        (NotBefore(START + 10, START, "idp", "alice"), {"s1": {A, B}, "s2": {A, B}}),
    ):
        await office.store.set_not_before(not_before)
        assert await marked(office) == {**nothing, **found}
    stored = await office.store.get("s1")
    assert stored is not None
    assert not any(grant.token_revoked for grant in stored.grants.values())


async def test_the_store_is_asked_once_a_page_and_for_a_bounded_number(
    office: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []
    ask = office.store.get_not_befores

    async def counted(keys: Collection[NotBeforeKey]) -> NotBefores:
        asked.append(len(keys))
        return await ask(keys)

    monkeypatch.setattr(office.store, "get_not_befores", counted)
    monkeypatch.setattr(office.store, "cached_not_befores", lambda *_: NotBefores())
    await fill(office, *(record(f"s{n}", subject=f"user-{n}") for n in range(100)))
    await office.store.set_not_before(NotBefore(START, START))
    assert all(found == {A} for found in (await marked(office)).values())
    # Everyone, the token, and for each subject all tokens and those without a provider session.
    assert asked[0] == 2 + 2 * 100

    asked.clear()
    await fill(office, *(record(f"t{n}", subject=f"other-{n}") for n in range(KEYS_AT_ONCE)))
    listing = await office.admin.sessions.page(ALL, size=KEYS_AT_ONCE)
    assert all(it.grants[A].token_revoked for it in listing.records)
    assert len(asked) == 3
    assert max(asked) <= KEYS_AT_ONCE + 2

    asked.clear()
    await fill(office, record("anonymous", subject="", now=START + 1))
    assert (await office.admin.sessions.get("anonymous")).grants == {}
    assert asked == []


async def test_without_the_not_befores_there_is_no_answer(
    office: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fails(keys: Collection[NotBeforeKey]) -> NotBefores:
        raise AuthError(Reason.STORE_UNAVAILABLE)

    await fill(office, record("s1"))
    monkeypatch.setattr(office.store, "get_not_befores", fails)
    for asking in (office.admin.sessions.get("s1"), office.admin.sessions.page(ALL)):
        with pytest.raises(AuthError) as caught:
            await asking
        assert caught.value.reason is Reason.STORE_UNAVAILABLE
