"""Buckets by subject, by client and for everyone: all or none is taken, and their number is
bounded."""

from __future__ import annotations

from typing import Any

import pytest

from authsvc.access import rates as rates_module
from authsvc.access.rates import (
    MAX_COUNTED_NAMES,
    OTHER,
    PER_CLIENT_ID,
    PER_SUBJECT,
    CallRates,
    ServiceRates,
)
from authsvc.domain.rates import RECHECK, CallCounts, Rate, RateLimit, RatePer
from authsvc.domain.resolution import Principal
from tests.support.clock import Clock
from tests.support.tokens import OTHER_RESOURCE, RESOURCE

THREE = Rate(1.0, 3.0)
SEARCH = RateLimit("search", THREE)


def principal(subject: str = "ada", *, issuer: str = "https://idp", client: str = "") -> Principal:
    return Principal(issuer, subject, expire_time=0.0, client_id=client)


class Calls:
    """Makes calls, and says how many of some are served."""

    def __init__(self, clock: Clock, service: ServiceRates | None = None) -> None:
        self.clock = clock
        self.rates = CallRates(service, clock)

    def wait(
        self,
        who: Principal,
        *limits: RateLimit,
        resource: str = RESOURCE,
        **counts: Any,  # noqa: ANN401 - arguments of CallCounts
    ) -> float:
        uses = self.rates.uses(who, resource, CallCounts(limits, **counts))
        reached = self.rates.take(uses)
        return 0.0 if reached is None else reached.wait_seconds

    def served(self, who: Principal, *limits: RateLimit, resource: str = RESOURCE) -> int:
        """How many calls are served at once, of ten."""
        return sum(self.wait(who, *limits, resource=resource) == 0.0 for _ in range(10))


@pytest.fixture
def calls(clock: Clock) -> Calls:
    return Calls(clock)


@pytest.fixture
def clock() -> Clock:
    return Clock()


def test_a_subject_has_a_bucket_for_each_limit_of_a_resource(calls: Calls) -> None:
    assert calls.served(principal(), SEARCH) == 3
    assert calls.wait(principal(), SEARCH) == 1.0
    # Whatever differs is another bucket: whose it is, where, and which limit.
    assert calls.served(principal("bob"), SEARCH) == 3
    assert calls.served(principal(issuer="https://other"), SEARCH) == 3
    assert calls.served(principal(), SEARCH, resource=OTHER_RESOURCE) == 3
    assert calls.served(principal(), RateLimit("write", THREE)) == 3
    assert calls.served(principal(), RateLimit("search", Rate(1.0, 4.0))) == 4
    assert calls.served(principal(), RateLimit("search", THREE, RatePer.CLIENT)) == 3
    calls.clock.advance(1.0)
    assert calls.served(principal(), SEARCH) == 1


def test_all_subjects_of_a_client_share_a_bucket_of_the_client(calls: Calls) -> None:
    limit = RateLimit("search", THREE, RatePer.CLIENT)
    assert calls.served(principal("ada", client="app"), limit) == 3
    assert calls.served(principal("bob", client="app"), limit) == 0
    assert calls.served(principal("ada", client="other"), limit) == 3
    assert calls.served(principal("ada", client="app", issuer="https://other"), limit) == 3


def test_a_token_without_a_client_counts_for_its_subject(calls: Calls) -> None:
    limit = RateLimit("search", THREE, RatePer.CLIENT)
    assert calls.served(principal("ada"), limit) == 3
    assert calls.served(principal("bob"), limit) == 3
    # No client can have the bucket of a subject by its name.
    assert calls.served(principal("eve", client="ada"), limit) == 3


def test_everyone_shares_a_bucket_of_everyone(calls: Calls) -> None:
    limit = RateLimit("search", THREE, RatePer.EVERYONE)
    assert calls.served(principal("ada"), limit) == 3
    assert calls.served(principal("bob", issuer="https://other"), limit) == 0


def test_a_call_takes_of_all_its_buckets_or_of_none(calls: Calls) -> None:
    tight, wide = RateLimit("tight", Rate(1.0, 1.0)), RateLimit("wide", THREE)
    assert calls.wait(principal(), tight, wide) == 0.0
    # What the tight one rejects takes nothing of the wide one, in either order.
    assert calls.served(principal(), tight, wide) == 0
    assert calls.served(principal(), wide, tight) == 0
    assert calls.served(principal(), wide) == 2


