"""The console's metrics: its requests by page, and the ends of its certificates."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping

from prometheus_client.core import CounterMetricFamily, InfoMetricFamily, Metric
from prometheus_client.registry import Collector
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from authsvc import __version__
from authsvc.net.validity import Validity
from authsvc.telemetry.families import certificates, items

STATIC, OTHER = "/static", "other"
"""Pages of requests for a file, and of those for a path that there is not."""


class ConsoleMetrics(Collector):
    """The metrics of the console.

    Args:
        validities: gives the validity of each file of certificates in use, by its setting.
    """

    def __init__(self, validities: Callable[[], Mapping[str, Validity]] = dict) -> None:
        self._validities = validities
        self._requests: Counter[tuple[str, str]] = Counter()

    def count(self, page: str, status: int) -> None:
        """Count a request.

        Args:
            page: the path of a page, ``STATIC`` or ``OTHER``.
            status: of the response.
        """
        self._requests[page, str(status)] += 1

    def collect(self) -> Iterable[Metric]:
        """See ``Collector``."""
        yield InfoMetricFamily(
            "authsvc_console_build", "What runs.", value={"version": __version__}
        )
        requests = CounterMetricFamily(
            "authsvc_console_requests", "HTTP requests, by page.", labels=("page", "status")
        )
        for labels, count in items(self._requests):
            requests.add_metric(labels, count)
        yield requests
        yield from certificates(
            "authsvc_console_certificate_expire_timestamp_seconds",
            "authsvc_console_certificate_issue_timestamp_seconds",
            self._validities(),
        )


class CountedRequests:
    """Counts requests by page and status. Pure ASGI.

    Args:
        app: the app behind it.
        metrics: where they are counted.
        pages: the paths of the pages.
    """

    def __init__(self, app: ASGIApp, *, metrics: ConsoleMetrics, pages: Collection[str]) -> None:
        self._app = app
        self._metrics = metrics
        self._pages = frozenset(pages)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See ASGI."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        status = 500  # of what raises: Starlette answers so, in front of this

        async def send_noted(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self._app(scope, receive, send_noted)
        finally:
            self._metrics.count(self._page(scope["path"]), status)

    def _page(self, path: str) -> str:
        if path.startswith(f"{STATIC}/"):
            return STATIC
        return path if path in self._pages else OTHER
