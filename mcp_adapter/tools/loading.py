"""Which tools are served: the adapter's own, and those of packages that settings name.

Nothing is served because it happens to be installed: a package is named, and so is each tool that
changes something.
"""

from __future__ import annotations

import importlib
from collections import Counter
from collections.abc import Iterable

from authsvc.common.settings import ConfigError
from mcp_adapter.tools.buckets import discover_buckets
from mcp_adapter.tools.changes import bucket_object_delete, bucket_object_put
from mcp_adapter.tools.declaration import Tool
from mcp_adapter.tools.identity import whoami
from mcp_adapter.tools.listing import bucket_objects_list, bucket_objects_search
from mcp_adapter.tools.objects import bucket_object_info, bucket_object_link, bucket_object_text
from mcp_adapter.tools.settings import ToolsSettings

OWN = (
    discover_buckets,
    bucket_objects_list,
    bucket_objects_search,
    bucket_object_info,
    bucket_object_text,
    bucket_object_link,
    bucket_object_put,
    bucket_object_delete,
    whoami,
)
"""The tools that come with the adapter, in the order in which they are listed."""


def selected(settings: ToolsSettings) -> tuple[Tool, ...]:
    """The tools to serve, in order: the adapter's own, then those of each package.

    Raises:
        ConfigError: a package cannot be imported or has no tools, two tools have one name, or
            ``writes`` names what is no tool that changes something.
    """
    tools = [*OWN, *(item for package in settings.packages for item in tools_of(package))]
    counted = Counter(item.name for item in tools)
    if twice := [name for name, count in counted.items() if count > 1]:
        raise ConfigError(f"tools.packages: there are several tools named {', '.join(twice)}")
    writing = {item.name for item in tools if not item.read_only}
    if unknown := [name for name in settings.writes if name not in writing]:
        raise ConfigError(
            f"tools.writes: {_listed(unknown)}: no such tool changes anything; these do: "
            f"{_listed(writing)}"
        )
    return tuple(item for item in tools if item.read_only or item.name in settings.writes)


def tools_of(package: str) -> list[Tool]:
    """The tools that a module or package has at its top level, in the order of their definition.

    Those that it only imports from elsewhere are not its own.

    Raises:
        ConfigError: it cannot be imported, or has none.
    """
    try:
        module = importlib.import_module(package)
    except ImportError as error:
        raise ConfigError(f"tools.packages: {package} cannot be imported: {error}") from None
    found = [
        item
        for item in vars(module).values()
        if isinstance(item, Tool) and f"{item.function.__module__}.".startswith(f"{package}.")
    ]
    if not found:
        raise ConfigError(f"tools.packages: {package} has no tools at its top level")
    return found


def _listed(names: Iterable[str]) -> str:
    return ", ".join(sorted(names))
