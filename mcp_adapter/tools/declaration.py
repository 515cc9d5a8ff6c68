"""A tool: a typed function, with what it needs declared beside it."""

from __future__ import annotations

import inspect
import json
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, get_type_hints

from mcp.shared.inbound import find_invalid_x_mcp_header
from mcp_types import CallToolResult, ContentBlock, ResourceLink, TextContent, ToolAnnotations
from mcp_types import Tool as ListedTool
from pydantic import BaseModel, ConfigDict, ValidationError, create_model

from authsvc.common import arguments as checks
from authsvc.domain.resolution import Principal
from authsvc.http_auth.requirements import Requirement
from mcp_adapter.tools.call import Call, ToolError

ToolFunction = Callable[..., Awaitable[BaseModel]]

SCOPES_META = "authsvc/scopes"
PERMISSIONS_META = "authsvc/permissions"
"""Members of a listed tool's ``_meta``: what a call needs, for a client that asks for a token."""


class LinkingAnswer(BaseModel):
    """An answer that points at what a client can fetch by itself."""

    def resource_links(self) -> list[ResourceLink]:
        """The links, which come as content blocks of their own beside the answer."""
        raise NotImplementedError


@dataclass(frozen=True, slots=True)
class Tool:
    """A function and what belongs to it.

    Attributes:
        function: takes a ``Call`` and its own arguments, returns a model.
        arguments: the model of its arguments.
        listed: what clients see.
        requirement: what a call needs, checked by the gate.
        permissions: all of them are needed as well, checked by the tool.
        read_only: whether it changes nothing. One that does is served where settings name it.
        audited_arguments: names of the arguments that are in the audit.
    """

    function: ToolFunction
    arguments: type[BaseModel]
    listed: ListedTool
    requirement: Requirement
    permissions: tuple[str, ...] = ()
    read_only: bool = True
    audited_arguments: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """What it is called by."""
        return self.listed.name

    async def run(self, call: Call, arguments: Mapping[str, Any]) -> CallToolResult:
        """Check the caller and the arguments, call the function. A refusal is an error result."""
        try:
            self._authorize(call.principal)
            answer = await self.function(call, **self._checked(arguments))
        except ToolError as error:
            return _error_result(str(error))
        structured = answer.model_dump(mode="json")
        text = json.dumps(structured, ensure_ascii=False)
        content: list[ContentBlock] = [TextContent(type="text", text=text)]
        if isinstance(answer, LinkingAnswer):
            content += answer.resource_links()
        return CallToolResult(content=content, structured_content=structured)

    def _checked(self, arguments: Mapping[str, Any]) -> dict[str, Any]:
        try:
            # JSON can spell half of a surrogate pair, which is no text and no UTF-8.
            json.dumps(arguments, ensure_ascii=False).encode()
            checked = self.arguments.model_validate(arguments)
        except UnicodeEncodeError:
            raise ToolError("Invalid arguments: not all of it is Unicode text.") from None
        except ValidationError as error:
            raise ToolError(_explained(error)) from None
        return {name: getattr(checked, name) for name in type(checked).model_fields}

    def _authorize(self, principal: Principal) -> None:
        held = set(principal.permissions)
        if missing := [item for item in self.permissions if item not in held]:
            raise ToolError(
                f"Your token lacks the permission {', '.join(missing)}: {self.name} needs a token "
                "whose permissions name it."
            )


