"""Loads settings from a TOML file and the environment, which overrides the file."""

from __future__ import annotations

import os
import tomllib
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any, TypeVar

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, ValidationError
from pydantic_core import ErrorDetails
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from authsvc.common.formats import check_resource, spelled_resource


class ConfigError(Exception):
    """The configuration is unsafe, incomplete or wrong; the message names the setting."""


class Table(BaseModel):
    """A table of the file. Unknown names are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True)


Resource = Annotated[str, AfterValidator(check_resource)]
"""The canonical URI of an MCP server."""


def _check_spellings(table: object) -> object:
    names = [spelled_resource(str(name)) for name in table] if isinstance(table, dict) else []
    for name in names:
        if names.count(name) > 1:
            raise ValueError(f"names {name!r} twice, in two spellings")
    return table


ValueT = TypeVar("ValueT")

ByResource = Annotated[dict[Resource, ValueT], BeforeValidator(_check_spellings)]
"""A table by resource. Of two spellings of one resource, only the last would count."""


class FileSettings(BaseSettings):
    """All settings of one program. A subclass sets ``env_prefix``.

    One that reads a part of another program's settings sets ``extra="ignore"``.
    """

    model_config = SettingsConfigDict(env_nested_delimiter="__", extra="forbid", frozen=True)

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """The environment, then what ``load`` read from the file; no other source."""
        return env_settings, init_settings


OTHER_PREFIXES = ("AUTHSVC_ADMIN_", "AUTHSVC_CONSOLE_")
"""Prefixes of variables that belong to other programs, and begin like authsvc's own: the operators'
command line and the console."""

SettingsT = TypeVar("SettingsT", bound=FileSettings)


def load(settings_class: type[SettingsT], path: Path | None) -> SettingsT:
    """Read settings from ``path``, each overridden by its environment variable.

    Raises:
        ConfigError: one line for each wrong setting. Values are not shown: they may be secret.
    """
    from_file = _read(path) if path else {}
    if settings_class.model_config.get("extra") != "ignore":
        _reject_unknown_variables(settings_class)
    try:
        return settings_class(**from_file)
    except ValidationError as error:
        source = f"{path}: " if path else ""
        lines = [
            f"{source}{'.'.join(map(str, item['loc'])) or 'settings'}: "
            f"{_explained(item, settings_class)}"
            for item in error.errors(include_url=False, include_input=False)
        ]
        raise ConfigError("\n".join(lines)) from None
    except ValueError as error:
        # An environment variable that should hold JSON and does not.
        raise ConfigError(str(error)) from None


def _read(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: not TOML: {error}") from None


def _explained(item: ErrorDetails, settings_class: type[FileSettings]) -> str:
    kind = item["type"]
    if kind == "missing":
        return "is required"
    if kind == "extra_forbidden":
        return _unknown(str(item["loc"][-1]), settings_class)
    return str(item["msg"]).removeprefix("Value error, ")


def _unknown(name: str, settings_class: type[FileSettings]) -> str:
    """The error for an unknown setting, with the nearest name that exists."""
    schema = settings_class.model_json_schema()
    tables = (schema, *schema.get("$defs", {}).values())
    names = {name for table in tables for name in table.get("properties", ())}
    near = get_close_matches(name, sorted(names), n=1)
    return f"there is no such setting; is it {near[0]}?" if near else "there is no such setting"


def _reject_unknown_variables(settings_class: type[FileSettings]) -> None:
    prefix = settings_class.model_config.get("env_prefix", "")
    for variable in os.environ:
        if not variable.startswith(prefix) or (
            variable.startswith(OTHER_PREFIXES) and not prefix.startswith(OTHER_PREFIXES)
        ):
            continue
        name = variable.removeprefix(prefix).split("__")[0].lower()
        if name not in settings_class.model_fields:
            raise ConfigError(f"{variable}: {_unknown(name, settings_class)}")
