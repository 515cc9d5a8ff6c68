"""From ``[[callers]]`` and ``resources`` to the callers that are authorized."""

from __future__ import annotations

from pathlib import Path

from authsvc.access.callers import LOCAL_CALLER, Caller, Callers
from authsvc.access.service_tokens import ServiceTokenFile
from authsvc.common.file_faults import file_fault
from authsvc.common.settings import ConfigError
from authsvc.server.config import Settings


def callers_of(settings: Settings) -> Callers:
    """The registered callers, or the local one.

    Raises:
        ConfigError: a service token's file cannot be used, or two callers have the same token or
            certificate name.
    """
    registered = [
        Caller(
            name=item.name,
            resources=frozenset(item.resources),
            admin=item.admin,
            certificate_names=frozenset(item.certificate_names),
            token_digests=tuple(bytes.fromhex(digest) for digest in item.service_token_sha256),
            token_files=tuple(
                _service_token_file(path, f"callers[{item.name}].service_token_files")
                for path in item.service_token_files
            ),
        )
        for item in settings.callers
    ]
    resources, is_operator = frozenset(settings.resources), settings.local_operators
    local = Caller(LOCAL_CALLER, resources, admin=is_operator) if resources else None
    try:
        return Callers(registered, local=local)
    except ValueError as error:
        raise ConfigError(f"callers: {error}") from None


def _service_token_file(path: Path, setting: str) -> ServiceTokenFile:
    try:
        return ServiceTokenFile(path)
    except OSError as error:
        raise ConfigError(f"{setting}: {file_fault(path, error)}") from None
    except ValueError as error:
        raise ConfigError(f"{setting}: {path}: {error}") from None
