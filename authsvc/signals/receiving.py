"""What the endpoint and the poller need of the signals' processing."""

from __future__ import annotations

from typing import Protocol

from authsvc.signals.errors import SignalError


class Receipt(Protocol):
    """A signal that was received, its effect durable."""

    @property
    def is_repeated(self) -> bool:
        """Whether it had been received before, and had no effect now."""
        ...


class SignalReceiver(Protocol):
    """Verifies a signal and carries it out. ``SignalProcessor`` is one."""

    async def receive_set(self, text: str, *, client_address: str) -> Receipt:
        """A security event token (RFC 8417). One that is repeated has no effect.

        Args:
            text: as it was received.
            client_address: IP address of the sender, for the audit; empty where it is polled.

        Raises:
            SignalError: it is rejected.
            AuthError: it could not be processed now: the sender has to repeat it.
        """
        ...

    async def receive_logout(self, text: str, *, client_address: str) -> Receipt:
        """A logout token (OpenID Connect Back-Channel Logout 1.0); arguments and errors as above.
        A repeated one is rejected."""
        ...

    def reject(self, issuer: str, error: SignalError, *, client_address: str) -> None:
        """Report what was rejected before its verification, as a rejected signal. Does not wait.

        Args:
            issuer: of the stream that it claims to be of; empty for none.
            error: why.
            client_address: IP address of the sender.
        """
        ...

    def refuse(self, setting: str, *, client_address: str) -> None:
        """Report that a sender was answered that there are too many requests. Does not wait.

        Args:
            setting: of ``[signals]``, the limit that was reached.
            client_address: IP address of the sender.
        """
        ...
