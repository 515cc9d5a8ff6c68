"""What an ext_authz filter lets through, and what of a request it sends to authsvc."""

from __future__ import annotations

from authsvc.diagnosis.envoy.configuration import Envoy, Filter, Manager
from authsvc.diagnosis.envoy.faults import Faults
from authsvc.diagnosis.envoy.fields import Fields
from authsvc.diagnosis.envoy.matching import is_listed

MAX_BODY_BYTES = 4 * 1024 * 1024
"""The longest body that ``SessionGate`` reads where it is not told otherwise."""

READ_HEADERS = (
    *("authorization", "content-encoding", "content-length", "content-type", "host"),
    *("last-event-id", "mcp-method", "mcp-name", "mcp-protocol-version", "mcp-session-id"),
    *("origin", "transfer-encoding"),
)
"""Headers that a check is decided by."""

REMOVED_HEADERS = (
    *("x-authsvc-credentials", "x_authsvc_assertion", "mcp_session_id"),
    *("x-http-method", "x-http-method-override", "x-method-override"),
)
"""Some of the headers that a check removes where it sees them."""

_DENOMINATORS = {"": 100, "HUNDRED": 100, "TEN_THOUSAND": 10_000, "MILLION": 1_000_000}
_UNAVAILABLE = 503
_RBAC = "envoy.filters.http.rbac"

_WIDEST = "needs a token and the widest scopes, `initialize` too"


def examine(faults: Faults, envoy: Envoy, manager: Manager, filtered: Filter) -> None:
    """Examine one filter."""
    place, config = place_of(manager, filtered), filtered.config
    if "http_service" in config:
        faults.warn(
            "it calls an HTTP service, which authsvc is not",
            "If it is meant for authsvc, give it grpc_service in the place of http_service.",
            place,
        )
        return
    _examine_failures(faults, config, place)
    _examine_conditions(faults, config, place)
    examine_body(faults, config.table("with_request_body"), place)
    _examine_headers(faults, config, place)
    if envoy.is_dump and _has_token(config):
        faults.warn(
            "the dump shows its service token (grpc_service.initial_metadata)",
            "Let nobody but its operators reach Envoy's admin listener, or give Envoy a client "
            "certificate in the place of the token.",
            place,
        )


def place_of(manager: Manager, filtered: Filter) -> str:
    """Where a filter is, and where its checks go, for people."""
    grpc = filtered.config.table("grpc_service")
    callee = (
        grpc.table("envoy_grpc").text("cluster_name")
        or grpc.table("google_grpc").text("target_uri")
        or "an HTTP service"
    )
    return f"{manager.place}, ext_authz to {callee}"


def _examine_failures(faults: Faults, config: Fields, place: str) -> None:
    if config.flag("failure_mode_allow"):
        faults.fail(
            "failure_mode_allow is true: while authsvc is unavailable, each request passes "
            "unauthenticated",
            "Set failure_mode_allow: false (Istio: failOpen: false; Envoy Gateway: failOpen: "
            "false).",
            place,
        )
    status = config.table("status_on_error")
    if status.number("code") != _UNAVAILABLE and status.text("code") != "ServiceUnavailable":
        faults.warn(
            "status_on_error is not 503: while authsvc is unavailable, clients are answered as if "
            "access were denied, and do not try again",
            "Set status_on_error: {code: ServiceUnavailable} (Istio and Envoy Gateway: "
            'statusOnError: "503").',
            place,
        )


def _examine_conditions(faults: Faults, config: Fields, place: str) -> None:
    """Where the filter does not run for each request."""
    if config.table("deny_at_disable").flag("default_value"):
        return
    share = config.table("filter_enabled").table("default_value")
    whole = _DENOMINATORS.get(share.text("denominator"), 100)
    if "filter_enabled" in config and share.number("numerator") < whole:
        faults.fail(
            "filter_enabled is below 100 %: the other requests pass unchecked",
            "Remove filter_enabled.",
            place,
        )
    condition = config.table("filter_enabled_metadata")
    if condition.text("filter") == _RBAC:
        faults.ok("it runs where an AuthorizationPolicy with action CUSTOM selects it", place)
    elif "filter_enabled_metadata" in config:
        faults.warn(
            "filter_enabled_metadata: requests without that metadata pass unchecked",
            "Remove it, or set deny_at_disable.",
            place,
        )


def examine_body(faults: Faults, body: Fields, place: str) -> None:
    """Examine a ``BufferSettings``, that of a filter or of a route."""
    longest = body.number("max_request_bytes")
    if not longest:
        no_body(faults, place)
        return
    if longest < MAX_BODY_BYTES:
        faults.warn(
            f"max_request_bytes is {longest}: JSON-RPC messages that are longer are "
            f"{'cut off' if body.flag('allow_partial_message') else 'answered 413'}",
            f"Set max_request_bytes: {MAX_BODY_BYTES}, which SessionGate reads as well, or what "
            "your tools need.",
            place,
        )
    if body.flag("allow_partial_message"):
        faults.warn(
            f"allow_partial_message is true: a request that is cut off {_WIDEST}",
            "Set allow_partial_message: false: such a request is answered 413.",
            place,
        )
    if not body.flag("pack_as_bytes"):
        faults.warn(
            "pack_as_bytes is not true: Envoy replaces what is no UTF-8, so that a body with ! "
            f"{_WIDEST}",
            "Set pack_as_bytes: true (Istio: includeRequestBodyInCheck.packAsBytes: true).",
            place,
        )


def no_body(faults: Faults, place: str) -> None:
    """Report that a check does not see the body."""
    faults.warn(
        f"without with_request_body, authsvc does not see the method: each POST {_WIDEST}",
        f"Set with_request_body: {{max_request_bytes: {MAX_BODY_BYTES}, pack_as_bytes: true}}.",
        place,
    )


def _examine_headers(faults: Faults, config: Fields, place: str) -> None:
    def sent(header: str) -> bool:
        allowed = config.table("allowed_headers")
        disallowed = config.table("disallowed_headers").tables("patterns")
        is_allowed = "patterns" not in allowed or is_listed(header, allowed.tables("patterns"))
        return is_allowed and not is_listed(header, disallowed)

    if missing := [it for it in READ_HEADERS if not sent(it)]:
        faults.fail(
            f"allowed_headers or disallowed_headers keep from authsvc what it decides by: "
            f"{', '.join(missing)}",
            "Remove both: a check over gRPC then has all headers.",
            place,
        )
    if missing := [it for it in REMOVED_HEADERS if not sent(it)]:
        faults.warn(
            "allowed_headers or disallowed_headers keep from authsvc what it would remove: a "
            f"client can send {', '.join(missing)} to the MCP server",
            "Remove both; or let Envoy remove these headers before the check.",
            place,
        )


def _has_token(config: Fields) -> bool:
    metadata = config.table("grpc_service").tables("initial_metadata")
    return any(it.text("key").lower() == "authorization" and it.text("value") for it in metadata)
