"""authsvc itself: its configuration, its certificate, its broker, and whether operators get in."""

from __future__ import annotations

import asyncio
import time
from functools import partial
from urllib.parse import urlsplit

from cryptography import x509

from authsvc.client import AdminClient, ClientTls
from authsvc.diagnosis import Check, Report, cause, directly
from authsvc.diagnosis.adapter import AdapterSettings
from authsvc.diagnosis.link import check_certificate
from authsvc.domain.errors import AuthError, Reason
from authsvc.server.brokers import open_broker
from authsvc.server.config import Settings


def checks(settings: Settings) -> list[Check]:
    """Of authsvc's configuration."""
    found = [Check("credentials", partial(_broker, settings=settings), "Mend [credentials].")]
    if settings.tls is not None:
        remedy = "Mend tls.certificate_file; `authsvc check-config` says what is wrong."
        found.append(Check("certificate", partial(_certificate, settings=settings), remedy))
    return found


def agreement(settings: Settings, adapter: AdapterSettings) -> Check:
    """Whether the adapter's configuration and authsvc's are of one mind."""

    async def compare(report: Report) -> None:
        known = {*settings.resources}.union(*(it.resources for it in settings.callers))
        if adapter.resource in known:
            report.ok(f"{adapter.resource} is one of authsvc's")
        else:
            report.fail(
                f"{adapter.resource} is none of authsvc's: {', '.join(sorted(known))}",
                "Spell it alike on both sides, character by character.",
            )
        issuers = {it.issuer for it in settings.issuers}
        if settings.introspection is not None:
            issuers.add(settings.introspection.issuer)
        for server in adapter.authorization_servers:
            if server in issuers:
                report.ok(f"{server}, where clients are sent, is trusted by authsvc")
            else:
                report.fail(
                    f"clients are sent to {server}, whose tokens authsvc does not trust",
                    "Add it to [[issuers]], or mend the adapter's authorization_servers.",
                )

    return Check("resource", compare, "")


def admin(target: str, tls: ClientTls, timeout_seconds: float) -> Check:
    """Whether an operator gets in, and what the running service says of itself."""

    async def ask(report: Report) -> None:
        try:
            async with AdminClient(target, deadline_seconds=timeout_seconds / 2, tls=tls) as client:
                status = await client.status()
        except AuthError as error:
            if error.reason is not Reason.CALLER_NOT_ALLOWED:
                raise
            report.fail(
                "authsvc does not take you for an operator",
                "Show the service token or certificate of a caller with admin = true.",
            )
            return
        report.ok(f"you are an operator; authsvc {status.version}")
        if not status.store_ready:
            report.fail("its store cannot be asked", "See the lines on the store.")
        for issuer in status.issuers:
            state = issuer.state.name.lower()
            if state == "ready":
                report.ok(f"{issuer.issuer}: keys in use: {len(issuer.keys)}")
            else:
                report.fail(f"{issuer.issuer}: keys are {state}", "See the lines on the issuer.")
            if issuer.failure:
                report.warn(
                    f"{issuer.issuer}: newer keys could not be read: {issuer.failure}",
                    "Mend what is named. Until then keys that are in use stay in force: that is "
                    "urgent if one of them has leaked.",
                )

    return Check("admin", ask, "See the lines on authsvc above.")


async def _certificate(report: Report, *, settings: Settings) -> None:
    if settings.tls is None:
        return
    path = settings.tls.certificate_file
    try:
        certificate = x509.load_pem_x509_certificates(path.read_bytes())[0]
    except ValueError:
        raise OSError(f"{path} is not PEM") from None
    check_certificate(report, str(path), certificate, time.time())


async def _broker(report: Report, *, settings: Settings) -> None:
    async with open_broker(settings) as broker:
        if broker is None:
            report.ok("none are configured: tools get no credentials")
            return
    tables = settings.credentials
    if tables.static:
        report.ok(f"static, for {', '.join(it.role for it in tables.static)}")
    urls = [it.endpoint_url or f"https://sts.{it.region}.amazonaws.com" for it in tables.sts]
    for url in (*urls, *(it.endpoint for it in tables.exchange)):
        await _reach(report, url)


async def _reach(report: Report, url: str) -> None:
    """Connect and let go: what is asked of a broker has consequences."""
    parts = urlsplit(url)
    port = parts.port or (443 if parts.scheme == "https" else 80)
    try:
        _, writer = await asyncio.open_connection(
            parts.hostname, port, ssl=True if parts.scheme == "https" else None
        )
    except OSError as error:
        report.fail(
            f"{url}: {cause(error)}",
            directly("Let authsvc reach it (firewall, network policy), or mend [credentials]."),
        )
        return
    writer.close()
    report.ok(f"{url} can be reached")
