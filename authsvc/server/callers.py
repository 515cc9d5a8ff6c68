"""From ``[[callers]]`` and ``resources`` to the callers that are authorized."""

from __future__ import annotations

from collections.abc import Iterator

from authsvc.access.callers import LOCAL_CALLER, Caller, Callers
from authsvc.access.service_tokens import ServiceTokenFile
from authsvc.common.config_faults import ConfigFaults
from authsvc.common.file_faults import file_fault
from authsvc.common.settings import ConfigError
from authsvc.server.config import CallerSettings, Settings


def callers_of(settings: Settings) -> Callers:
    """The registered callers, or the local one.

    Raises:
        ConfigError: files of service tokens cannot be used, one line for each; or two callers have
            the same token or certificate name.
    """
    faults = ConfigFaults()
    registered = [
        Caller(
            name=item.name,
            resources=frozenset(item.resources),
            admin=item.admin,
            certificate_names=frozenset(item.certificate_names),
            token_digests=tuple(bytes.fromhex(digest) for digest in item.service_token_sha256),
            token_files=tuple(_service_token_files(item, faults)),
        )
        for item in settings.callers
    ]
    faults.check()
    resources, is_operator = frozenset(settings.resources), settings.local_operators
    local = Caller(LOCAL_CALLER, resources, admin=is_operator) if resources else None
    try:
        return Callers(registered, local=local)
    except ValueError as error:
        raise ConfigError(f"callers: {error}") from None


def _service_token_files(table: CallerSettings, faults: ConfigFaults) -> Iterator[ServiceTokenFile]:
    """Those that can be used; what is wrong with the others is added to ``faults``."""
    setting = f"callers[{table.name}].service_token_files"
    for path in table.service_token_files:
        try:
            yield ServiceTokenFile(path)
        except OSError as error:
            faults.add(f"{setting}: {file_fault(path, error)}")
        except ValueError as error:
            faults.add(f"{setting}: {path}: {error}")
