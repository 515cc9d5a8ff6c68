"""What to do about an endpoint that cannot be used, by the cause."""

from __future__ import annotations

from dataclasses import dataclass

from authsvc.common.oauth_endpoint import EndpointError
from authsvc.common.oauth_errors import CLIENT_REJECTED
from authsvc.diagnosis import directly
from authsvc.net.failures import Failure, Stage


@dataclass(frozen=True, slots=True)
class Place:
    """An endpoint of the configuration.

    Attributes:
        table: its table, such as ``introspection``.
        url_setting: the setting of that table which has its URL.
        has_proxy: whether a proxy of that table is between.
        is_of_client: whether that table says how authsvc authenticates there as a client.
    """

    table: str
    url_setting: str = "endpoint"
    has_proxy: bool = False
    is_of_client: bool = False


_BY_FAILURE = {
    Failure.LOOKUP: "Correct the host in {table}.{url}, or this machine's DNS. Where only a proxy "
    "resolves names, set {table}.proxy.",
    Failure.REFUSED: "Nothing listens there: correct the port in {table}.{url}, or start the "
    "server.",
    Failure.TIMEOUT: "Allow the connection in the firewall, NAT or network policy, or set "
    "{table}.proxy. If the server is reached and slow, look at its load.",
    Failure.UNREACHABLE: "Allow the connection in the firewall, NAT or network policy, or set "
    "{table}.proxy.",
    Failure.PROXY: "Permit the host of {table}.{url} in the proxy, or correct {table}.proxy: its "
    "user and password, if the proxy answered 407.",
    Failure.ADDRESS: "If the server is in your own network, set {table}.allow_private_addresses = "
    "true.",
    Failure.UNTRUSTED: "Set {table}.ca_file to the certificate of the authority that has issued "
    "the server's, or have the server send its whole chain.",
    Failure.DATES: "Renew the server's certificate, or correct this machine's clock.",
    Failure.OTHER_NAME: "Correct the host in {table}.{url}: the server's certificate is for "
    "another name.",
    Failure.OUR_CERTIFICATE: "Have the server accept connections without a client's certificate: "
    "authsvc presents none to {table}.{url}.",
    Failure.TLS: "Correct the port in {table}.{url}, if no TLS is spoken there; otherwise the "
    "server's TLS: version 1.2 or later, and a cipher in use today.",
}

_OF_PROXY = "Correct {table}.proxy, or start that proxy and let authsvc reach it."
"""Where the connection that fails is the one to the proxy."""

_OUR_CERTIFICATE = (
    "Set {table}.auth_method to tls_client_auth or self_signed_tls_client_auth, as the client is "
    "registered at the server, and have it trust the certificate of "
    "{table}.client_certificate_file or its authority."
)

_MAY_BE_OUR_CERTIFICATE = (
    "Have the server, and a proxy that ends TLS in front of it, accept the certificate of "
    "{table}.client_certificate_file: its log says whether it is rejected. If it is accepted, "
    "correct {table}.{url}."
)
"""Where an answer without an error code may be about the certificate."""

_NOT_OUR_CLIENT = (
    "Compare {table}.client_id, {table}.auth_method and the secret, key, certificate or "
    "assertion with the client's registration at the server."
)

_BY_STATUS = {
    400: "Compare the request with the server's documentation: its log names what it lacks.",
    401: _NOT_OUR_CLIENT,
    403: "Permit authsvc's client, {table}.client_id, at the server to ask this endpoint.",
    404: "Correct {table}.{url}: the server's metadata names the endpoint.",
    429: "Raise the server's limit for authsvc's client.",
}
_ELSEWHERE = frozenset({301, 302, 303, 307, 308, 405, 410})
_ITS_FAULT = "The server's own log says why it fails."
_UNKNOWN = "Correct the cause, or [{table}]."


def remedy_of(error: EndpointError, place: Place) -> str:
    """What to do about an endpoint that gives no response with status 200."""
    if error.failure is Failure.OUR_CERTIFICATE and error.status is not None:
        return _filled(_MAY_BE_OUR_CERTIFICATE, place)
    if error.failure is not Failure.ANSWER:
        return remedy_of_failure(error.failure, place)
    if error.code == CLIENT_REJECTED:
        text = _NOT_OUR_CLIENT
    elif error.status is None:
        text = _UNKNOWN
    elif error.status in _ELSEWHERE:
        text = _BY_STATUS[404]
    else:
        text = _BY_STATUS.get(error.status, _ITS_FAULT if error.status >= 500 else _UNKNOWN)
    return _filled(text, place)


def remedy_of_failure(failure: Failure, place: Place) -> str:
    """What to do about a request that got no answer."""
    is_unreached = failure.stage is Stage.CONNECTION
    if is_unreached and place.has_proxy and failure is not Failure.PROXY:
        return _filled(_OF_PROXY, place)
    if failure is Failure.OUR_CERTIFICATE and place.is_of_client:
        return _filled(_OUR_CERTIFICATE, place)
    text = _filled(_BY_FAILURE.get(failure, _UNKNOWN), place)
    return directly(text) if is_unreached and not place.has_proxy else text


def _filled(text: str, place: Place) -> str:
    return text.format(table=place.table, url=place.url_setting)
