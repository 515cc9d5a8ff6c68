"""The files of ``[tls]``: whether they can be read. TLS libraries name no file."""

from __future__ import annotations

from authsvc.common.config_faults import ConfigFaults
from authsvc.common.file_faults import file_fault
from authsvc.server.config import TlsSettings


def check_readable(table: TlsSettings) -> None:
    """
    Raises:
        ConfigError: files cannot be read: one line for each.
    """
    faults = ConfigFaults()
    for name in ("certificate_file", "key_file", "client_ca_file"):
        path = getattr(table, name)
        try:
            if path is not None:
                path.read_bytes()
        except OSError as error:
            faults.add(f"tls.{name}: {file_fault(path, error)}")
    faults.check()
