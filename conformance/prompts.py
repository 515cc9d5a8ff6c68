"""The prompts that the suite gets, and completions of their arguments."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

import mcp_types as types
from mcp.shared.exceptions import MCPError

from conformance import schemas
from conformance.inputs import Asks, elicitation
from conformance.tools import PIXEL, Context

Arguments = Mapping[str, str]
Blocks = list[types.ContentBlock]

_CONTEXT = elicitation("What context should the prompt use?", schemas.strings("context"))
_ASKING = "test_input_required_result_prompt"


def _text(text: str) -> types.TextContent:
    return types.TextContent(text=text)


def _simple(arguments: Arguments) -> Blocks:
    return [_text("This is a simple prompt for testing.")]


def _with_arguments(arguments: Arguments) -> Blocks:
    pairs = ", ".join(f"{name}='{value}'" for name, value in arguments.items())
    return [_text(f"Prompt with arguments: {pairs}")]


def _with_resource(arguments: Arguments) -> Blocks:
    contents = types.TextResourceContents(
        uri=arguments["resourceUri"],
        mime_type="text/plain",
        text="Embedded resource content for testing.",
    )
    return [
        types.EmbeddedResource(resource=contents),
        _text("Please process the embedded resource above."),
    ]


def _with_image(arguments: Arguments) -> Blocks:
    image = types.ImageContent(data=PIXEL, mime_type="image/png")
    return [image, _text("Please analyze the image above.")]


PROMPTS: Final[Mapping[str, tuple[tuple[str, ...], Callable[[Arguments], Blocks]]]] = {
    "test_simple_prompt": ((), _simple),
    "test_prompt_with_arguments": (("arg1", "arg2"), _with_arguments),
    "test_prompt_with_embedded_resource": (("resourceUri",), _with_resource),
    "test_prompt_with_image": ((), _with_image),
    _ASKING: ((), _simple),
}
"""Required arguments, and what makes the messages of them, by name."""


async def list_prompts(
    ctx: Context, params: types.PaginatedRequestParams | None
) -> types.ListPromptsResult:
    """``prompts/list``."""
    return types.ListPromptsResult(
        prompts=[
            types.Prompt(
                name=name,
                description="A prompt of the suite's.",
                arguments=[
                    types.PromptArgument(name=argument, required=True) for argument in arguments
                ],
            )
            for name, (arguments, _) in PROMPTS.items()
        ]
    )


async def get(
    ctx: Context, params: types.GetPromptRequestParams
) -> types.GetPromptResult | types.InputRequiredResult:
    """``prompts/get``.

    Raises:
        MCPError: invalid params for an unknown prompt or a missing argument.
    """
    names, blocks = PROMPTS.get(params.name, ((), None))
    given = params.arguments or {}
    if blocks is None or any(name not in given for name in names):
        raise MCPError(types.INVALID_PARAMS, "There is no such prompt, or an argument is missing.")
    asked = Asks({"user_context": _CONTEXT}).required(params) if params.name == _ASKING else None
    return asked or types.GetPromptResult(
        messages=[types.PromptMessage(role="user", content=block) for block in blocks(given)]
    )


async def complete(ctx: Context, params: types.CompleteRequestParams) -> types.CompleteResult:
    """``completion/complete``: of places."""
    places = ("paris", "park", "party")
    values = [place for place in places if place.startswith(params.argument.value)]
    return types.CompleteResult(completion=types.Completion(values=values, total=len(values)))
