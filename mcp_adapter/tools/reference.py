"""What there is to call, for people: Markdown from the declarations alone."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from typing import Any

from mcp_adapter.tools.declaration import Tool


def reference(tools: Iterable[Tool]) -> str:
    """A section for each tool: what it does, what it needs, its arguments and its answer."""
    return "\n".join(_section(tool) for tool in tools)


def _section(tool: Tool) -> str:
    lines = [f"### `{tool.name}`", ""]
    for paragraph in (tool.listed.description or "").split("\n\n"):
        lines += [_plain(paragraph), ""]
    lines += [_needs(tool), ""]
    if properties := tool.listed.input_schema.get("properties", {}):
        required = tool.listed.input_schema.get("required", [])
        lines += ["| argument | type | |", "|---|---|---|"]
        lines += [_row(name, item, name in required) for name, item in properties.items()]
        lines.append("")
    answers = (tool.listed.output_schema or {}).get("properties", {})
    lines += [f"Answers with {_names(answers)}.", ""]
    return "\n".join(lines)


def _needs(tool: Tool) -> str:
    scopes, permissions = tool.requirement.scopes, tool.permissions
    needs = [f"scope {_names(scopes)}"] if scopes else []
    needs += [f"permission {_names(permissions)}"] if permissions else []
    sentence = f"Needs {' and '.join(needs)}." if needs else "Needs any valid token."
    if not tool.read_only:
        sentence += " Changes something: off until `tools.writes` names it."
    return sentence


def _row(name: str, schema: Mapping[str, Any], required: bool) -> str:
    text = _plain(schema.get("description", ""))
    if required:
        text = f"Required. {text}"
    elif schema.get("default") not in (None, ""):
        text += f" Default: `{json.dumps(schema['default'])}`."
    return f"| `{name}` | {_type(schema)} | {text.strip()} |"


def _type(schema: Mapping[str, Any]) -> str:
    """Its JSON type; of several, those that are not null."""
    kinds = [str(item.get("type", "any")) for item in schema.get("anyOf", [schema])]
    return " or ".join(kind for kind in kinds if kind != "null")


def _plain(text: str) -> str:
    """Text on one line in which Markdown finds nothing to mark up."""
    return re.sub(r"([*|<\[\]`])", r"\\\1", " ".join(text.split()))


def _names(names: Iterable[str]) -> str:
    return ", ".join(f"`{name}`" for name in names)
