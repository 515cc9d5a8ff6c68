"""What is asked: each row of the table, of sessions that no other process asks about."""

from __future__ import annotations

import itertools

import jwt
import pytest

from authsvc.v1 import auth_pb2 as pb
from bench.mixes import KINDS, Part, Requests
from bench.population import RESOURCE, Population

POPULATION = Population.of(1_000)


def asked(kind: str, part: Part, number: int) -> list[pb.ResolveSessionRequest]:
    requests, _ = Requests(POPULATION, part).take({kind: 1.0}, number, spread=1_000)
    return [pb.ResolveSessionRequest.FromString(request) for _, request in requests]


@pytest.mark.parametrize("kind", [name for name, kind in KINDS.items() if kind.changes])
def test_sessions_that_change_are_one_processes_own(kind: str) -> None:
    ids = [
        {request.session_id for request in asked(kind, Part(index, 4), 100)} for index in range(4)
    ]
    assert all(len(mine) == 100 for mine in ids)
    assert all(mine.isdisjoint(other) for mine, other in itertools.combinations(ids, 2))


def test_repeated_tokens_are_never_of_a_session_that_gets_others() -> None:
    changing = {request.session_id for request in asked("refresh", Part(0, 2), 500)}
    repeated = {request.session_id for request in asked("hot", Part(0, 2), 500)}
    assert changing.isdisjoint(repeated)


def test_refreshed_tokens_are_issued_later_each_time() -> None:
    issued = [
        jwt.decode(request.token, POPULATION.secret, algorithms=["HS256"], audience=RESOURCE)["iat"]
        for request in asked("refresh", Part(0, 1), 50)
    ]
    assert issued == sorted(set(issued))


def test_a_mix_has_its_weights() -> None:
    requests, before = Requests(POPULATION, Part(0, 1)).take(
        {"hot": 9.0, "upgrade": 1.0}, 2_000, spread=1_000
    )
    upgrades = [
        pb.ResolveSessionRequest.FromString(request)
        for kind, request in requests
        if kind == "upgrade"
    ]
    assert len(upgrades) == pytest.approx(200, rel=0.3)
    made = [pb.ResolveSessionRequest.FromString(request) for request in before]
    assert [request.session_id for request in made] == [one.session_id for one in upgrades]
    assert all(request.create and not request.token for request in made)


@pytest.mark.parametrize("size", [512, 1_024, 2_048, 4_096])
def test_tokens_are_about_as_long_as_asked_for(size: int) -> None:
    population = Population.of(10, token_bytes=size)
    assert len(population.first_token(0)) == pytest.approx(size, rel=0.35)


def test_all_processes_agree_on_the_population() -> None:
    other = Population.from_json(POPULATION.to_json())
    assert other == POPULATION
    assert other.first_token(7) == POPULATION.first_token(7)
    assert other.session_id(7) == POPULATION.session_id(7)
    assert RESOURCE in other.to_json()
    assert POPULATION.secret not in repr(POPULATION)
