"""authsvc itself: its configuration, certificate, broker, and access for operators."""

from __future__ import annotations

import time
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack
from functools import partial

from authsvc.client import AdminClient, ClientTls
from authsvc.common.formats import spelled_resource
from authsvc.credentials.cache import CacheCounts
from authsvc.diagnosis import Check, Look, Report, cause, certificates
from authsvc.diagnosis.adapter import AdapterSettings
from authsvc.diagnosis.client_credentials import check_expiry
from authsvc.diagnosis.endpoint_remedies import Place, remedy_of_failure
from authsvc.diagnosis.link import check_certificate, check_files
from authsvc.diagnosis.listening import own_certificate
from authsvc.diagnosis.reach import reach
from authsvc.diagnosis.token_endpoints import ask_as_client, form_of, form_of_api_server
from authsvc.domain.errors import AuthError, Reason
from authsvc.net.client_identity import ClientIdentity
from authsvc.net.failures import Failure, cause_of, failure_of
from authsvc.net.urls import shown_url
from authsvc.server.brokers import open_table
from authsvc.server.clients import identity_of
from authsvc.server.config import ExchangeSettings, Settings, StaticCredentials, StsSettings
from authsvc.server.config.clients import EndpointSettings
from authsvc.server.config.credential_routes import RoutedTable, routed_tables, where_of
from authsvc.server.config.credentials import CredentialTable
from authsvc.server.config.egress import Egress
from authsvc.server.egress import proxy_of, trust_of
from authsvc.server.expiries import certificate_files


def checks(settings: Settings) -> list[Check]:
    """Of authsvc's configuration."""
    found = [*_checks_of_credentials(settings)]
    files = certificate_files(settings)
    # Its own certificate is looked at more closely.
    files.pop("tls.certificate_file", None)
    if any(files.values()):
        found.append(certificates.check(files))
    if settings.tls is not None:
        remedy = "Correct tls.certificate_file; `authsvc check-config` reports the fault."
        found.append(Check("certificate", partial(_certificate, settings=settings), remedy))
    return found


def agreement(settings: Settings, adapter: AdapterSettings) -> Check:
    """Whether the configurations of the adapter and of authsvc agree."""

    async def check(report: Report) -> None:
        compare(report, settings, adapter.resource, adapter.authorization_servers)

    return Check("resource", check, "")


def compare(
    report: Report, settings: Settings, resource: str, authorization_servers: Iterable[str]
) -> None:
    """Report whether authsvc knows a resource, and trusts the servers that clients are sent to."""
    known = {*settings.resources}.union(*(it.resources for it in settings.callers))
    if spelled_resource(resource) in known:
        report.ok(f"{resource} is one of authsvc's resources")
    else:
        is_near = resource.rstrip("/") in {it.rstrip("/") for it in known}
        report.fail(
            f"{resource} is none of authsvc's resources: {', '.join(sorted(known))}",
            "Write it identically in both configurations"
            f"{': they differ in the slash at the end' if is_near else ''}.",
        )
    issuers = {it.issuer for it in settings.issuers}
    if settings.introspection is not None:
        issuers.add(settings.introspection.issuer)
    for server in authorization_servers:
        if server in issuers:
            report.ok(f"authsvc trusts {server}, to which clients are sent")
        else:
            report.fail(
                f"clients are sent to {server}, whose tokens authsvc does not trust",
                _remedy_for_server(server, issuers),
            )


def _remedy_for_server(server: str, issuers: Collection[str]) -> str:
    spelling = server.rstrip("/").lower()
    near = next((name for name in issuers if name.rstrip("/").lower() == spelling), None)
    if near is None:
        return "Add it to [[issuers]], or correct the adapter's authorization_servers."
    return (
        f"authsvc has it as {near}: write it identically in both configurations, as the tokens' "
        "iss has it."
    )


_NO_KEYS = "See the findings on the issuer. Until then requests with its tokens are answered 503."


