"""The tools that the suite calls, by the names that it calls them by."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import anyio
import mcp_types as types
from mcp.server.context import ServerRequestContext
from mcp.server.subscriptions import (
    InMemorySubscriptionBus,
    PromptsListChanged,
    ServerEvent,
    ToolsListChanged,
)
from mcp.shared.exceptions import MCPError

from conformance import schemas
from conformance.inputs import Asks, elicitation, roots, sampling

Context = ServerRequestContext[InMemorySubscriptionBus]
"""The server's lifespan yields the bus that tells of changed lists."""

Result = types.CallToolResult | types.InputRequiredResult
Run = Callable[[Context, types.CallToolRequestParams], Awaitable[Result]]

PIXEL = (
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAIAAACQd1PeAAAADElEQVR4nGP4z8AAAAMBAQDJ/pLvAAAAAElFTkSuQmCC"
)
"""A red PNG of one pixel, in base64."""

SILENCE = "UklGRiQAAABXQVZFZm10IBAAAAABAAEAQB8AAEAfAAABAAgAZGF0YQAAAAA="
"""A WAV file without a sample, in base64."""

STEP_SECONDS = 0.05
"""Between the notifications of one call, as the suite asks for."""


@dataclass(frozen=True, slots=True)
class Fixture:
    """One tool.

    Attributes:
        description: what ``tools/list`` says of it.
        run: what a call does.
        schema: of its arguments.
    """

    description: str
    run: Run
    schema: Mapping[str, Any]


TOOLS: Final[dict[str, Fixture]] = {}
"""By name, in the order in which they are listed."""


def tool(
    name: str, description: str, schema: Mapping[str, Any] = schemas.NOTHING
) -> Callable[[Run], Run]:
    """Put a function into ``TOOLS``."""

    def register(run: Run) -> Run:
        TOOLS[name] = Fixture(description, run, schema)
        return run

    return register


def answer(*content: types.ContentBlock | str) -> types.CallToolResult:
    """A result; strings are text."""
    blocks: list[types.ContentBlock] = [
        types.TextContent(text=block) if isinstance(block, str) else block for block in content
    ]
    return types.CallToolResult(content=blocks)


def _embedded(uri: str, mime_type: str, text: str) -> types.EmbeddedResource:
    contents = types.TextResourceContents(uri=uri, mime_type=mime_type, text=text)
    return types.EmbeddedResource(resource=contents)


def _constant(name: str, description: str, *content: types.ContentBlock | str) -> None:
    async def run(ctx: Context, params: types.CallToolRequestParams) -> Result:
        return answer(*content)

    tool(name, description)(run)


_IMAGE = types.ImageContent(data=PIXEL, mime_type="image/png")

_constant("test_simple_text", "A text.", "This is a simple text response for testing.")
_constant("test_image_content", "An image.", _IMAGE)
_constant("test_audio_content", "A sound.", types.AudioContent(data=SILENCE, mime_type="audio/wav"))
_constant(
    "test_embedded_resource",
    "A resource.",
    _embedded("test://embedded-resource", "text/plain", "This is an embedded resource content."),
)
_constant(
    "test_multiple_content_types",
    "A text, an image and a resource.",
    "Multiple content types test:",
    _IMAGE,
    _embedded("test://mixed-content-resource", "application/json", '{"test":"data","value":123}'),
)


@tool("test_error_handling", "Fails.")
async def _fail(ctx: Context, params: types.CallToolRequestParams) -> Result:
    failed = answer("This tool intentionally returns an error for testing")
    return failed.model_copy(update={"is_error": True})


@tool("test_tool_with_progress", "Reports progress in three steps.")
async def _report_progress(ctx: Context, params: types.CallToolRequestParams) -> Result:
    for done in (0, 50, 100):
        await ctx.session.report_progress(done, 100)
        await anyio.sleep(STEP_SECONDS)
    return answer("Done.")


@tool("test_tool_with_logging", "Logs three messages.")
@tool("test_logging_tool", "Logs three messages.")
async def _log(ctx: Context, params: types.CallToolRequestParams) -> Result:
    for step in ("started", "processing data", "completed"):
        text = f"Tool {step}" if step == "processing data" else f"Tool execution {step}"
        await ctx.session.send_log_message("info", text, related_request_id=ctx.request_id)
        await anyio.sleep(STEP_SECONDS)
    return answer("Done.")


@tool(
    "test_custom_header",
    "Says its argument, which a client mirrors in a header.",
    schemas.MIRRORED,
)
async def _say_region(ctx: Context, params: types.CallToolRequestParams) -> Result:
    return answer(str((params.arguments or {}).get("region")))


@tool("json_schema_2020_12_tool", "Has all of JSON Schema in its arguments.", schemas.JSON_SCHEMA)
async def _accept(ctx: Context, params: types.CallToolRequestParams) -> Result:
    return answer("Accepted.")


def _publishes(name: str, description: str, event: ServerEvent) -> None:
    async def run(ctx: Context, params: types.CallToolRequestParams) -> Result:
        await ctx.lifespan_context.publish(event)
        return answer("Published.")

    tool(name, description)(run)


