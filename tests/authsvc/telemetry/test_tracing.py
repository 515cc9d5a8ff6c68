"""Traces, as a collector receives them: one tree from the HTTP request to the store."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import grpc
import httpx2
import pytest
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2 as collector
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2_grpc as collector_grpc
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from authsvc.telemetry.tracing import tracing
from tests.support.bounds import TIMEOUT_SECONDS
from tests.support.processes import Process
from tests.support.stack import RESOURCE, ROLES, start_adapter, start_authsvc
from tests.support.tokens import IdentityProvider

BOUND_SECONDS = TIMEOUT_SECONDS
TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
OF_THE_MESSAGE = f"00-{TRACE}-{PARENT}-01"
SAMPLED = 0x01
OF_A_PROXY = "00-11111111111111111111111111111111-2222222222222222-01"


@dataclass
class Collector(collector_grpc.TraceServiceServicer):
    """Keeps what it is sent."""

    spans: list[Span] = field(default_factory=list)
    services: set[str] = field(default_factory=set)

    def Export(  # noqa: N802 - of the generated class
        self, request: collector.ExportTraceServiceRequest, context: grpc.ServicerContext
    ) -> collector.ExportTraceServiceResponse:
        for resource in request.resource_spans:
            self.services |= {
                item.value.string_value
                for item in resource.resource.attributes
                if item.key == "service.name"
            }
            for scope in resource.scope_spans:
                self.spans += scope.spans
        return collector.ExportTraceServiceResponse()


@dataclass
class Traced:
    """What was exported, and what the programs wrote."""

    collector: Collector
    authsvc: Process
    token: str
    session: str


@pytest.fixture(scope="module")
def traced(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Traced]:
    """Two requests through both programs, which have ended since: all is exported."""
    folder = tmp_path_factory.mktemp("traced")
    kept = Collector()
    server = grpc.server(ThreadPoolExecutor(2))
    collector_grpc.add_TraceServiceServicer_to_server(kept, server)  # type: ignore[no-untyped-call] # generated
    endpoint = (
        f'[tracing]\nendpoint = "http://127.0.0.1:{server.add_insecure_port("127.0.0.1:0")}"\n'
    )
    server.start()
    try:
        yield run(folder, endpoint, kept)
    finally:
        server.stop(None).wait(BOUND_SECONDS)


def run(folder: Path, endpoint: str, kept: Collector) -> Traced:
    idp = IdentityProvider(time.time)
    idp.write_secret(folder)
    for role in ROLES:
        (folder / f"{role}.key").write_text(f"secret-of-{role}")
    token = idp.token("somebody-in-particular", claims={"aud": RESOURCE})
    with ExitStack() as running:
        authsvc, address = start_authsvc(folder, running, tables=endpoint)
        _, url = start_adapter(
            folder, running, authsvc=address, s3="http://127.0.0.1:9", tls=endpoint
        )
        client = {"name": "test", "version": "1"}
        opening = {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": client}
        session = post(url, "initialize", opening).headers["mcp-session-id"]
        listing = {"_meta": {"traceparent": OF_THE_MESSAGE}}
        answer = post(url, "tools/list", listing, session=session, token=token)
        assert answer.status_code == 200, answer.text
        reading = {"name": "bucket_objects_list", "arguments": {"bucket": "alpha"}, **listing}
        assert post(url, "tools/call", reading, session=session, token=token).status_code == 200
        refused = post(url, "tools/list", {}, session=session, token="bad" + token)
        assert refused.status_code == 401
    return Traced(kept, authsvc, token, session)


def post(
    url: str, method: str, params: Mapping[str, object], *, session: str = "", token: str = ""
) -> httpx2.Response:
    headers = {
        "Accept": "application/json, text/event-stream",
        "MCP-Protocol-Version": "2025-11-25",
        "traceparent": OF_A_PROXY,
        **({"Mcp-Session-Id": session} if session else {}),
        **({"Authorization": f"Bearer {token}"} if token else {}),
    }
    body = {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}
    return httpx2.post(f"{url}/mcp", json=body, headers=headers, timeout=BOUND_SECONDS)


def test_one_tree_from_the_message_to_the_store(traced: Traced) -> None:
    spans = {s.span_id: s for s in traced.collector.spans if s.trace_id.hex() == TRACE}

    def path(span: Span) -> list[str]:
        above = spans.get(span.parent_span_id)
        return [*(path(above) if above else [span.parent_span_id.hex()]), span.name]

    paths = {tuple(path(span)) for span in spans.values()}
    down = (PARENT, "MCP tools/list", "authsvc resolve", "ResolveSession")
    assert {down[:2], down[:3], down} <= paths
    assert (*down, "store put") in paths
    assert (*down, "token verify") in paths
    # The adapter asks for credentials when a tool does.
    assert (*down, "broker credentials") not in paths
    assert [PARENT, "broker credentials"] in [[it[0], it[-1]] for it in paths], paths
    assert traced.collector.services == {"authsvc", "mcp-adapter"}


def test_the_header_applies_if_the_message_has_no_context(traced: Traced) -> None:
    names = {
        span.name
        for span in traced.collector.spans
        if span.trace_id.hex() == OF_A_PROXY.split("-")[1]
    }
    assert {"MCP initialize", "CreateSession"} <= names


def test_a_failed_span_has_its_reason_and_nothing_of_the_request(traced: Traced) -> None:
    reasons = {
        item.value.string_value
        for span in traced.collector.spans
        for item in span.attributes
        if item.key == "error.type"
    }
    assert reasons
    assert all(reason.startswith("TOKEN_") for reason in reasons)
    everything = "".join(map(str, traced.collector.spans))
    for hidden in (traced.token, traced.session[:8], "somebody-in-particular", "secret-of"):
        assert hidden not in everything


def test_a_request_has_its_method_and_status(traced: Traced) -> None:
    told = [
        (
            span.name,
            attributes["mcp.method.name"].string_value,
            attributes["http.response.status_code"].int_value,
        )
        for span in traced.collector.spans
        if span.name.startswith("MCP ")
        for attributes in [{item.key: item.value for item in span.attributes}]
    ]
    assert sorted(told) == [
        ("MCP initialize", "initialize", 200),
        ("MCP tools/call", "tools/call", 200),
        ("MCP tools/list", "tools/list", 200),
        ("MCP tools/list", "tools/list", 401),
    ]


def test_the_log_names_the_trace(traced: Traced) -> None:
    line = traced.authsvc.wait_for("updated with new JWT", BOUND_SECONDS)
    assert line["trace_id"] == TRACE
    spans = {span.span_id.hex(): span.name for span in traced.collector.spans}
    assert spans[line["span_id"]] == "ResolveSession"


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("sampler", "is_kept"), [("always_off", False), ("parentbased_always_on", True)]
)
async def test_the_environment_selects_the_sampler(
    sampler: str, is_kept: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Nothing listens there; what is not kept is not sent, and what is kept goes nowhere.
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TRACES_TIMEOUT", "0.1")
    monkeypatch.setenv("OTEL_TRACES_SAMPLER", sampler)
    async with tracing(None, "test") as traces:
        with traces.server_span("anything"):
            flags = int(traces.traceparent().rpartition("-")[2], 16)
    assert bool(flags & SAMPLED) is is_kept
