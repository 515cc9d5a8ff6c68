"""deploy/envoy: what the real Envoy says of it, and the settings on which its safety rests."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml  # type: ignore[import-untyped] # it has no stubs

from mcp_adapter.gate.middleware import DEFAULT_MAX_BODY_BYTES
from tests.support.envoy_files import (
    EXAMPLE,
    FOLDER,
    check_of,
    clusters_of,
    faults_of,
    host_of,
    installed,
    loaded,
    manager_of,
)


def test_envoy_accepts_the_files(tmp_path: Path) -> None:
    assert faults_of(installed(tmp_path)) == ""


def test_envoy_accepts_the_example() -> None:
    assert faults_of(EXAMPLE) == ""


def test_envoy_knows_every_field(tmp_path: Path) -> None:
    configuration = loaded(EXAMPLE)
    check_of(configuration)["failure_mode_deny"] = True
    path = tmp_path / "envoy.yaml"
    path.write_text(yaml.safe_dump(configuration))
    assert "failure_mode_deny" in faults_of(path)


@pytest.fixture(params=[FOLDER / "envoy.yaml", EXAMPLE], ids=["deploy", "example"])
def configuration(request: pytest.FixtureRequest) -> dict[str, Any]:
    return loaded(request.param)


def test_a_request_that_authsvc_did_not_allow_is_not_served(configuration: dict[str, Any]) -> None:
    check = check_of(configuration)
    assert check["failure_mode_allow"] is False
    assert check["status_on_error"] == {"code": "ServiceUnavailable"}
    assert "filter_enabled" not in check
    # What authsvc may have got is not asked again.
    retries = {
        "retry_on": "connect-failure,refused-stream",
        "num_retries": 1,
        # Envoy ends a try after max_interval.
        "retry_back_off": {
            "base_interval": "0.025s",
            "max_interval": check["grpc_service"]["timeout"],
        },
    }
    assert check["grpc_service"].get("retry_policy", retries) == retries
    assert "timeout" in check["grpc_service"]


def test_authsvc_gets_all_of_a_request(configuration: dict[str, Any]) -> None:
    check = check_of(configuration)
    assert check["with_request_body"] == {
        "max_request_bytes": DEFAULT_MAX_BODY_BYTES,
        "allow_partial_message": False,
        "pack_as_bytes": True,
    }
    assert check["encode_raw_headers"] is True
    assert "allowed_headers" not in check
    assert "disallowed_headers" not in check


def test_envoy_closes_idle_connections_before_the_server_does(
    configuration: dict[str, Any],
) -> None:
    """Node and uvicorn do so after 5 s."""
    (server,) = (
        cluster
        for cluster in configuration["static_resources"]["clusters"]
        if cluster["name"] == "mcp_server"
    )
    (options,) = server["typed_extension_protocol_options"].values()
    assert options["common_http_protocol_options"] == {"idle_timeout": "3s"}


def test_the_path_is_one_for_all_and_headers_have_one_spelling(
    configuration: dict[str, Any],
) -> None:
    manager = manager_of(configuration)
    assert manager["normalize_path"] is manager["merge_slashes"] is True
    assert manager["path_with_escaped_slashes_action"] == "REJECT_REQUEST"
    underscores = manager["common_http_protocol_options"]["headers_with_underscores_action"]
    assert underscores == "REJECT_REQUEST"


def routes_of(configuration: dict[str, Any]) -> Iterator[tuple[dict[str, Any], bool]]:
    """Each route, and whether authsvc is asked on it."""
    for route in host_of(configuration)["routes"]:
        own = route.get("typed_per_filter_config", {}).get("envoy.filters.http.ext_authz", {})
        yield route, not own.get("disabled", False)


def test_a_route_asks_authsvc_or_removes_what_authsvc_would_set(
    configuration: dict[str, Any],
) -> None:
    for route, asks in routes_of(configuration):
        if asks:
            # It would remove what authsvc has set: it happens after the check.
            assert "request_headers_to_remove" not in route
            assert "max_stream_duration" in route["route"]
        else:
            removed = set(route["request_headers_to_remove"])
            assert removed == {"authorization", "x-authsvc-assertion", "x-authsvc-credentials"}
            assert set(route["match"]) == {"path"}


def test_the_access_log_has_no_token() -> None:
    manager = manager_of(loaded(FOLDER / "envoy.yaml"))
    (log,) = manager["access_log"]
    fields: dict[str, str] = log["typed_config"]["log_format"]["json_format"]
    headers = {it for it in fields.values() if it.startswith("%REQ(")}
    assert headers == {"%REQ(:METHOD)%", "%REQ(X-REQUEST-ID)%"}
    assert fields["path"] == "%PATH(NQ)%"


def test_the_hop_to_authsvc_is_authenticated_both_ways() -> None:
    (cluster,) = (
        it for name, it in clusters_of(loaded(FOLDER / "envoy.yaml")).items() if name == "authsvc"
    )
    context = cluster["transport_socket"]["typed_config"]
    common = context["common_tls_context"]
    (secret,) = common["tls_certificate_sds_secret_configs"]
    (provided,) = loaded(FOLDER / "gateway-certificate.yaml")["resources"]
    assert secret["name"] == provided["name"]
    assert common["validation_context"]["trusted_ca"]
    (name,) = common["validation_context"]["match_typed_subject_alt_names"]
    (endpoint,) = cluster["load_assignment"]["endpoints"][0]["lb_endpoints"]
    address = endpoint["endpoint"]["address"]["socket_address"]["address"]
    assert name["matcher"]["exact"] == context["sni"] == address


_OF_REPLICAS = ("health_checks", "common_lb_config")


def reduced(configuration: dict[str, Any]) -> dict[str, Any]:
    """What the example leaves out, and what everybody changes, taken away."""
    made = copy.deepcopy(configuration)
    for name in ("node", "admin", "overload_manager"):
        made.pop(name, None)
    (listener,) = made["static_resources"]["listeners"]
    del listener["address"]
    manager = manager_of(made)
    for name in ("access_log", "local_reply_config"):
        manager.pop(name, None)
    check_of(made)["grpc_service"].pop("retry_policy", None)
    host = host_of(made)
    del host["domains"], host["typed_per_filter_config"]
    host["routes"] = [route for route, asks in routes_of(made) if asks]
    for cluster in made["static_resources"]["clusters"]:
        for name in ("transport_socket", *_OF_REPLICAS):
            cluster.pop(name, None)
        (endpoint,) = cluster["load_assignment"]["endpoints"][0]["lb_endpoints"]
        del endpoint["endpoint"]["address"]
    return made


def test_the_example_is_the_deployed_one_on_one_machine() -> None:
    assert reduced(loaded(EXAMPLE)) == reduced(loaded(FOLDER / "envoy.yaml"))
