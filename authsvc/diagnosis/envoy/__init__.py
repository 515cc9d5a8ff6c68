"""A gateway that asks authsvc (Envoy's ext_authz): what passes it, and what authsvc gets to see."""

from __future__ import annotations

import asyncio
from functools import partial
from pathlib import Path

from authsvc.diagnosis import Check, Report
from authsvc.diagnosis.envoy import filters, metadata, reading, routes
from authsvc.diagnosis.envoy.configuration import Envoy, envoy_of
from authsvc.diagnosis.envoy.faults import Faults
from authsvc.diagnosis.envoy.registrations import Registrations
from authsvc.net.urls import shown_url
from authsvc.server.config import Settings

_REMEDY = (
    "Give --envoy the file that Envoy starts with, a file with its dump, or the URL of its admin "
    "listener, such as http://127.0.0.1:9901."
)


def check(source: str, settings: Settings | None) -> Check:
    """What a gateway lets through, and whether its resources are authsvc's.

    Args:
        source: a file, or the URL of Envoy's admin listener.
        settings: of authsvc; None where they are not at hand.
    """
    look = partial(_look_at, source=source, settings=settings)
    return Check("gateway", look, _REMEDY, shown_url(source))


async def _look_at(report: Report, *, source: str, settings: Settings | None) -> None:
    if source.startswith(("http://", "https://")):
        content = await reading.fetched(source)
    else:
        content = await asyncio.to_thread(reading.read, Path(source))
    # In a thread: a dump of tens of megabytes takes seconds.
    await asyncio.to_thread(_examine, report, source, content, settings)


def _examine(report: Report, source: str, content: bytes, settings: Settings | None) -> None:
    try:
        envoy = envoy_of(reading.parsed(content))
    except ValueError as error:
        report.fail(f"{shown_url(source)} {error}", _REMEDY)
        return
    faults, registrations = Faults(), Registrations(settings, envoy)
    named = routes.named_resources(envoy)
    resources = sorted(registrations.resources | named)
    managers = [it for it in envoy.managers if it.filters]
    for manager in managers:
        for filtered in manager.filters:
            filters.examine(faults, envoy, manager, filtered)
            registrations.examine(faults, filtered, filters.place_of(manager, filtered))
        routes.examine(faults, manager, resources, registrations)
        metadata.examine(faults, manager, registrations.routes)
        for unread in manager.unread:
            faults.warn(f"not examined: {unread}", _unread_remedy(envoy), manager.place)
    if registrations.is_served(report):
        unused = set(registrations.unused(managers, named))
        for resource in sorted(unused):
            faults.note("no route leads to this resource of [[ext_authz.routes]]", resource)
        used = {*named, *(it.resource for it in registrations.routes)} - unused
        metadata.examine_servers(faults, used & registrations.resources, registrations.routes)
    faults.report_to(report)
    _conclude(report, envoy, len(managers), is_compared=registrations.is_known)


def _unread_remedy(envoy: Envoy) -> str:
    if envoy.is_dump:
        return "Look at it by hand."
    return "Give --envoy the URL of the admin listener: a running Envoy has them."


def _conclude(report: Report, envoy: Envoy, count: int, *, is_compared: bool) -> None:
    if not count:
        report.fail(
            f"no ext_authz filter is in any of {len(envoy.managers)} HTTP connection managers: "
            "nothing asks authsvc",
            "Add the filter (docs/gateways.md). If a control plane configures this Envoy, give "
            "--envoy the URL of its admin listener.",
        )
    elif not is_compared:
        report.note(
            "the resources of its routes were not compared with authsvc's, whose configuration is "
            "not given, or has faults"
        )
    elif not report.findings:
        managers = "manager" if count == 1 else "managers"
        report.ok(f"ext_authz in {count} HTTP connection {managers}: nothing to mend")
