"""Logs the refusals that an operator could mend: with the setting, at a bounded rate.

What authsvc rejects is logged where it is asked. Refusals that only their client can mend are not
logged: anybody causes them.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

from authsvc.common.rarely import Rarely
from authsvc.domain.errors import of_setting
from authsvc.domain.resolution import Principal, shown
from authsvc.http_auth.refusals import Refusal
from authsvc.http_auth.statuses import INSUFFICIENT_SCOPE

log = logging.getLogger(__name__)

WARNING_INTERVAL_SECONDS = 1.0
"""From one warning that names a setting to the next that names it."""

SHOWN_CHARACTERS = 200
"""How much is logged of what a client sent."""


class RefusalLog:
    """Warns of refusals that an argument of ``SessionGate`` would mend.

    Args:
        clock: seconds, of any origin.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._warnings = Rarely(WARNING_INTERVAL_SECONDS, clock)
        self._has_noted_stream = False

    def refused(self, refusal: Refusal) -> None:
        """A request was refused; logged where the refusal names a setting."""
        if refusal.setting:
            self._warn(refusal.setting, f"{refusal.status.value}: {refusal.message}")

    def closed_path(self, path: str) -> None:
        """A GET of another path than the endpoint's, such as a health check, is refused."""
        shown_path = path[:SHOWN_CHARACTERS]
        self._warn("open_paths", f"GET {shown_path!r}: neither the MCP endpoint nor an open path")

    def no_metadata(self, path: str) -> None:
        """A client asks for the protected resource's metadata, which is not served."""
        self._warn("authorization_servers", f"GET {path!r}: there is no issuer to name")

    def no_stream(self) -> None:
        """A client asks a stateful app for a stream of what it sends by itself. Logged once: an app
        that never does so is as it should be."""
        if self._has_noted_stream:
            return
        self._has_noted_stream = True
        log.info(
            "refused: GET: no stream is offered of what the app sends by itself%s",
            of_setting("streams"),
            extra={"setting": "streams"},
        )

    def _warn(self, setting: str, text: str) -> None:
        if self._warnings.may_pass(setting):
            log.warning("refused: %s%s", text, of_setting(setting), extra={"setting": setting})


def insufficient_scope(needed: tuple[str, ...], principal: Principal, session_id: str) -> None:
    """Log that a valid token lacks a scope; at level info, as other rejected tokens.

    A token without any may have them in a claim that is not read.
    """
    held = " ".join(principal.scopes)[:SHOWN_CHARACTERS]
    if held:
        detail, setting = f"the token has {held!r}", "requirement"
    else:
        detail, setting = "the token has none", f"issuers[{principal.issuer}].claims.scopes"
    log.info(
        "request rejected: INSUFFICIENT_SCOPE: %r is needed, %s%s",
        " ".join(needed),
        detail,
        of_setting(setting),
        extra={
            "reason": INSUFFICIENT_SCOPE,
            "setting": setting,
            "session": shown(session_id) if session_id else "",
            "subject": principal.subject,
        },
    )
