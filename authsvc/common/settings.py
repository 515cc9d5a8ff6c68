"""Loads settings from a TOML file and the environment, which overrides the file."""

from __future__ import annotations

import os
import tomllib
from pathlib import Path
from typing import Annotated, Any, TypeVar

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, ValidationError
from pydantic.fields import FieldInfo
from pydantic_settings import (
    BaseSettings,
    EnvSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
)

from authsvc.common.formats import check_resource, spelled_resource
from authsvc.common.setting_errors import Source
from authsvc.common.setting_rules import CheckedTable, Location


class ConfigError(Exception):
    """The configuration is unsafe, incomplete or wrong; the message names the setting."""


class Table(CheckedTable):
    """A table of the file. Unknown names are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


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


class _Variables(EnvSettingsSource):
    """The variables of a program. One that should be JSON and is not is an error of its setting."""

    def decode_complex_value(self, field_name: str, field: FieldInfo, value: str) -> object:
        """The value of a list or a table, or the string if it is not JSON."""
        try:
            decoded: object = super().decode_complex_value(field_name, field, value)
        except ValueError:
            return value
        return decoded

    def __call__(self) -> dict[str, Any]:
        """What the variables set. pydantic-settings would leave out unknown names."""
        return {
            str(where[0]): None for where in _variables_of(self.settings_cls)
        } | super().__call__()


class FileSettings(CheckedTable, BaseSettings):
    """All settings of one program. A subclass sets ``env_prefix``.

    One that reads a part of another program's settings sets ``extra="ignore"``.
    """

    model_config = SettingsConfigDict(
        env_nested_delimiter="__", extra="forbid", frozen=True, allow_inf_nan=False
    )

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """What it is given; ``load`` adds the environment."""
        return (init_settings,)


OTHER_PREFIXES = ("AUTHSVC_ADMIN_", "AUTHSVC_CLIENT_", "AUTHSVC_CONSOLE_")
"""Prefixes of variables that belong to other programs, and begin like authsvc's own: the operators'
command line, ``credential-process`` and the console."""

SettingsT = TypeVar("SettingsT", bound=FileSettings)


def load(settings_class: type[SettingsT], path: Path | None) -> SettingsT:
    """Read settings from ``path``, each overridden by its environment variable.

    Raises:
        ConfigError: one line for each wrong setting. Values are not shown: they may be secret.
    """
    from_file = _read(path) if path else {}
    from_variables = _Variables(settings_class)()
    settings = settings_class.__new__(settings_class)
    try:
        # BaseSettings' own would take names like _env_prefix as options, and Listen as listen.
        BaseModel.__init__(settings, **_merged(from_file, from_variables))
    except ValidationError as error:
        variables = _variables_of(settings_class)
        source = Source(settings_class, path, from_file, variables, from_variables)
        lines = [source.line(item) for item in error.errors(include_url=False)]
        raise ConfigError("\n".join(lines)) from None
    return settings


def _merged(file: dict[str, Any], variables: dict[str, Any]) -> dict[str, Any]:
    """The values of both. Of a setting that both have, the variable's applies."""
    tables = {
        name: _merged(file[name], variables[name])
        for name in file.keys() & variables.keys()
        if isinstance(file[name], dict) and isinstance(variables[name], dict)
    }
    return file | variables | tables


def _read(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: not TOML: {error}") from None


def _variables_of(settings_class: type[BaseSettings]) -> dict[Location, str]:
    """The variables with the prefix of these settings, by the setting that each sets."""
    prefix = settings_class.model_config.get("env_prefix", "")
    others = tuple(other for other in OTHER_PREFIXES if not prefix.startswith(other))
    return {
        tuple(variable[len(prefix) :].lower().split("__")): variable
        for variable in sorted(os.environ)
        if variable.upper().startswith(prefix) and not variable.upper().startswith(others)
    }