def admin(target: str, tls: ClientTls | None, timeout_seconds: float) -> Check:
    """Whether the operator is allowed, and the status that the running service reports."""

    async def ask(report: Report) -> None:
        check_files(tls)
        try:
            async with AdminClient(target, deadline_seconds=timeout_seconds / 2, tls=tls) as client:
                status = await client.status()
        except AuthError as error:
            if error.reason is not Reason.CALLER_NOT_ALLOWED:
                raise
            report.fail(
                "authsvc denies you operator access",
                "Give the service token or certificate of a caller with admin = true.",
            )
            return
        report.ok(f"you have operator access; authsvc {status.version}")
        if not status.store_ready:
            report.fail("its store is unavailable", "See the findings on the store.")
        for issuer in status.issuers:
            state = issuer.state.name.lower()
            if state != "ready":
                why = f": {issuer.failure}" if issuer.failure else ""
                report.fail(f"{issuer.issuer}: keys are {state}{why}", _NO_KEYS)
                continue
            report.ok(f"{issuer.issuer}: keys in use: {len(issuer.keys)}")
            if issuer.failure:
                report.warn(
                    f"{issuer.issuer}: newer keys could not be loaded: {issuer.failure}",
                    "Correct the cause. Until then the keys in use stay valid: that is urgent if "
                    "one of them has leaked.",
                )

    return Check("admin", ask, "See the findings on authsvc above.")


async def _certificate(report: Report, *, settings: Settings) -> None:
    if settings.tls is None:
        return
    certificate = own_certificate(settings.tls)
    check_certificate(report, str(settings.tls.certificate_file), certificate, time.time())


def _checks_of_credentials(settings: Settings) -> Iterator[Check]:
    """A check of each table's files, and one of each endpoint."""
    routed = routed_tables(settings.credentials)
    if not routed:
        yield Check("credentials", _without_credentials, "")
    for it in routed:
        where = where_of(it, routed)
        look = partial(_look_at_files, it=it, routed=routed)
        yield Check("credentials", look, f"Correct {where}.", where)
        for place, url, reached in _endpoints(it.table, where):
            remedy = remedy_of_failure(Failure.TIMEOUT, place)
            yield Check("credentials", reached, remedy, f"{place.table}: {shown_url(url)}")


async def _without_credentials(report: Report) -> None:
    report.ok("none configured: tools get no credentials")


async def _look_at_files(report: Report, *, it: RoutedTable, routed: Sequence[RoutedTable]) -> None:
    async with AsyncExitStack() as closing:
        await open_table(it, routed, closing, CacheCounts())
    if isinstance(it.table, StaticCredentials):
        report.ok(f"static, for {it.table.role}")


def _endpoints(table: CredentialTable, where: str) -> Iterator[tuple[Place, str, Look]]:
    """The endpoints of a table: the setting of each, its URL, and what looks at it."""
    if isinstance(table, StsSettings):
        url = table.endpoint_url or f"https://sts.{table.region}.amazonaws.com"
        place = Place(where, "endpoint_url", table.proxy is not None)
        yield place, url, partial(_reach, url=url, table=table, place=place)
    elif isinstance(table, ExchangeSettings):
        yield _as_client(table, where, form_of(table))
        if table.api_server is not None:
            yield _as_client(table.api_server, f"{where}.api_server", form_of_api_server())
        if table.service_account:
            url = table.service_account_endpoint
            place = Place(where, "service_account_endpoint", table.proxy is not None)
            yield place, url, partial(_reach, url=url, table=table, place=place)


def _as_client(
    table: EndpointSettings, where: str, form: Mapping[str, str]
) -> tuple[Place, str, Look]:
    place = Place(where, has_proxy=table.proxy is not None, is_of_client=True)
    return place, table.endpoint, partial(_reach_as_client, table=table, place=place, form=form)


async def _reach_as_client(
    report: Report, *, table: EndpointSettings, place: Place, form: Mapping[str, str]
) -> None:
    """Report whether an endpoint accepts connections, with authsvc's certificate where it has one,
    whether what authsvc authenticates by expires, and whether the endpoint takes it."""
    identity = identity_of(table, place.table, trust_of(table, place.table))
    can_ask = check_expiry(report, table, place.table, identity, time.time())
    if can_ask and await _is_reached(report, table.endpoint, table, place, identity):
        await ask_as_client(report, table, place, form)


async def _reach(report: Report, *, url: str, table: Egress, place: Place) -> None:
    await _is_reached(report, url, table, place)


async def _is_reached(
    report: Report,
    url: str,
    table: Egress,
    place: Place,
    identity: ClientIdentity | None = None,
) -> bool:
    """Report whether it accepts connections, and return that."""
    try:
        await reach(url, trust_of(table, place.table), proxy_of(table), identity)
    except OSError as error:
        remedy = remedy_of_failure(failure_of(error), place)
        report.fail(f"{shown_url(url)}: {cause_of(error) or cause(error)}", remedy)
        return False
    report.ok(f"{shown_url(url)} is reachable")
    return True
