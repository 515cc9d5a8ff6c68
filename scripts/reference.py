"""``python -m scripts.reference [--check]``: docs/reference, made from the code and the proto, and
what of the Helm chart is made from other files.

With ``--check``, says which page is not as the code has it, and exits with 1.
"""

from __future__ import annotations

import inspect
import re
import sys
import tempfile
import types
from collections.abc import Callable, Iterable, Iterator
from dataclasses import fields
from enum import Enum
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin

from google.protobuf.descriptor_pb2 import FileDescriptorProto, FileDescriptorSet
from grpc_tools import protoc  # type: ignore[import-untyped] # it has no stubs
from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from authsvc import client
from authsvc.client import (
    Actor,
    AdminClient,
    AuthClient,
    BlockingAuthClient,
    ClientTls,
    HttpError,
    Principal,
    RecordFilter,
    Resolution,
    bearer_token,
)
from authsvc.common.settings import FileSettings
from authsvc.console.config import ConsoleSettings
from authsvc.domain.record import Record
from authsvc.domain.resolution import AwsCredentials, BearerCredentials, Session
from authsvc.server.config import Settings
from mcp_adapter import (
    CallAudit,
    Caller,
    Rate,
    RateLimit,
    Requirement,
    SessionGate,
    api_client,
    caller,
    current_caller,
    with_broader_scopes,
    with_origin_checks,
)
from mcp_adapter.aws import boto3_session_for, session_for
from mcp_adapter.fastmcp import requirement_of
from mcp_adapter.server.config import Settings as AdapterSettings
from mcp_adapter.testing import FakeResolver, InMemoryAuthsvc, as_caller
from mcp_adapter.tools.loading import OWN
from mcp_adapter.tools.reference import reference
from scripts import chart
from scripts.reasons import reasons

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / "docs" / "reference"
PROTOS = ROOT / "protos"
PROTO = "authsvc/v1/auth.proto"

MADE = "<!-- Made by `make reference`; edit the code it is made from. -->\n"

PROGRAMS: tuple[tuple[str, type[FileSettings]], ...] = (
    ("authsvc serve", Settings),
    ("mcp-adapter serve", AdapterSettings),
    ("authsvc console", ConsoleSettings),
)

INTERFACES: tuple[tuple[str, Callable[..., object]], ...] = (
    ("mcp_adapter", SessionGate),
    ("mcp_adapter", CallAudit),
    ("mcp_adapter", Requirement),
    ("mcp_adapter", with_broader_scopes),
    ("mcp_adapter", with_origin_checks),
    ("mcp_adapter", caller),
    ("mcp_adapter", current_caller),
    ("mcp_adapter", Caller.credentials),
    ("mcp_adapter", api_client),
    ("mcp_adapter.aws", session_for),
    ("mcp_adapter.aws", boto3_session_for),
    ("mcp_adapter.fastmcp", requirement_of),
    ("mcp_adapter.testing", as_caller),
    ("mcp_adapter.testing", FakeResolver),
    ("mcp_adapter.testing", InMemoryAuthsvc),
    ("authsvc.client", AuthClient),
    ("authsvc.client", BlockingAuthClient),
    ("authsvc.client", AdminClient),
    ("authsvc.client", ClientTls),
    ("authsvc.client", HttpError),
    ("authsvc.client", bearer_token),
)
"""What authors of MCP servers call, and where they import it from."""

CALLED = (
    *(SessionGate, Requirement, FakeResolver, InMemoryAuthsvc),
    *(AuthClient, BlockingAuthClient, AdminClient, HttpError),
)
"""Those whose methods are for users, too."""

VALUES: tuple[type, ...] = (
    Rate,
    RateLimit,
    Resolution,
    Session,
    Principal,
    Actor,
    AwsCredentials,
    BearerCredentials,
    RecordFilter,
    Record,
)
"""What those return and take."""

_PYTHON = """\
What an MCP server is protected with; [protect-your-server.md](../protect-your-server.md) shows how.
A wrong argument is rejected at once, with `TypeError` or `ValueError`. Calls to authsvc raise
`AuthError` (`from authsvc.client import AuthError, Reason`): its `reason` is one of
[reasons.md](reasons.md), `detail` is for your log alone, and `retry_after_seconds` says when
another attempt may succeed, where one may. Times are `float` seconds since the epoch (UTC). Only
`reveal()` returns the text of a `Secret`.
"""

