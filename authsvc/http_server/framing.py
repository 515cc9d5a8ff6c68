"""uvicorn's protocol with strict message framing, and limits on heads and pipelining."""

from __future__ import annotations

from typing import Any

from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import ServerState

from authsvc.http_server.heads import HeadError, check_head, check_target, check_upgrade
from authsvc.http_server.parsing import ParsingState, Part
from authsvc.http_server.settings import HttpLimits


class StrictProtocol(HttpToolsProtocol):
    """Rejects requests by raising ``HeadError`` in the parser's callbacks (see ``httptools``).

    Args:
        config: uvicorn's.
        server_state: uvicorn's.
        app_state: state of the app's lifespan.
        limits: the server's limits.
    """

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        limits: HttpLimits,
    ) -> None:
        super().__init__(config, server_state, app_state)
        self.parser.set_dangerous_leniencies(lenient_data_after_close=False)
        self._limits = limits
        self._parsing = ParsingState(limits)
        # All further bytes from the client are ignored.
        self._ignores_input = False

    def on_message_begin(self) -> None:
        self._parsing.begin_head()
        if len(self.pipeline) >= self._limits.max_pipelined:
            raise HeadError(400, "pipelined")
        super().on_message_begin()

    def on_url(self, url: bytes) -> None:
        self._parsing.count_head(len(url))
        super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        self._parsing.count_head(len(name) + len(value) + 4)
        # Trailers, which follow a chunked body, never become headers.
        if self._parsing.part is Part.HEAD:
            if len(self.headers) >= self._limits.max_headers:
                raise HeadError(431, "head_too_large")
            super().on_header(name, value.rstrip(b" \t"))

    def on_headers_complete(self) -> None:
        check_head(self.parser.get_http_version(), self.headers)
        check_target(self.url, self.headers)
        if self.parser.should_upgrade():
            check_upgrade(self.parser.get_method(), self.headers)
        super().on_headers_complete()
        self._parsing.begin_body()

    def on_body(self, body: bytes) -> None:
        self._parsing.advance()
        if not self.cycle.response_complete:
            super().on_body(body)

    def on_message_complete(self) -> None:
        self._parsing.end_request()
        super().on_message_complete()
        if not self.parser.should_keep_alive():
            self._ignores_input = True
