"""``authsvc doctor``."""

from __future__ import annotations

import asyncio
import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

import click

from authsvc.cli import check_config
from authsvc.cli.configuration import config_option
from authsvc.cli.connection import Connection, admin_options
from authsvc.cli.failing import Failure
from authsvc.cli.output import as_json_option, plural, print_json, print_line
from authsvc.common.formats import check_base_url
from authsvc.common.printable import printable
from authsvc.net.addresses import from_here
from authsvc.net.urls import base_fault, resource_fault

if TYPE_CHECKING:
    # Slow to import.
    from authsvc.diagnosis import Check, Finding, Report
    from authsvc.diagnosis.adapter import AdapterSettings
    from authsvc.server.config import Settings

_MEND_CONFIGURATION = (
    "Correct the setting, or the file that it names. `check-config` says whether all are right."
)

_MAX_SHOWN = 5
"""Checks that a line of progress names."""

_COLOURS = {"ok": "green", "note": "cyan", "warn": "yellow", "fail": "red"}


@click.command(
    epilog="Example: authsvc doctor --adapter-config adapter.toml --config authsvc.toml. On a "
    "machine that has only one of the two files, give only that one."
)
@config_option
@click.option(
    "--adapter-config",
    type=click.Path(path_type=Path, dir_okay=False),
    help="The adapter's TOML file.",
)
@click.option("--adapter-url", help="URL of the adapter, if not the address in its file.")
@click.option(
    "--gate",
    help="URL of an MCP server behind a gate of your own, as its clients know it.",
)
@click.option(
    "--envoy",
    metavar="SOURCE",
    help="An Envoy that asks authsvc (ext_authz): the file it starts with, a file with its "
    "config_dump, or the URL of its admin listener.",
)
@admin_options
@as_json_option
@click.pass_context
def command(
    ctx: click.Context,
    connection: Connection,
    config: Path | None,
    adapter_config: Path | None,
    adapter_url: str | None,
    gate: str | None,
    envoy: str | None,
    as_json: bool,
) -> None:
    """Diagnose the chain from the gateway or adapter to the store, with a remedy for each fault.

    Checks the configurations, what a gateway lets through, the adapter's answers, the connection
    to every replica, issuers, introspection, the store, their clocks, the keys of
    assertions, the receiver of signals and the broker. With an operator's service token or
    certificate, also checks the running service's status. Changes nothing. All checks run at the
    same time; --timeout-seconds bounds each, and twice that all of them.

    Exit code 0 if nothing fails; warnings do not count.
    """
    if config is None and adapter_config is None and gate is None and envoy is None:
        raise Failure("give --config, --adapter-config, --gate or --envoy, or several of them")
    _check_urls(adapter_config, adapter_url, gate, envoy)
    is_given = ctx.get_parameter_source("target") is not click.core.ParameterSource.DEFAULT
    target = connection.target if is_given else None
    with _unlogged():
        checks = _checks(config, adapter_config, adapter_url, gate, envoy, connection, target)
        failed = asyncio.run(_report(checks, connection.timeout_seconds, as_json=as_json))
    sys.exit(1 if failed else 0)


@contextmanager
def _unlogged() -> Iterator[None]:
    """Without a handler, logging writes warnings to stderr, amid the findings that say the same."""
    handler = logging.NullHandler()
    logging.getLogger().addHandler(handler)
    try:
        yield
    finally:
        logging.getLogger().removeHandler(handler)


def _check_urls(
    adapter_config: Path | None, adapter_url: str | None, gate: str | None, envoy: str | None
) -> None:
    """
    Raises:
        Failure: an option has no effect, or is no URL.
    """
    if adapter_url is not None:
        if adapter_config is None:
            raise Failure(
                "--adapter-url is for the adapter of --adapter-config; for a gate of your own, "
                "give --gate"
            )
        try:
            check_base_url(adapter_url)
        except ValueError as error:
            raise Failure(f"--adapter-url {error}") from None
    if gate is not None and (fault := resource_fault(gate)):
        raise Failure(f"--gate is the URL of an MCP server like https://h/mcp: it {fault}")
    if envoy is not None and "://" in envoy and (fault := base_fault(envoy)):
        raise Failure(f"--envoy is a file, or a URL like http://127.0.0.1:9901: it {fault}")


async def _report(checks: list[Check], seconds: float, *, as_json: bool) -> bool:
    """Print all findings; whether something fails."""
    from authsvc.common.daemon_threads import DaemonThreads
    from authsvc.diagnosis import diagnose

    asyncio.get_running_loop().set_default_executor(DaemonThreads())
    findings = []
    waiting = _print_waiting if sys.stderr.isatty() else _print_nothing
    async for finding in diagnose(checks, timeout_seconds=seconds, waiting=waiting):
        findings.append(finding)
        if not as_json:
            _print(finding)
    levels = [str(finding.level) for finding in findings]
    failed, warned = levels.count("fail"), levels.count("warn")
    if as_json:
        print_json({"healthy": not failed, "findings": list(map(_document, findings))})
    else:
        print_line(f"{plural(failed, 'failure')}, {plural(warned, 'warning')}.")
    return failed > 0