_publishes("test_trigger_tool_change", "Says that the tools changed.", ToolsListChanged())
_publishes("test_trigger_prompt_change", "Says that the prompts changed.", PromptsListChanged())


# What needs the client. Up to 2025-11-25 a server asks in a request of its own.


@tool("test_sampling", "Asks the client's model.", schemas.strings("prompt"))
async def _sample(ctx: Context, params: types.CallToolRequestParams) -> Result:
    prompt = (params.arguments or {})["prompt"]
    result = await ctx.session.send_request(sampling(prompt, 100), types.CreateMessageResult)
    text = result.content.text if isinstance(result.content, types.TextContent) else "?"
    return answer(f"LLM response: {text}")


def _elicits(name: str, form: Mapping[str, Any], arguments: Mapping[str, Any]) -> None:
    async def run(ctx: Context, params: types.CallToolRequestParams) -> Result:
        message = (params.arguments or {}).get("message", "Please fill this in.")
        result = await ctx.session.elicit_form(message, dict(form))
        return answer(f"Elicitation completed: action={result.action}, content={result.content}")

    tool(name, "Asks the user.", arguments)(run)


_elicits("test_elicitation", schemas.strings("username", "email"), schemas.strings("message"))
_elicits("test_elicitation_sep1034_defaults", schemas.DEFAULTS, schemas.NOTHING)
_elicits("test_elicitation_sep1330_enums", schemas.ENUMS, schemas.NOTHING)


@tool("test_reconnection", "Closes its stream, to be asked again for what is left.")
async def _reconnect(ctx: Context, params: types.CallToolRequestParams) -> Result:
    if ctx.close_sse_stream is not None:
        await ctx.close_sse_stream()
    return answer("Reconnected.")


@tool("test_missing_capability", "Cannot do without the client's model.")
async def _need_sampling(ctx: Context, params: types.CallToolRequestParams) -> Result:
    needed = types.ClientCapabilities(sampling=types.SamplingCapability())
    if not ctx.session.check_client_capability(needed):
        data = types.MissingRequiredClientCapabilityErrorData(required_capabilities=needed)
        raise MCPError(
            types.MISSING_REQUIRED_CLIENT_CAPABILITY,
            "This tool needs the client's model.",
            data.model_dump(mode="json", by_alias=True, exclude_none=True),
        )
    return answer("The client has a model.")


# From 2026-07-28 on it answers with what it needs, and is called again (SEP-2322).


def _asks(name: str, asks: Asks) -> None:
    async def run(ctx: Context, params: types.CallToolRequestParams) -> Result:
        return asks.required(params) or answer(f"Thank you: {', '.join(asks.given(params))}.")

    tool(name, "Needs something of the client first.")(run)


_NAME = elicitation("What is your name?", schemas.strings("name"))
_CONFIRMATION = elicitation("Please confirm", schemas.CONFIRMATION)
_QUESTION = sampling("What is the capital of France?", 100)

_asks("test_input_required_result_elicitation", Asks({"user_name": _NAME}))
_asks("test_streaming_elicitation", Asks({"user_name": _NAME}))
_asks("test_input_required_result_sampling", Asks({"capital_question": _QUESTION}))
_asks("test_input_required_result_list_roots", Asks({"client_roots": roots()}))
_asks(
    "test_input_required_result_multiple_inputs",
    Asks(
        {
            "user_name": _NAME,
            "greeting": sampling("Generate a greeting", 50),
            "client_roots": roots(),
        },
        state="asked",
    ),
)
_asks("test_input_required_result_tampered_state", Asks({"confirm": _CONFIRMATION}, state="asked"))


@tool("test_input_required_result_request_state", "Knows its own state again.")
async def _know_state(ctx: Context, params: types.CallToolRequestParams) -> Result:
    asks = Asks({"confirm": _CONFIRMATION}, state="asked")
    if (required := asks.required(params)) is not None:
        return required
    return answer("state-ok" if params.request_state == asks.state else "state-unknown")


@tool("test_input_required_result_multi_round", "Asks twice.")
async def _ask_twice(ctx: Context, params: types.CallToolRequestParams) -> Result:
    first = Asks(
        {"step1": elicitation("Step 1: What is your name?", schemas.strings("name"))},
        state="round 1",
    )
    second = Asks(
        {"step2": elicitation("Step 2: What is your favorite color?", schemas.strings("color"))},
        state="round 2",
    )
    if params.request_state == second.state:
        return second.required(params) or answer("Thank you, twice.")
    return first.required(params) or second.request()


@tool("test_input_required_result_capabilities", "Asks for what the client can give.")
async def _ask_within_capabilities(ctx: Context, params: types.CallToolRequestParams) -> Result:
    can = ctx.session.client_capabilities or types.ClientCapabilities()
    offers: list[tuple[object | None, str, types.InputRequest]] = [
        (can.elicitation, "user_name", _NAME),
        (can.sampling, "capital_question", _QUESTION),
        (can.roots, "client_roots", roots()),
    ]
    asks = Asks({key: request for able, key, request in offers if able is not None})
    return asks.required(params) or answer("Thank you.")
