"""Introspection: whether its endpoint answers, and takes authsvc for its client."""

from __future__ import annotations

import codecs
import time
from functools import partial

from authsvc.common.oauth_endpoint import EndpointError
from authsvc.diagnosis import Check, Report
from authsvc.diagnosis.client_credentials import check_expiry
from authsvc.diagnosis.endpoint_remedies import Place, remedy_of, remedy_of_failure
from authsvc.net.failures import Failure
from authsvc.net.urls import shown_url
from authsvc.server.clients import endpoint_of
from authsvc.server.config import IntrospectionSettings, Settings
from authsvc.tokens.compact import parse_json_object
from authsvc.tokens.introspection import is_about_token, request_of

_TEXT = "authsvc-doctor"
"""Is no token of any issuer: what a question about it shows is whether authsvc may ask."""

_UNTIL_THEN = "Until then its tokens are answered 503."

_NAMED_BY_METADATA = (
    "Correct introspection.endpoint: the issuer's metadata has it as introspection_endpoint."
)


def checks(settings: Settings) -> list[Check]:
    """The check of ``[introspection]``, if there is one."""
    table = settings.introspection
    if table is None:
        return []
    too_slow = remedy_of_failure(Failure.TIMEOUT, _place(table))
    remedy, where = f"{too_slow} {_UNTIL_THEN}", shown_url(table.endpoint)
    return [Check("introspection", partial(_ask, table=table), remedy, where)]


def _place(table: IntrospectionSettings) -> Place:
    return Place("introspection", has_proxy=table.proxy is not None, is_of_client=True)


async def _ask(report: Report, *, table: IntrospectionSettings) -> None:
    endpoint = endpoint_of(table, "introspection")
    if not check_expiry(report, table, "introspection", endpoint.identity, time.time()):
        return
    try:
        answer = await endpoint.post(request_of(_TEXT), time.time())
    except EndpointError as error:
        if is_about_token(error):
            _report_works(report, table)
        else:
            report.fail(str(error), f"{remedy_of(error, _place(table))} {_UNTIL_THEN}")
        return
    _judge(report, table, answer.removeprefix(codecs.BOM_UTF8))


def _judge(report: Report, table: IntrospectionSettings, answer: bytes) -> None:
    """Report on an answer with status 200. Nothing of it is shown."""
    where = shown_url(table.endpoint)
    try:
        active = parse_json_object(answer).get("active")
    except ValueError:
        text, remedy = _not_json(answer)
        report.fail(f"{where} {text}", f"{remedy} {_UNTIL_THEN}")
        return
    if active is False:
        _report_works(report, table)
    elif active is True:
        report.fail(
            f"{where} takes a text that is no token for an active token",
            "Correct introspection.endpoint: where every token is active, anybody gets in.",
        )
    else:
        report.fail(
            f"{where} answers with JSON that has no active, true or false",
            f"{_NAMED_BY_METADATA} {_UNTIL_THEN}",
        )


def _not_json(answer: bytes) -> tuple[str, str]:
    """What an answer is that is no JSON object, and the remedy."""
    if answer.lstrip().startswith(b"<"):
        return (
            "answers with a page (HTML or XML), as a sign-in page or a gateway does",
            f"{_NAMED_BY_METADATA} If it is right, let authsvc's requests pass the gateway.",
        )
    return (
        "answers with something else than a JSON object without repeated names",
        "Have it answer in JSON (RFC 7662 section 2.2); signed answers (RFC 9701) are not read.",
    )


def _report_works(report: Report, table: IntrospectionSettings) -> None:
    report.ok(f"{shown_url(table.endpoint)} answers, and authsvc's client may ask")