def _print_waiting(checks: list[Check]) -> None:
    """Progress, for somebody at a terminal."""
    names = [f"{it.subject} {it.name}".rstrip() for it in checks]
    more = f" and {len(names) - _MAX_SHOWN} more" if len(names) > _MAX_SHOWN else ""
    print_line(f"      … waiting for {', '.join(names[:_MAX_SHOWN])}{more}", err=True)


def _print_nothing(checks: list[Check]) -> None:
    """Without a terminal."""


def _print(finding: Finding) -> None:
    mark = click.style(finding.level.ljust(4), fg=_COLOURS[finding.level])
    click.echo(f"{mark}  {finding.subject.ljust(16)}  {printable(finding.text)}")
    if finding.remedy:
        click.echo(f"{' ' * 24}→ {printable(finding.remedy)}")


def _document(finding: Finding) -> dict[str, object]:
    return {
        "level": str(finding.level),
        "subject": finding.subject,
        "text": finding.text,
        "remedy": finding.remedy or None,
    }


def _checks(
    config: Path | None,
    adapter_config: Path | None,
    adapter_url: str | None,
    gate_url: str | None,
    envoy_source: str | None,
    connection: Connection,
    target: str | None,
) -> list[Check]:
    """The checks that the given options allow, in the order of the chain."""
    from authsvc.diagnosis import (
        adapter,
        assertion_keys,
        audit_file,
        clocks,
        envoy,
        gate,
        introspection,
        issuers,
        service,
        signals,
        store,
    )

    settings, of_adapter, checks = _read(config, adapter_config)
    if envoy_source is not None:
        checks.append(envoy.check(envoy_source, settings))
    if gate_url is not None:
        checks.append(gate.check(gate_url, settings))
    if of_adapter is not None:
        checks.append(adapter.running(of_adapter, adapter_url or adapter.own_url(of_adapter)))
    if of_adapter is not None and settings is not None:
        checks.append(service.agreement(settings, of_adapter))
    checks += _of_authsvc(settings, of_adapter, connection, target)
    if settings is not None:
        of_service = (issuers, introspection, store, clocks, assertion_keys, signals, service)
        checks += [check for module in of_service for check in module.checks(settings)]
    checks += audit_file.checks(settings, of_adapter)
    return checks


def _of_authsvc(
    settings: Settings | None,
    of_adapter: AdapterSettings | None,
    connection: Connection,
    target: str | None,
) -> list[Check]:
    """The checks of an authsvc that runs: as the adapter calls it, or where it listens."""
    from authsvc.diagnosis import Check, certificates, link, listening, service, signals

    seconds, tls = connection.timeout_seconds, connection.tls()
    checks = []
    where = target or connection.target
    if of_adapter is not None:
        way = of_adapter.authsvc
        where = target or way.target
        checks.append(certificates.check(way.certificate_files()))
        checks += link.files(way.tls())
        checks.append(link.replicas(way.target, way.tls(), seconds))
        checks.append(link.caller(way.target, way.tls(), of_adapter.resource, seconds))
    elif target is not None:
        checks.append(link.replicas(target, tls, seconds))
    elif settings is not None:
        where = from_here(settings.listen)
        checks.append(listening.check(settings, tls, seconds))
    else:
        checks.append(Check("authsvc", _not_asked, ""))
    checks[:0] = link.files(tls)
    if tls is not None and (tls.service_token_file or tls.certificate_file):
        checks.append(service.admin(where, tls, seconds))
        if settings is not None and settings.signals is not None:
            checks.append(signals.running(where, tls, seconds))
    return checks


async def _not_asked(report: Report) -> None:
    report.note("it was not asked: give --config on its machine, or --target")


def _read(
    config: Path | None, adapter_config: Path | None
) -> tuple[Settings | None, AdapterSettings | None, list[Check]]:
    """Both configurations as far as they are valid, and a check that reports their problems."""
    from authsvc.common.settings import ConfigError, load
    from authsvc.diagnosis import Check, adapter
    from authsvc.server.config import Settings

    settings, of_adapter = None, None
    problems: dict[Path, list[str]] = {}
    if adapter_config is not None:
        problems[adapter_config] = []
        try:
            of_adapter = load(adapter.AdapterSettings, adapter_config)
        except ConfigError as error:
            problems[adapter_config] = str(error).splitlines()
    if config is not None:
        problems[config] = check_config.problems(config)
        with suppress(ConfigError):
            settings = load(Settings, config)

    async def report_problems(report: Report) -> None:
        for path, wrong in problems.items():
            for problem in wrong:
                report.fail(problem, _MEND_CONFIGURATION)
            if not wrong:
                report.ok(f"{path} is valid")

    return settings, of_adapter, [Check("configuration", report_problems, "")]