def test_the_longest_wait_is_the_one_to_wait_for(calls: Calls) -> None:
    quick, slow = RateLimit("quick", Rate(10.0, 1.0)), RateLimit("slow", Rate(0.5, 1.0))
    for order in ((quick, slow), (slow, quick)):
        calls.wait(principal(), *order)
        assert calls.wait(principal(), *order) == 2.0
        calls.clock.advance(10.0)


def test_each_call_of_a_batch_counts(calls: Calls) -> None:
    assert calls.wait(principal(), SEARCH, SEARCH) == 0.0
    assert calls.wait(principal(), SEARCH, SEARCH) == 1.0
    assert calls.wait(principal(), SEARCH) == 0.0


def test_more_calls_than_a_burst_take_a_full_bucket_and_pay_for_all(calls: Calls) -> None:
    assert calls.wait(principal(), *[SEARCH] * 5) == 0.0
    assert calls.wait(principal(), SEARCH) == 3.0
    calls.clock.advance(3.0)
    assert calls.wait(principal(), SEARCH) == 0.0
    assert calls.wait(principal(), *[SEARCH] * 5) == 3.0


def test_a_repeated_check_takes_nothing(clock: Clock) -> None:
    rates = CallRates(ServiceRates(THREE, THREE), clock)
    assert not rates.uses(principal(), RESOURCE, RECHECK)
    assert not rates.uses(principal(), RESOURCE, CallCounts((SEARCH,), recheck=True))


def test_what_is_put_back_can_be_taken_again(calls: Calls) -> None:
    uses = calls.rates.uses(principal(), RESOURCE, CallCounts((SEARCH, SEARCH)))
    assert calls.rates.take(uses) is None
    calls.rates.put_back(uses)
    assert calls.served(principal(), SEARCH) == 3


def test_limits_of_the_service_count_the_calls_at_all_resources(clock: Clock) -> None:
    calls = Calls(clock, ServiceRates(per_subject=THREE))
    assert calls.served(principal()) == 3
    assert calls.served(principal(), resource=OTHER_RESOURCE) == 0
    assert calls.served(principal("bob")) == 3
    clock.advance(3.0)
    assert calls.wait(principal(), calls=3) == 0.0
    assert calls.wait(principal()) == 1.0


def test_a_limit_of_the_service_names_its_setting(clock: Clock) -> None:
    rates = CallRates(ServiceRates(per_client=Rate(1.0, 1.0)), clock)
    uses = rates.uses(principal(client="app"), RESOURCE)
    assert [use.setting for use in uses] == [f"limits.{PER_CLIENT_ID}"]
    assert rates.take(uses) is None
    reached = rates.take(uses)
    assert reached is not None
    assert reached.use.limit.name == PER_CLIENT_ID
    own = ServiceRates(THREE, THREE).limits
    assert [limit.name for limit in own] == [PER_SUBJECT, PER_CLIENT_ID]


def test_without_limits_nothing_is_taken(calls: Calls) -> None:
    assert calls.rates.uses(principal(), RESOURCE) == ()


def test_rejections_are_counted_by_a_bounded_number_of_names(calls: Calls) -> None:
    def reach(name: str) -> None:
        limit = RateLimit(name, Rate(1.0, 1.0))
        while calls.wait(principal(), limit) == 0.0:
            pass

    for number in range(MAX_COUNTED_NAMES + 5):
        reach(f"limit{number}")
    reach("limit0")
    counts = calls.rates.rejected
    assert counts["limit0"] == 2
    assert counts[OTHER] == 5
    assert len(counts) == MAX_COUNTED_NAMES + 1


def test_one_issuer_or_resource_evicts_no_bucket_of_another(
    calls: Calls, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rates_module, "MAX_BUCKETS", 2)
    everyone = RateLimit("all", THREE, RatePer.EVERYONE)
    assert calls.served(principal(), SEARCH, everyone) == 3
    for number in range(5):
        calls.wait(principal(f"{number}", issuer="https://anybody"), SEARCH)
        # Nor does one MCP server, whatever limits it names.
        others = (SEARCH, RateLimit(f"{number}", THREE, RatePer.EVERYONE))
        calls.wait(principal(f"{number}"), *others, resource=OTHER_RESOURCE)
    assert calls.served(principal(), SEARCH) == 0
    assert calls.served(principal(), everyone) == 0
    # Within one issuer the bucket that was used longest ago is full again.
    for name in ("bob", "eve"):
        calls.wait(principal(name), SEARCH)
    assert calls.served(principal(), SEARCH) == 3
