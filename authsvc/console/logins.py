"""Who is signed in, how often signing in may be tried, and which sign-in forms are ours.

Sign-ins are kept here; the cookie of one is a random secret that says nothing by itself.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from authsvc.common.token_bucket import TokenBucket
from authsvc.console.operators import Operator

MAX_LOGINS = 100
"""Sign-ins at once, the oldest first out. Only who knows a passphrase gets one."""

TRIES = 5
TRY_SECONDS = 30.0
"""An address may try so often at once, and once more in this time."""

ALL_TRIES = 30
ALL_TRY_SECONDS = 2.0
"""As for an address, for all of them together: there are many addresses."""

MAX_ADDRESSES = 1_024
"""Addresses that are remembered; those that tried longest ago are forgotten first."""

_TOKEN_BYTES = 32


@dataclass(slots=True)
class Login:
    """An operator who is signed in.

    Attributes:
        operator: who.
        csrf_token: what each of their forms has to bring (OWASP's synchroniser token).
        start_time: when they signed in.
        used_time: when they last did something.
        notice: what to tell them on the next page, once.
    """

    operator: Operator
    csrf_token: str = field(repr=False)
    start_time: float
    used_time: float
    notice: str = ""

    def take_notice(self) -> str:
        """What to tell them, which is then told."""
        notice, self.notice = self.notice, ""
        return notice


@dataclass(frozen=True, slots=True)
class Ask:
    """What an operator asks for.

    Attributes:
        login: who.
        values: the query of a GET, the form of a POST.
    """

    login: Login
    values: Mapping[str, str] = field(repr=False)


class Logins:
    """All operators who are signed in.

    Args:
        find: the operator of a name, as of now.
        idle_seconds: how long one lasts that nobody uses.
        seconds: how long one lasts.
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
        self._logins: OrderedDict[bytes, Login] = OrderedDict()

    def open(self, operator: Operator) -> str:
        """Sign in.

        Returns:
            The secret that the cookie carries.
        """
        secret, now = secrets.token_urlsafe(_TOKEN_BYTES), self._clock()
        csrf_token = secrets.token_urlsafe(_TOKEN_BYTES)
        self._logins[_digest(secret)] = Login(operator, csrf_token, now, now)
        if len(self._logins) > MAX_LOGINS:
            self._logins.popitem(last=False)
        return secret

    def get(self, secret: str, *, touch: bool = True) -> Login | None:
        """Who is signed in by that secret.

        Args:
            secret: of the cookie.
            touch: whether it counts as being used; a page that refreshes itself does not.
        """
        # By digest: how long a look-up takes tells nothing of the secrets that are there.
        key, now = _digest(secret), self._clock()
        login = self._logins.get(key)
        if login is None:
            return None
        is_over = (
            now - login.start_time >= self._seconds
            or now - login.used_time >= self._idle_seconds
            # Whose line is gone, or has a new passphrase, is not signed in any more.
            or self._find(login.operator.name) != login.operator
        )
        if is_over:
            del self._logins[key]
            return None
        if touch:
            login.used_time = now
        return login

    def close(self, secret: str) -> None:
        """Sign out."""
        self._logins.pop(_digest(secret), None)

    def close_login(self, login: Login) -> None:
        """Sign out."""
        for key in [key for key, other in self._logins.items() if other is login]:
            del self._logins[key]


class Tries:
    """How often signing in may be tried: by one address, and by all of them.

    Args:
        clock: seconds, of any origin.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._all = TokenBucket(1.0 / ALL_TRY_SECONDS, ALL_TRIES, clock())
        self._of: OrderedDict[str, TokenBucket] = OrderedDict()

    def take(self, address: str) -> float:
        """Try once.

        Returns:
            0.0, or in how many seconds to come back.
        """
        now = self._clock()
        own = self._of.setdefault(address, TokenBucket(1.0 / TRY_SECONDS, TRIES, now))
        self._of.move_to_end(address)
        if len(self._of) > MAX_ADDRESSES:
            self._of.popitem(last=False)
        # One address that is turned away takes nothing from the others.
        return own.take(now) or self._all.take(now)


class SignInForms:
    """What proves that a sign-in form is ours, before anybody is known: nothing is kept of it.

    A random cookie, and in the form what only we can make of it: who writes a form elsewhere, or
    sets a cookie, has not got the other half.
    """

    def __init__(self) -> None:
        self._key = secrets.token_bytes(_TOKEN_BYTES)

    def cookie(self) -> str:
        """A fresh value for the cookie."""
        return secrets.token_urlsafe(_TOKEN_BYTES)

    def token(self, cookie: str) -> str:
        """What the form carries."""
        return hmac.new(self._key, cookie.encode(), hashlib.sha256).hexdigest()

    def is_ours(self, cookie: str, token: str) -> bool:
        """Whether a form was made here, for who sends it."""
        return bool(cookie) and hmac.compare_digest(self.token(cookie).encode(), token.encode())


def _digest(secret: str) -> bytes:
    return hashlib.sha256(secret.encode()).digest()
