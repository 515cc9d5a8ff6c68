"""What each caller uses: token buckets for rates, and a count of calls in flight."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from authsvc.access.client_budgets import ClientBudgets
from authsvc.access.limits import MAX_CONCURRENT_CALLS, CallerLimits
from authsvc.audit import security
from authsvc.common.rarely import Rarely
from authsvc.common.token_bucket import TokenBucket
from authsvc.domain.errors import AuthError, GrpcStatus, Reason

REPORT_INTERVAL_SECONDS = 1.0
"""A caller that keeps reaching a limit is audited at most so often."""

EVENTS_PER_SECOND = 100.0
EVENTS_BURST = 200.0
"""Security events that are audited for one caller; more would not inform, and would fill the
disk."""


@dataclass(frozen=True, slots=True)
class Limit:
    """What a caller that has reached a limit is told, and what its operator is.

    Attributes:
        detail: what there is too much of.
        setting: the limit's name in the configuration; empty where it is fixed.
        reason: for the caller.
    """

    detail: str
    setting: str
    reason: Reason = Reason.OVERLOADED

    def error(self, wait_seconds: float) -> AuthError:
        """The rejection of what is beyond the limit for that long."""
        return AuthError(
            self.reason, self.detail, setting=self.setting, retry_after_seconds=wait_seconds
        )


_CALLS = Limit("too many calls", "limits.calls_per_second")
_CONCURRENT = Limit("too many calls are in flight", "limits.max_concurrent_calls_per_caller")
_ALL_CONCURRENT = Limit(
    "too many calls of all callers are in flight", "limits.max_concurrent_calls"
)
_STREAMS = Limit("too many streams are open", "limits.max_streams_per_caller")
REJECTED_TOKENS = Limit("too many rejected tokens", "limits.rejected_tokens_per_second")
_REJECTED_TOKENS_OF_CLIENT = Limit(
    "too many rejected tokens of one client", "limits.rejected_tokens_per_second_per_client"
)
_ANONYMOUS = Limit(
    "too many sessions without a token",
    "limits.anonymous_sessions_per_second",
    Reason.SESSION_LIMIT,
)
_EVENTS = Limit("too many events to audit all of them", "")


class Capacity:
    """Calls in flight of all callers together: some reserved for each caller, the rest shared.

    Half of them are reserved in equal parts for the registered callers, so that others cannot take
    them from a caller that is idle now. The other half goes to the calls that come first.

    Args:
        total: calls in flight.
        callers: how many callers are registered.
    """

    __slots__ = ("_shared", "reserved")

    def __init__(self, total: int, callers: int) -> None:
        self.reserved = total // 2 // max(1, callers)
        """Calls that are reserved for each caller."""
        self._shared = total - self.reserved * max(1, callers)

    def take(self) -> bool:
        """Take one of the shared calls; whether there was one."""
        if self._shared <= 0:
            return False
        self._shared -= 1
        return True

    def put_back(self) -> None:
        """Return a shared call."""
        self._shared += 1


class Usage:
    """What one caller uses.

    Args:
        caller: its name.
        limits: of the caller.
        clock: seconds, of any origin.
        capacity: of all callers together.
    """

    def __init__(
        self,
        caller: str,
        limits: CallerLimits,
        clock: Callable[[], float],
        capacity: Capacity,
    ) -> None:
        now = clock()
        self._capacity = capacity
        self._streams = 0
        self._caller = caller
        self._clock = clock
        self._reports = Rarely(REPORT_INTERVAL_SECONDS, clock)
        self._limits = limits
        self._in_flight = 0
        self._calls = TokenBucket(limits.calls_per_second, limits.calls_burst, now)
        self._rejected = TokenBucket(
            limits.rejected_tokens_per_second, limits.rejected_tokens_burst, now
        )
        self._rejected_of_clients = ClientBudgets(
            limits.rejected_tokens_per_second_per_client, limits.rejected_tokens_burst_per_client
        )
        self._anonymous = TokenBucket(
            limits.anonymous_sessions_per_second, limits.anonymous_sessions_burst, now
        )
        self._events = TokenBucket(EVENTS_PER_SECOND, EVENTS_BURST, now)

    def begin_call(self) -> None:
        """One call begins; ``end_call`` is due unless this raises.

        Raises:
            AuthError: OVERLOADED.
        """
        if self._in_flight >= self._limits.max_concurrent_calls_per_caller:
            self._reject(_CONCURRENT, 1.0)
        self.count_call()
        if self._in_flight >= self._capacity.reserved and not self._capacity.take():
            self._reject(_ALL_CONCURRENT, 1.0)
        self._in_flight += 1

    def begin_stream(self) -> None:
        """A stream begins, which is a call for as long as it is open; ``end_stream`` is due unless
        this raises.

        Raises:
            AuthError: OVERLOADED.
        """
        if self._streams >= self._limits.max_streams_per_caller:
            self._reject(_STREAMS, 1.0)
        self.begin_call()
        self._streams += 1

    def end_stream(self) -> None:
        """A stream has ended."""
        self._streams -= 1
        self.end_call()

    def count_call(self) -> None:
        """Count a call that ends as soon as it begins.

        Raises:
            AuthError: OVERLOADED.
        """
        wait = self._calls.take(self._clock())
        if wait > 0.0:
            self._reject(_CALLS, wait)

    def end_call(self) -> None:
        """A call has ended."""
        self._in_flight -= 1
        if self._in_flight >= self._capacity.reserved:
            self._capacity.put_back()

    def seconds_until_check(self, client_address: str = "") -> float:
        """How long unknown tokens are rejected without a check; 0 while they are checked.

        Args:
            client_address: whose tokens; empty where it is not known.
        """
        now = self._clock()
        if (wait := self._rejected_of_clients.wait(client_address, now)) > 0.0:
            self._report_client(client_address)
        elif (wait := self._rejected.wait(now)) > 0.0:
            self.report(REJECTED_TOKENS, client_address)
        return wait

    @contextmanager
    def check(self, client_address: str = "") -> Iterator[None]:
        """One check of a token that is not known yet: counted as rejected unless it is valid.

        A check in flight counts as rejected: a flood would pass before its first result otherwise.

        Args:
            client_address: whose token; empty where it is not known.

        Raises:
            AuthError: OVERLOADED, once too many have been rejected.
        """
        self._take_check(client_address)
        try:
            yield
        except AuthError as error:
            if error.reason.status is GrpcStatus.UNAVAILABLE and not error.counts_as_rejected:
                self._put_back_check(client_address)
            raise
        self._put_back_check(client_address)

    def _take_check(self, client_address: str) -> None:
        """
        Raises:
            AuthError: OVERLOADED. A client beyond its limit takes nothing from the other clients.
        """
        now = self._clock()
        if (wait := self._rejected_of_clients.take(client_address, now)) > 0.0:
            self._report_client(client_address)
            raise _REJECTED_TOKENS_OF_CLIENT.error(wait)
        if (wait := self._rejected.take(now)) > 0.0:
            self._rejected_of_clients.put_back(client_address)
            self._reject(REJECTED_TOKENS, wait, client_address)

    def _put_back_check(self, client_address: str) -> None:
        self._rejected.put_back()
        self._rejected_of_clients.put_back(client_address)

    def may_audit(self) -> bool:
        """Whether one more event of the caller is audited."""
        if self._events.take(self._clock()) == 0.0:
            return True
        self.report(_EVENTS)
        return False

    def before_anonymous_session(self, client_address: str = "") -> None:
        """Called before a session without a token is created.

        Args:
            client_address: whose session; empty where it is not known.

        Raises:
            AuthError: SESSION_LIMIT.
        """
        wait = self._anonymous.take(self._clock())
        self._reject(_ANONYMOUS, wait, client_address)

    def _reject(self, limit: Limit, wait_seconds: float, client_address: str = "") -> None:
        if wait_seconds <= 0.0:
            return
        self.report(limit, client_address)
        raise limit.error(wait_seconds)

    def report(self, limit: Limit, client_address: str = "") -> None:
        """Audit that the caller has reached a limit: once an interval, if it keeps doing so.

        Args:
            limit: that was reached.
            client_address: whose request reached it; empty where it is not known.
        """
        if self._reports.may_pass("caller"):
            self._audit(limit, client_address)

    def _report_client(self, client_address: str) -> None:
        """Audit likewise that one of its clients has reached its limit."""
        # Apart: a client that is rejected all the time does not hide the caller's limits.
        if self._reports.may_pass("client"):
            self._audit(_REJECTED_TOKENS_OF_CLIENT, client_address)

    def _audit(self, limit: Limit, client_address: str) -> None:
        security.record(
            security.SecurityEvent(
                security.SecurityEventType.LIMIT_REACHED,
                reason=limit.reason.name,
                caller=self._caller,
                detail=limit.detail,
                setting=limit.setting,
                client_address=client_address,
            )
        )


class Usages:
    """The usage of each caller, by name. Callers are registered, so there are few.

    Args:
        limits: of each caller.
        clock: seconds, of any origin.
        total: calls in flight of all callers together.
        callers: how many callers are registered.
    """

    def __init__(
        self,
        limits: CallerLimits,
        clock: Callable[[], float],
        *,
        total: int = MAX_CONCURRENT_CALLS,
        callers: int = 1,
    ) -> None:
        self._limits = limits
        self._clock = clock
        self._capacity = Capacity(total, callers)
        self._by_caller: dict[str, Usage] = {}

    def of(self, caller: str) -> Usage:
        """The usage of a caller."""
        usage = self._by_caller.get(caller)
        if usage is None:
            usage = Usage(caller, self._limits, self._clock, self._capacity)
            self._by_caller[caller] = usage
        return usage
