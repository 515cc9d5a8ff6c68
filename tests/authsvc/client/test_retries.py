"""Waits before retries, and how many retries there may be."""

from __future__ import annotations

from authsvc.client.retries import (
    BACKOFF_SECONDS,
    MAX_BACKOFF_SECONDS,
    RETRIES,
    WATCH_BACKOFF_SECONDS,
    RetryBudget,
    RetryPolicy,
)


def test_waits_are_random_and_grow_up_to_a_bound() -> None:
    policy = RetryPolicy(per_try_timeout_fraction=0.5)
    longest = {
        attempts: max(policy.backoff_seconds(attempts) for _ in range(200))
        for attempts in (1, 2, 5, 6, 10_000)
    }
    for attempts, bound in ((1, 1), (2, 2), (5, 16)):
        assert bound * BACKOFF_SECONDS / 2 < longest[attempts] <= bound * BACKOFF_SECONDS
    for attempts in (6, 10_000):
        assert MAX_BACKOFF_SECONDS / 2 < longest[attempts] <= MAX_BACKOFF_SECONDS


def test_waits_of_what_retries_without_an_end_grow_further() -> None:
    policy = RetryPolicy(0.5, max_backoff_seconds=WATCH_BACKOFF_SECONDS)
    longest = max(policy.backoff_seconds(10_000) for _ in range(200))
    assert WATCH_BACKOFF_SECONDS / 2 < longest <= WATCH_BACKOFF_SECONDS


def test_retries_are_a_tenth_of_the_load_in_the_long_run() -> None:
    budget = RetryBudget()
    at_once = sum(budget.spend() for _ in range(1000))
    assert at_once == RETRIES
    spent = 0
    for _ in range(1000):
        budget.earn()
        spent += budget.spend()
    assert 90 <= spent <= 101
    for _ in range(10_000):
        budget.earn()
    assert sum(budget.spend() for _ in range(1000)) == RETRIES
