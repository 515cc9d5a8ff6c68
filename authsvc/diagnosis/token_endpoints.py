"""Token endpoints: whether one takes authsvc for its client, without a user's token.

It is asked to exchange a text that is no token. A server authenticates the client before it looks
at the token (RFC 6749 section 3.2.1), so that the error code of its answer tells whether it has.
"""

from __future__ import annotations

import time
from collections.abc import Mapping

from authsvc.common.oauth_endpoint import Details, EndpointError
from authsvc.common.oauth_errors import CLIENT_REJECTED, described
from authsvc.credentials.exchange.answers import ACCESS_TOKEN, ID_JAG
from authsvc.credentials.exchange.entra import error_details
from authsvc.credentials.exchange.jwt_bearer import assertion_form
from authsvc.credentials.exchange.rfc8693 import subject_form
from authsvc.diagnosis import Report
from authsvc.diagnosis.endpoint_remedies import Place, remedy_of
from authsvc.domain.resolution import Secret
from authsvc.server.clients import endpoint_of
from authsvc.server.config import ExchangeSettings
from authsvc.server.config.clients import EndpointSettings

_TEXT = Secret("authsvc-doctor")
"""Is no token of any issuer."""

_ABOUT_THE_TOKEN = frozenset({"invalid_grant", "invalid_request"})
"""Codes of a server that does not know the token: RFC 7521 section 4.1.1, RFC 8693 section 2.2.2.
"""

_ABOUT_A_SETTING = frozenset({"invalid_target", "invalid_scope"})
"""Codes of a server that looks at another parameter first (RFC 8693 section 2.2.2, RFC 6749 section
5.2): a user's token would be answered likewise."""

_WITHOUT_AUDIENCE = frozenset({"jwt-bearer", "entra-obo"})
"""Profiles whose requests name the API by its scopes."""


def form_of(table: ExchangeSettings) -> Mapping[str, str]:
    """The parameters of a request to the endpoint of a table, with a text in place of the token."""
    match table.profile:
        case "jwt-bearer":
            form = assertion_form(_TEXT)
        case "entra-obo":
            form = assertion_form(_TEXT) | {"requested_token_use": "on_behalf_of"}
        case "id-jag":
            form = subject_form(_TEXT, ACCESS_TOKEN, ID_JAG)
        case "rfc8693" | "gcp-sts":
            form = subject_form(_TEXT, ACCESS_TOKEN, ACCESS_TOKEN)
    parameters = {"audience": table.audience, "scope": " ".join(table.scopes)}
    return form | {name: value for name, value in parameters.items() if value}


def form_of_api_server() -> Mapping[str, str]:
    """The parameters of the second request of id-jag, with a text in place of the assertion."""
    return assertion_form(_TEXT)


async def ask_as_client(
    report: Report, table: EndpointSettings, place: Place, form: Mapping[str, str]
) -> None:
    """Report whether an endpoint takes authsvc for its client. Nothing of an answer is shown.

    Args:
        report: gets what is found; nothing where the answer does not tell.
        table: the endpoint's settings.
        place: the endpoint, for remedies.
        form: the parameters, without those of client authentication.

    Raises:
        ConfigError: a file cannot be used.
    """
    if table.auth_method == "none":
        return
    endpoint = endpoint_of(table, place.table)
    try:
        await endpoint.post(form, time.time(), _details_of(table))
    except EndpointError as error:
        _judge(report, error, place, table, endpoint.shown)
        return
    report.fail(
        f"{endpoint.shown} issues a token for a text that is no token",
        f"Correct {place.table}.endpoint: what answers there is no token endpoint for users' "
        "tokens.",
    )


def _details_of(table: EndpointSettings) -> Details | None:
    """What more is read in an error, as the broker of the table reads it."""
    is_entra = isinstance(table, ExchangeSettings) and table.profile == "entra-obo"
    return error_details if is_entra else None


def _judge(
    report: Report, error: EndpointError, place: Place, table: EndpointSettings, where: str
) -> None:
    answer = "" if error.status is None else described(error.status, error.code)
    answer += f"; {error.details}" if error.details else ""
    if error.code in _ABOUT_THE_TOKEN:
        report.ok(f"{where} takes authsvc for its client: it rejected a text that is no token")
    elif error.code in _ABOUT_A_SETTING:
        report.warn(
            f"{where} answered {answer}: it takes authsvc for its client, and rejects what is "
            "asked for",
            _remedy_of_setting(error.code, place, table),
        )
    elif error.code == "unauthorized_client":
        report.fail(
            f"{where} answered {answer}: it knows authsvc's client, which may not ask for this",
            f"Permit this grant to the client {place.table}.client_id in its registration at the "
            "server.",
        )
    elif error.code == "unsupported_grant_type":
        report.fail(
            f"{where} answered {answer}: it has no such grant",
            f"Enable it at the server, or correct {place.table}: its endpoint, or the profile.",
        )
    elif error.code in {"", CLIENT_REJECTED}:
        report.fail(str(error), remedy_of(error, place))
    else:
        report.note(
            f"{where} answered {answer} to a text that is no token: what it says of a "
            "user's token is not known"
        )


def _remedy_of_setting(code: str, place: Place, table: EndpointSettings) -> str:
    """What to do about a parameter that is rejected. Where there is no audience, scopes name it."""
    has_audience = isinstance(table, ExchangeSettings) and table.profile not in _WITHOUT_AUDIENCE
    name = "audience" if code == "invalid_target" and has_audience else "scopes"
    return f"Compare {place.table}.{name} with what the server permits {place.table}.client_id."
