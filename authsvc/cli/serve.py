"""``authsvc serve``."""

from __future__ import annotations

from pathlib import Path

import click

from authsvc.cli.configuration import config_errors, config_option, load_settings
from authsvc.common.process import forbid_core_dumps, imports_of_a_server


@click.command(
    epilog="Example: authsvc serve --config authsvc.toml. See also `authsvc check-config`."
)
@config_option
@click.option(
    "--lifeline",
    type=(int, int),
    hidden=True,
    help="File descriptors that tie a worker to its supervisor.",
)
def command(config: Path | None, lifeline: tuple[int, int] | None) -> None:
    """Serve AuthService over gRPC until SIGTERM or Ctrl-C. SIGHUP has changed files read now."""
    # Imported here so that help and usage errors are fast; this one before those that take long.
    from authsvc.common import hangup

    hangup.ignore_hangups()
    with imports_of_a_server():
        from authsvc.common import event_loop
        from authsvc.telemetry import logs

    with config_errors():
        event_loop.require_supported_platform()
    with imports_of_a_server():
        from authsvc.server import running as server
        from authsvc.server import workers

    settings = load_settings(config)
    with config_errors():
        logs.configure(settings.log_level, settings.log_format)
        if not settings.allow_core_dumps:
            forbid_core_dumps()
        if lifeline is not None:
            event_loop.run(server.serve(settings, workers.Lifeline(*lifeline)))
        elif settings.workers > 1:
            settings.audit.check_file(settings.audit_file, "audit_file")
            again = ["serve", *(("--config", str(config)) if config else ())]
            event_loop.run(workers.supervise(settings, workers.worker_command(again)))
        else:
            event_loop.run(server.serve(settings))
