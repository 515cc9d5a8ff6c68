"""What the endpoint and the poller need of the signals' processing."""

from __future__ import annotations

from typing import Protocol


class SignalReceiver(Protocol):
    """Verifies a signal and carries it out. Once a method returns, its effect is durable."""

    async def receive_set(self, text: str, *, client_address: str) -> object:
        """A security event token (RFC 8417). One that is repeated has no effect.

        Args:
            text: as it was received.
            client_address: IP address of the sender, for the audit; empty where it is polled.

        Raises:
            SignalError: it is rejected.
            AuthError: it could not be processed now: the sender has to repeat it.
        """
        ...

    async def receive_logout(self, text: str, *, client_address: str) -> object:
        """A logout token (OpenID Connect Back-Channel Logout 1.0); arguments and errors as above.
        A repeated one is rejected."""
        ...
