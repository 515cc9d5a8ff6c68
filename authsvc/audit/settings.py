"""``[audit]``, which authsvc and the adapter share."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

from pydantic import BaseModel, Field

from authsvc.audit import private_file
from authsvc.audit.calls import DEFAULT_SAMPLE_RATIO, AuditFormat, CallAudit, CallsAudited
from authsvc.common.file_faults import file_fault
from authsvc.common.setting_rules import Fault, rule
from authsvc.common.settings import ConfigError, Table


class AuditSettings(Table):
    """``[audit]``: which calls are audited, and the format of the file of events."""

    calls: CallsAudited = Field(
        default="off",
        description="Which calls of MCP clients are audited: none, a ratio of them (sample_ratio), "
        "or all. Security events always are.",
    )
    sample_ratio: float = Field(
        default=DEFAULT_SAMPLE_RATIO,
        gt=0,
        le=1,
        description='Ratio of the calls that are audited with calls = "sampled".',
    )
    format: AuditFormat = Field(
        default="json",
        description="Format of the file: json, lines as in the log; or ocsf, OCSF 1.8.0.",
    )

    @rule
    def _ratio_counts(self) -> Iterator[Fault]:
        if "sample_ratio" in self.model_fields_set and self.calls != "sampled":
            yield Fault(
                f'has no effect with calls = "{self.calls}": set calls = "sampled", or remove it',
                ("sample_ratio",),
            )

    def opened(
        self, file: Path | None, setting: str, traceparent: Callable[[], str] = str
    ) -> CallAudit:
        """The audit of calls, to be closed.

        Args:
            file: events are appended to it; None for the log.
            setting: the setting that names the file.
            traceparent: see ``CallAudit``.

        Raises:
            ConfigError: the file cannot be written.
        """
        try:
            return CallAudit(
                self.calls,
                sample_ratio=self.sample_ratio,
                file=file,
                format=self.format,
                traceparent=traceparent,
            )
        except OSError as error:
            raise ConfigError(f"{setting}: {file_fault(Path(str(file)), error)}") from None

    @staticmethod
    def check_file(file: Path | None, setting: str) -> None:
        """Check that the file could be opened. It is neither made nor changed.

        Args:
            file: as of ``opened``.
            setting: likewise.

        Raises:
            ConfigError: the file cannot be written.
        """
        if file is None:
            return
        try:
            private_file.check_file(file)
        except OSError as error:
            raise ConfigError(f"{setting}: {file_fault(file, error)}") from None


def other_setting_of(file: Path, model: BaseModel, own: str) -> str:
    """Another setting that names the same file: events in it would spoil a database or a key.

    Args:
        file: of events.
        model: the settings.
        own: the setting of that file, with dots.

    Returns:
        Its name; empty if there is none.
    """
    where = file.resolve()
    return next(
        (name for name, path in _paths(model, "") if name != own and path.resolve() == where), ""
    )


def _paths(value: object, name: str) -> Iterator[tuple[str, Path]]:
    """Each path in settings, with the name of its setting."""
    if isinstance(value, Path):
        yield name, value
    elif isinstance(value, BaseModel):
        for key, inner in value:
            yield from _paths(inner, f"{name}.{key}" if name else key)
    elif isinstance(value, tuple):
        for number, inner in enumerate(value):
            yield from _paths(inner, f"{name}[{number}]")


class ServiceAuditSettings(AuditSettings):
    """``[audit]`` of authsvc: which calls and sessions are audited, and the format of the file of
    events."""

    sessions: bool = Field(
        default=True,
        description="Whether security events say who created, re-authenticated and ended which "
        "session. Revocations are always audited.",
    )


class AuditFileSettings(AuditSettings):
    """``[audit]``: which calls are audited, and where."""

    file: Path | None = Field(
        default=None,
        description="A file that calls are appended to, readable by its owner alone. Without it "
        "they are in the log.",
    )

    @rule
    def _format_has_a_file(self) -> Iterator[Fault]:
        if self.format != "json" and self.file is None:
            yield Fault("is the format of file: set file, too", ("format",))

    @rule
    def _file_has_calls(self) -> Iterator[Fault]:
        if self.file is not None and self.calls == "off":
            yield Fault(
                'stays empty with calls = "off": set calls = "full" or "sampled", or remove it',
                ("file",),
            )
