"""What a request counts as towards limits, and how a resolver is given that."""

from __future__ import annotations

import logging
from typing import Any

from authsvc.domain.rates import CallCounts
from authsvc.domain.resolution import Resolver
from authsvc.http_auth.credential_options import takes
from authsvc.http_auth.refusals import internal_error

log = logging.getLogger(__name__)


class CountingOptions:
    """The arguments by which a resolver is given what a request counts as.

    A resolver of a user's own may lack them: it has no limits, so it is given none.

    Args:
        resolver: may take them.
    """

    def __init__(self, resolver: Resolver) -> None:
        self._takes_them = takes(resolver.resolve, "recheck")

    def of_resolve(self, counts: CallCounts) -> dict[str, Any]:
        """Those of ``resolve``: what is not the default.

        Raises:
            Refusal: 500. The request has limits of its own, which the resolver does not take.
        """
        options: dict[str, Any] = self.of_create(counts)
        if self._takes_them and counts.recheck:
            options["recheck"] = True
        elif self._takes_them and counts.calls > 1:
            options["calls"] = counts.calls
        return options

    def of_create(self, counts: CallCounts) -> dict[str, Any]:
        """Those of ``create``, likewise."""
        if not counts.rate_limits:
            return {}
        if not self._takes_them:
            log.error(
                "the requirement has rate_limits, which the resolver does not take: its resolve "
                "and create need an argument rate_limits, and resolve needs calls and recheck"
            )
            raise internal_error()
        return {"rate_limits": counts.rate_limits}
