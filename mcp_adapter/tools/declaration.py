"""A tool: a typed function, with what it needs declared beside it."""

from __future__ import annotations

import inspect
import json
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, get_type_hints

from mcp_types import CallToolResult, TextContent, ToolAnnotations
from mcp_types import Tool as ListedTool
from pydantic import BaseModel, ConfigDict, ValidationError, create_model

from authsvc.resolution import Principal
from mcp_adapter.requirements import Requirement
from mcp_adapter.tools.call import Call, ToolError

ToolFunction = Callable[..., Awaitable[BaseModel]]


@dataclass(frozen=True, slots=True)
class Tool:
    """A function and what belongs to it.

    Attributes:
        function: takes a ``Call`` and its own arguments, returns a model.
        arguments: the model of its arguments.
        listed: what clients see.
        requirement: what a call needs, told by the gate.
        permissions: all of them are needed besides, told by the tool.
    """

    function: ToolFunction
    arguments: type[BaseModel]
    listed: ListedTool
    requirement: Requirement
    permissions: tuple[str, ...] = ()

    async def run(self, call: Call, arguments: Mapping[str, Any]) -> CallToolResult:
        """Check the caller and the arguments, call the function. A refusal is an error result."""
        try:
            self._authorize(call.principal)
            answer = await self.function(call, **self._checked(arguments))
        except ToolError as error:
            return _error_result(str(error))
        content = answer.model_dump(mode="json")
        text = json.dumps(content, ensure_ascii=False)
        return CallToolResult(
            content=[TextContent(type="text", text=text)], structured_content=content
        )

    def _checked(self, arguments: Mapping[str, Any]) -> dict[str, Any]:
        try:
            checked = self.arguments.model_validate(arguments)
        except ValidationError as error:
            raise ToolError(_explained(error)) from None
        return {name: getattr(checked, name) for name in type(checked).model_fields}

    def _authorize(self, principal: Principal) -> None:
        held = set(principal.permissions)
        if missing := [item for item in self.permissions if item not in held]:
            raise ToolError(f"Your token lacks the permission {', '.join(missing)}.")


def tool(
    *,
    title: str,
    scopes: Iterable[str] = (),
    permissions: Iterable[str] = (),
    read_only: bool = True,
) -> Callable[[ToolFunction], Tool]:
    """Make a tool of an ``async`` function whose first parameter is a ``Call``.

    Its name, docstring, parameters and return type become the tool's name, description and
    schemas. ``Annotated`` parameters carry limits and descriptions.

    Args:
        title: for people.
        scopes: what a token needs to call it.
        permissions: what its caller may do, such as ``s3:ListBucket``; checked before it is called.
        read_only: whether it changes nothing.
    """

    def decorate(function: ToolFunction) -> Tool:
        arguments = _arguments_model(function)
        answer = get_type_hints(function)["return"]
        listed = ListedTool(
            name=function.__name__,
            title=title,
            description=inspect.getdoc(function),
            input_schema=arguments.model_json_schema(),
            output_schema=answer.model_json_schema(mode="serialization"),
            annotations=ToolAnnotations(
                title=title,
                read_only_hint=read_only,
                destructive_hint=not read_only,
                idempotent_hint=read_only,
                open_world_hint=False,
            ),
        )
        return Tool(function, arguments, listed, Requirement(tuple(scopes)), tuple(permissions))

    return decorate


def _arguments_model(function: ToolFunction) -> type[BaseModel]:
    hints = get_type_hints(function, include_extras=True)
    _, *parameters = inspect.signature(function).parameters.values()
    fields: dict[str, Any] = {
        item.name: (hints[item.name], ... if item.default is item.empty else item.default)
        for item in parameters
    }
    config = ConfigDict(extra="forbid")
    return create_model(f"{function.__name__}_arguments", __config__=config, **fields)


def _explained(error: ValidationError) -> str:
    """What is wrong with the arguments, for a caller that can send better ones."""
    return "Invalid arguments: " + "; ".join(
        f"{'.'.join(map(str, item['loc']))}: {item['msg']}"
        for item in error.errors(include_url=False, include_input=False, include_context=False)
    )


def _error_result(message: str) -> CallToolResult:
    return CallToolResult(content=[TextContent(type="text", text=message)], is_error=True)