_CONFIGURATION = """\
Each program reads a TOML file, which `--config` names. A setting outside of a list of tables can
also be an environment variable, which goes above the file. What is wrong, unknown, unsafe or
without effect stops the start and is named; `authsvc check-config` and `mcp-adapter check-config`
say the same without starting. A relative path is relative to the working directory of the program,
not to the folder of its configuration: write absolute paths. A table in an entry of a
list, such as `[issuers.claims]`, is of the entry above it.

A `listen` with a name listens at all addresses that the machine has of it, with one port;
`localhost` is 127.0.0.1 and ::1, as clients take it, and `[::]` is every address, those of IPv4
included. If one of them is taken, the start fails: clients would reach another program there.
"""

_RPCS = f"""\
Package `authsvc.v1`, from [`protos/{PROTO}`](../../protos/{PROTO}), which also has the conventions
for all of them. [reasons.md](reasons.md) has the reasons of errors.
"""


def configuration() -> str:
    """Every setting of each program."""
    parts = [
        MADE,
        "# Configuration\n",
        _CONFIGURATION,
    ]
    for program, settings in PROGRAMS:
        parts.append(f"## {program}\n")
        prefix = str(settings.model_config.get("env_prefix", ""))
        parts.extend(_tables(settings, prefix))
    return "\n".join(parts)


def _tables(
    model: type[BaseModel],
    prefix: str,
    path: str = "",
    *,
    is_list: bool = False,
    is_within_list: bool = False,
) -> list[str]:
    """The sections of a table and of those below it.

    Args:
        model: the table.
        prefix: of the program's variables.
        path: where it is; empty for the whole file.
        is_list: whether it is written as a list of tables.
        is_within_list: whether it, or a table that it is in, is: variables set nothing there.
    """
    plain = {name: it for name, it in model.model_fields.items() if not _model_of(it.annotation)}
    nested = {name: it for name, it in model.model_fields.items() if _model_of(it.annotation)}
    parts = []
    if path:
        parts.append(f"### `{f'[[{path}]]' if is_list else f'[{path}]'}`\n")
        parts.append(f"{_summary(model)}\n")
    if plain:
        parts.append("| setting | variable | value | default | |\n|---|---|---|---|---|")
        parts.extend(
            _row(name, field, "" if is_within_list else f"{prefix}{_variable(path)}{name.upper()}")
            for name, field in plain.items()
        )
        parts.append("")
    for name, field in nested.items():
        child, has_many = _model_of(field.annotation) or (BaseModel, False)
        below = f"{path}.{name}" if path else name
        within = is_within_list or has_many
        parts.extend(_tables(child, prefix, below, is_list=has_many, is_within_list=within))
    return parts


def _variable(path: str) -> str:
    return "".join(f"{part.upper()}__" for part in path.split(".") if part)


def _row(name: str, field: FieldInfo, variable: str) -> str:
    meaning = (field.description or "").replace("|", "\\|")
    shown = f"`{variable}`" if variable else ""
    return f"| `{name}` | {shown} | {_type(field.annotation)} | {_default(field)} | {meaning} |"


def _summary(model: type[BaseModel]) -> str:
    text = " ".join((model.__doc__ or "").split("\n\n")[0].split())
    _, colon, rest = text.partition(": ")
    return (rest[:1].upper() + rest[1:]) if colon and text.startswith("``") else text