def tool(
    *,
    title: str,
    scopes: Iterable[str] = (),
    permissions: Iterable[str] = (),
    read_only: bool = True,
    open_world: bool = False,
    audited_arguments: Iterable[str] = (),
) -> Callable[[ToolFunction], Tool]:
    """Make a tool of an ``async`` function whose first parameter is a ``Call``.

    Its name, docstring, parameters and return type become the tool's name, description and
    schemas. ``Annotated`` parameters carry limits and descriptions.

    Args:
        title: for people.
        scopes: what a token needs to call it; the gate's challenge names them.
        permissions: what its caller may do, such as ``s3:ListBucket``; checked before it is called.
        read_only: whether it changes nothing. One that does is annotated as destructive, and off
            until settings name it.
        open_world: whether it speaks to what is not the organisation's own.
        audited_arguments: names of its arguments that are in the audit of its calls, as they are
            sent: none that may hold a secret, or what people write. Texts and numbers alone are
            audited.

    Raises:
        TypeError: of the decorator, for a function that no tool can be made of; a string stands
            where several are meant.
        ValueError: no token could hold one of the scopes.
    """
    requirement = Requirement(checks.scopes("scopes", scopes))
    needed = checks.texts("permissions", permissions)
    audited = checks.texts("audited_arguments", audited_arguments)

    def decorate(function: ToolFunction) -> Tool:
        _check(function)
        arguments = _arguments_model(function)
        if unknown := [name for name in audited if name not in arguments.model_fields]:
            raise TypeError(
                f"{function.__name__}: audited_arguments: it has no argument {', '.join(unknown)}"
            )
        answer = get_type_hints(function)["return"]
        listed = ListedTool(
            name=function.__name__,
            title=title,
            description=inspect.getdoc(function),
            input_schema=_input_schema(arguments),
            output_schema=answer.model_json_schema(mode="serialization"),
            annotations=ToolAnnotations(
                title=title,
                read_only_hint=read_only,
                destructive_hint=not read_only,
                idempotent_hint=read_only,
                open_world_hint=open_world,
            ),
            _meta={SCOPES_META: list(requirement.scopes), PERMISSIONS_META: list(needed)},
        )
        return Tool(function, arguments, listed, requirement, needed, read_only, audited)

    return decorate


def _check(function: ToolFunction) -> None:
    """What would otherwise surface at the first call, or never."""
    name = function.__name__
    hints = get_type_hints(function)
    parameters = list(inspect.signature(function).parameters.values())
    if not inspect.iscoroutinefunction(function):
        raise TypeError(f"{name}: a tool is an async function")
    if not inspect.getdoc(function):
        raise TypeError(f"{name}: a tool has a docstring, which clients read")
    if not parameters or hints.get(parameters[0].name) is not Call:
        raise TypeError(f"{name}: a tool's first parameter is a Call")
    for item in parameters:
        if item.name not in hints or item.kind is not item.POSITIONAL_OR_KEYWORD:
            raise TypeError(f"{name}: {item.name}: a tool's parameters are plain and typed")
    answer = hints.get("return")
    if not (isinstance(answer, type) and issubclass(answer, BaseModel)):
        raise TypeError(f"{name}: a tool returns a pydantic model")


def _arguments_model(function: ToolFunction) -> type[BaseModel]:
    hints = get_type_hints(function, include_extras=True)
    _, *parameters = inspect.signature(function).parameters.values()
    fields: dict[str, Any] = {
        item.name: (hints[item.name], ... if item.default is item.empty else item.default)
        for item in parameters
    }
    config = ConfigDict(extra="forbid")
    return create_model(f"{function.__name__}_arguments", __config__=config, **fields)


def _input_schema(arguments: type[BaseModel]) -> dict[str, Any]:
    schema = arguments.model_json_schema()
    # Clients drop a tool whose header annotations are not as MCP 2026-07-28 has them.
    if reason := find_invalid_x_mcp_header(schema):
        raise TypeError(f"{arguments.__name__}: {reason}")
    return schema


def _explained(error: ValidationError) -> str:
    """What is wrong with the arguments, for a caller that can send better ones."""
    return "Invalid arguments: " + "; ".join(
        f"{_place(item['loc'])}: {item['msg']}"
        for item in error.errors(include_url=False, include_input=False, include_context=False)
    )


def _place(location: tuple[int | str, ...]) -> str:
    """Where it is. The name of an argument that does not exist is the caller's own text."""
    return ascii(".".join(map(str, location))[:100])[1:-1]


def _error_result(message: str) -> CallToolResult:
    return CallToolResult(content=[TextContent(type="text", text=message)], is_error=True)
