"""The settings with which a program reaches authsvc: its address, and the program's credentials."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, Field

from authsvc.client.targets import Targets
from authsvc.client.tls import ClientTls, file_faults
from authsvc.common.setting_rules import Fault, rule
from authsvc.common.settings import ConfigError, Table


def _target(target: str) -> str:
    Targets.parse(target)
    return target


class AuthsvcAddress(Table):
    """Common to the ``[authsvc]`` tables of all programs that call authsvc."""

    target: Annotated[str, AfterValidator(_target)] = Field(
        default="127.0.0.1:50051",
        description="host:port or unix:/path; dns:///host:port for a replica at each address of a "
        "name; several with commas between.",
    )
    certificate_file: Path | None = Field(
        default=None, description="PEM chain of this program's client certificate."
    )
    key_file: Path | None = Field(default=None, description="PEM key of certificate_file.")
    service_token_file: Path | None = Field(
        default=None, description="This program's service token, in place of a client certificate."
    )

    @rule
    def _has_both_or_neither(self) -> Iterator[Fault]:
        if (self.certificate_file is None) != (self.key_file is None):
            yield Fault("certificate_file and key_file go together")

    def certificate_files(self, ca_file: Path | None) -> dict[str, Path | None]:
        """The files of certificates of ``tls``, by setting."""
        files = {"ca_file": ca_file, "certificate_file": self.certificate_file}
        return {f"authsvc.{name}": path for name, path in files.items()}

    def tls(self, ca_file: Path) -> ClientTls:
        """How to authenticate authsvc, and this program to it.

        Args:
            ca_file: PEM certificates of the authorities that sign authsvc's certificate.

        Raises:
            ConfigError: files with certificates or the key cannot be used: one line for each.
        """
        tls = ClientTls(ca_file, self.certificate_file, self.key_file, self.service_token_file)
        if faults := file_faults(replace(tls, service_token_file=None)):
            raise ConfigError("\n".join(f"authsvc: {it}" for it in faults))
        return tls