def _model_of(annotation: Any) -> tuple[type[BaseModel], bool] | None:  # noqa: ANN401 - a type
    """The table that a setting is, and whether it is a list of them."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation, False
    for argument in get_args(annotation):
        if (found := _model_of(argument)) is not None:
            return found[0], get_origin(annotation) is tuple or found[1]
    return None


def _type(annotation: Any) -> str:  # noqa: ANN401 - a type
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Literal:
        return ", ".join(f"`{value}`" for value in arguments)
    if origin in {Union, types.UnionType}:
        return _type(next(it for it in arguments if it is not types.NoneType))
    if origin in {tuple, list, frozenset}:
        return f"list: {_type(arguments[0])}"
    if origin is dict:
        return f"table: {_type(arguments[1])}"
    if hasattr(annotation, "__metadata__"):
        return _type(origin if not arguments else arguments[0])
    names = {bool: "`true`, `false`", int: "integer", float: "number", Path: "path"}
    return names.get(annotation, "text")


def _default(field: FieldInfo) -> str:
    value = field.get_default(call_default_factory=True)
    if field.is_required() or value is PydanticUndefined:
        return "required"
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    if isinstance(value, (str, Path)):
        return f'`"{value}"`' if str(value) else ""
    if isinstance(value, (int, float)):
        return f"`{int(value) if value == int(value) else value}`"
    if isinstance(value, (tuple, list, frozenset)) and value:
        return ", ".join(f'`"{item}"`' for item in value)
    return ""


def rpcs() -> str:
    """Every RPC, message and field, with what the proto says of it."""
    file, comments = _described()
    parts = [
        MADE,
        "# RPCs\n",
        _RPCS,
    ]
    for index, service in enumerate(file.service):
        parts += [f"## {service.name}\n", comments.get((6, index), "")]
        for number, method in enumerate(service.method):
            asked, answered = (
                f"{'stream of ' if streams else ''}{_linked(name)}"
                for name, streams in (
                    (method.input_type, method.client_streaming),
                    (method.output_type, method.server_streaming),
                )
            )
            parts += [f"### {method.name}\n", f"{asked} → {answered}\n"]
            parts.append(comments.get((6, index, 2, number), ""))
    parts.append("## Messages\n")
    for index, message in enumerate(file.message_type):
        parts += _message(message, (4, index), comments)
    parts.append("## Enums\n")
    for index, enum in enumerate(file.enum_type):
        parts += [f"### {enum.name}\n", comments.get((5, index), "")]
        parts.append("| value | number | |\n|---|---|---|")
        for number, value in enumerate(enum.value):
            meaning = _line(comments.get((5, index, 2, number), ""))
            parts.append(f"| `{value.name}` | {value.number} | {meaning} |")
        parts.append("")
    return "\n".join(parts)


def _message(
    message: Any,  # noqa: ANN401 - a DescriptorProto
    path: tuple[int, ...],
    comments: dict[tuple[int, ...], str],
    outer: str = "",
) -> list[str]:
    name = f"{outer}{message.name}"
    parts = [f"### {name}\n", comments.get(path, "")]
    if message.field:
        parts.append("| field | number | type | |\n|---|---|---|---|")
    for number, field in enumerate(message.field):
        meaning = _line(comments.get((*path, 2, number), ""))
        kind = _short(field.type_name) or _SCALARS.get(field.type, "")
        repeated = "repeated " if field.label == field.LABEL_REPEATED else ""
        parts.append(f"| `{field.name}` | {field.number} | {repeated}{kind} | {meaning} |")
    parts.append("")
    for number, nested in enumerate(message.nested_type):
        parts += _message(nested, (*path, 3, number), comments, f"{name}.")
    return parts


_SCALARS = {
    3: "int64",
    4: "uint64",
    5: "int32",
    8: "bool",
    9: "string",
    12: "bytes",
    13: "uint32",
    1: "double",
}
"""Names of FieldDescriptorProto.Type."""


def _short(type_name: str) -> str:
    return type_name.rpartition(".authsvc.v1.")[2] or type_name.lstrip(".")


def _linked(type_name: str) -> str:
    """A message, with a link to its section; one of another package has none."""
    name = _short(type_name)
    return f"`{name}`" if "." in name else f"[{name}](#{name.lower()})"


def _line(comment: str) -> str:
    return " ".join(comment.split()).replace("|", "\\|")


def _described() -> tuple[FileDescriptorProto, dict[tuple[int, ...], str]]:
    """The proto, and its comments by the path of what they are about."""
    with tempfile.TemporaryDirectory() as folder:
        output = Path(folder) / "set"
        includes = [PROTOS, Path(protoc.__file__).parent / "_proto", *_site_packages()]
        arguments = [f"-I{path}" for path in includes]
        options = ["--include_source_info", f"--descriptor_set_out={output}", PROTO]
        if protoc.main(["protoc", *arguments, *options]) != 0:
            raise SystemExit("protoc has failed")
        described = FileDescriptorSet.FromString(output.read_bytes())
    file = next(it for it in described.file if it.name == PROTO)
    comments = {
        tuple(place.path): _paragraphs(place.leading_comments)
        for place in file.source_code_info.location
        if place.leading_comments
    }
    return file, comments


def _site_packages() -> Iterator[Path]:
    yield from (Path(entry) for entry in sys.path if entry.endswith("site-packages"))


def _paragraphs(comment: str) -> str:
    lines = [line.removeprefix(" ") for line in comment.splitlines()]
    return "\n".join(lines) + "\n"


def interfaces() -> str:
    """Every argument and method of what authors of MCP servers call, and the values' fields."""
    parts = [MADE, "# Python\n", _PYTHON]
    for module, called in INTERFACES:
        text = inspect.getdoc(called) or ""
        described = _described_arguments(text)
        name, imported = called.__qualname__, called.__qualname__.partition(".")[0]
        parts += [f"## {name}\n", f"`from {module} import {imported}`\n"]
        parts.append(f"{_plain(text.split(chr(10) * 2)[0])}\n")
        parameters = dict(inspect.signature(called).parameters)
        parameters.pop("self", None)  # of a method
        if parameters:
            parts.append("| argument | type | default | |\n|---|---|---|---|")
        elif described:
            parts.append("| attribute | |\n|---|---|")
            parts += [f"| `{name}` | {meaning} |" for name, meaning in described.items()]
        for name, parameter in parameters.items():
            kind = str(parameter.annotation).replace("|", "\\|")
            default = _shown_default(parameter)
            parts.append(f"| `{name}` | `{kind}` | {default} | {described[name]} |")
        parts.append("")
        if called in CALLED and (rows := list(_methods(called))):
            parts += ["| method | |\n|---|---|", *rows, ""]
    parts.append("## Values\n")
    for value in VALUES:
        parts += _value(value)
    return "\n".join(parts)


