"""Operators who are signed in.

A login is kept in memory. Its cookie is a random secret that contains no information.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from authsvc.common.lru import LruCache, bytes_for
from authsvc.console.passphrases import Operator

MAX_LOGINS = 100
"""Logins at once; the oldest is closed first. Only operators, who know a passphrase, make one."""

LOGIN_BYTES = 1_000
"""Memory of a login, about."""

_SECRET_BYTES = 32


@dataclass(slots=True)
class Login:
    """An operator who is signed in.

    Attributes:
        operator: who is signed in.
        csrf_token: has to be in each form that the operator submits (OWASP's synchroniser token).
        start_time: when the operator signed in, in seconds since the epoch.
        used_time: when the operator last did something.
        notice: a message that the next page shows, once.
    """

    operator: Operator
    csrf_token: str = field(repr=False)
    start_time: float
    used_time: float
    notice: str = ""

    def take_notice(self) -> str:
        """The message for this page; it is not shown again."""
        notice, self.notice = self.notice, ""
        return notice


@dataclass(frozen=True, slots=True)
class PageRequest:
    """An operator's request for a page.

    Attributes:
        login: the operator's.
        values: the query of a GET, the form of a POST.
    """

    login: Login
    values: Mapping[str, str] = field(repr=False)


class Logins:
    """All operators who are signed in.

    Args:
        find: the operator of a name, as of now; None if there is none.
        idle_seconds: how long a login lasts without use.
        seconds: how long a login lasts.
        clock: seconds since the epoch.
    """

    def __init__(
        self,
        find: Callable[[str], Operator | None],
        *,
        idle_seconds: float,
        seconds: float,
        clock: Callable[[], float],
    ) -> None:
        self._find = find
        self._idle_seconds = idle_seconds
        self._seconds = seconds
        self._clock = clock
        # A use does not change the order: at the limit, the oldest login is evicted.
        self._logins: LruCache[bytes, Login] = LruCache(
            MAX_LOGINS, bytes_for(MAX_LOGINS, LOGIN_BYTES)
        )

    def open(self, operator: Operator) -> str:
        """Sign an operator in.

        Returns:
            The secret for the cookie.
        """
        secret, now = secrets.token_urlsafe(_SECRET_BYTES), self._clock()
        csrf_token = secrets.token_urlsafe(_SECRET_BYTES)
        self._logins.put(_digest(secret), Login(operator, csrf_token, now, now), LOGIN_BYTES)
        return secret

    def get(self, secret: str, *, touch: bool = True) -> Login | None:
        """The login of a secret; None if there is none, or it has ended.

        Args:
            secret: from the cookie.
            touch: whether this counts as a use. A page that refreshes itself does not.
        """
        # By digest, so that the latency of the lookup says nothing about existing secrets.
        key, now = _digest(secret), self._clock()
        login = self._logins.peek(key)
        if login is None:
            return None
        has_ended = (
            now - login.start_time >= self._seconds
            or now - login.used_time >= self._idle_seconds
            # The operator's line was removed, or has a new passphrase.
            or self._find(login.operator.name) != login.operator
        )
        if has_ended:
            self._logins.discard(key)
            return None
        if touch:
            login.used_time = now
        return login

    def close(self, secret: str) -> None:
        """Sign out by the secret of the cookie."""
        self._logins.discard(_digest(secret))

    def close_login(self, login: Login) -> None:
        """Sign out by the login."""
        for key, other in self._logins.items():
            if other is login:
                self._logins.discard(key)


def _digest(secret: str) -> bytes:
    return hashlib.sha256(secret.encode()).digest()