def _methods(of: object) -> Iterator[str]:
    """A row for each public method of a class: how it is called, and what it does."""
    for name, member in vars(of).items():
        method = member.__func__ if isinstance(member, classmethod) else member
        if name.startswith("_") or not inspect.isfunction(method):
            continue
        text = inspect.getdoc(method) or ""
        signature = inspect.signature(method)
        arguments = list(map(_argument, list(signature.parameters.values())[1:]))
        for place, parameter in enumerate(list(signature.parameters.values())[1:]):
            if parameter.kind is parameter.KEYWORD_ONLY:
                arguments.insert(place, "*")
                break
        call = f"{_how(method)}{name}({', '.join(arguments)}) -> {signature.return_annotation}"
        shown = call.replace("|", "\\|")
        yield f"| `{shown}` | {_line(_plain(text.split(chr(10) * 2)[0]))} |"


def _how(method: Callable[..., object]) -> str:
    if inspect.isasyncgenfunction(inspect.unwrap(method)):
        return "async with " if hasattr(method, "__wrapped__") else "async for "
    return "await " if inspect.iscoroutinefunction(method) else ""


def _argument(parameter: inspect.Parameter) -> str:
    default = parameter.default
    shown = f"{parameter.name}: {parameter.annotation}"
    if default is parameter.empty:
        return shown
    if isinstance(default, Enum):
        return f"{shown} = {default}"
    if isinstance(default, RecordFilter):
        return f"{shown} = RecordFilter()"
    return f"{shown} = {default!r}"


def _value(of: type) -> list[str]:
    """The section of a dataclass."""
    text = inspect.getdoc(of) or ""
    described = _described_arguments(text)
    parts = [f"### {of.__name__}\n"]
    if of.__name__ in client.__all__:  # the others are had from these
        parts.append(f"`from authsvc.client import {of.__name__}`\n")
    parts += [
        f"{_plain(text.partition('Attributes:')[0])}\n",
        "| field | type | |\n|---|---|---|",
    ]
    for field in (field for field in fields(of) if field.init):
        kind = str(field.type).replace("|", "\\|")
        parts.append(f"| `{field.name}` | `{kind}` | {described.get(field.name, '')} |")
    return [*parts, ""]


def _described_arguments(text: str) -> dict[str, str]:
    """By name, what a docstring says of an argument."""
    section = re.search(r"^(?:Args|Attributes):\n((?:    .*\n?|\n)+)", text, re.MULTILINE)
    entries = re.split(r"^    (\w+): ", section[1] if section else "", flags=re.MULTILINE)[1:]
    return {
        name: _line(_plain(meaning))
        for name, meaning in zip(entries[::2], entries[1::2], strict=True)
    }


def _plain(text: str) -> str:
    return " ".join(text.replace("``", "`").split())


def _shown_default(parameter: inspect.Parameter) -> str:
    value = parameter.default
    if value is parameter.empty:
        return "required"
    if callable(value):
        return f"`{value.__name__}`"
    # A dataclass has a mark in place of what it makes.
    return "" if "factory" in repr(value) else f"`{value!r}`"


_TOOLS = """\
The reference server's tools; [tools.md](../tools.md) says how they behave, and how to add one.
"""


def tools() -> str:
    """Every tool of the reference server, from its declaration."""
    return "\n".join([MADE, "# Tools\n", _TOOLS, reference(OWN)])


def pages() -> Iterable[tuple[Path, str]]:
    """What is made, and where it goes."""
    yield FOLDER / "configuration.md", configuration()
    yield FOLDER / "rpc.md", rpcs()
    yield FOLDER / "python.md", interfaces()
    yield FOLDER / "reasons.md", f"{MADE}\n{reasons()}"
    yield FOLDER / "tools.md", tools()
    yield from chart.pages()


def main() -> None:
    """Write the pages, or check them."""
    stale = []
    for path, page in pages():
        text = page.rstrip("\n") + "\n"
        if "--check" not in sys.argv[1:]:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
        elif not path.exists() or path.read_text(encoding="utf-8") != text:
            stale.append(str(path.relative_to(ROOT)))
    if stale:
        raise SystemExit(f"not as the code has it, run `make reference`: {', '.join(stale)}")


if __name__ == "__main__":
    main()
