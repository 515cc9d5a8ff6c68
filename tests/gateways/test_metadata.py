"""What Envoy is told of a request: for its own rules, and for its access log."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.gateways.deployed import EXT_AUTHZ, Configuration, manager_of
from tests.gateways.harness import Gateway, refusal, said, serving
from tests.mcp_adapter.harness import call, opened

pytestmark = pytest.mark.anyio

_RBAC = "type.googleapis.com/envoy.extensions.filters.http.rbac.v3.RBAC"


def alice_alone(configuration: Configuration) -> None:
    """Envoy lets in what authsvc says is alice's, or nobody's."""

    def is_(key: str, **value: object) -> dict[str, object]:
        return {"metadata": {"filter": EXT_AUTHZ, "path": [{"key": key}], "value": value}}

    subjects = [is_("subject", string_match={"exact": "alice"})]
    nobody = {"not_id": is_("subject", present_match=True)}
    policy = {"permissions": [{"any": True}], "principals": [*subjects, nobody]}
    rules = {"action": "ALLOW", "policies": {"alice": policy}}
    filters = manager_of(configuration)["http_filters"]
    rbac = {"name": "rbac", "typed_config": {"@type": _RBAC, "rules": rules}}
    filters.insert(1, rbac)


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    with serving("sdk-stateful", tmp_path_factory.mktemp("rbac"), change=alice_alone) as running:
        yield running


async def test_rules_of_its_own(gateway: Gateway) -> None:
    async with gateway.client() as client:
        session = await opened(client)
        alice = await client.post(call("whoami"), session=session, token=gateway.token())
        assert said(alice)["sub"] == "alice"

        other = await opened(client)
        gateway.seen.clear()
        bob = await client.post(call("whoami"), session=other, token=gateway.token("bob"))
        assert (bob.status_code, bob.text) == (403, "RBAC: access denied")
        assert not gateway.seen


async def test_the_access_log(tmp_path: Path) -> None:
    with serving("sdk-stateful", tmp_path) as gateway:
        token, forged = gateway.token(), gateway.idp.forged()
        async with gateway.client() as client:
            session = await opened(client)
            requests = [(call("whoami"), token), (call("write"), token), (call("whoami"), forged)]
            answers = [
                await client.post(message, session=session, token=presented)
                for message, presented in requests
            ]
    assert refusal(answers[1]) == (403, "INSUFFICIENT_SCOPE")

    # Envoy writes what is left as it ends.
    text = gateway.log.read_text(encoding="utf-8")
    lines: list[dict[str, Any]] = [json.loads(line) for line in text.splitlines()]
    who, lacks, rejected = lines[-3:]
    assert (who["subject"], who["client_id"], who["rpc"]) == ("alice", "client", "tools/call")
    assert (who["tool"], who["outcome"], who["status"]) == ("whoami", "created", 200)
    assert who["details"] == "via_upstream"
    assert (lacks["subject"], lacks["client_id"], lacks["session"]) == (
        who["subject"],
        who["client_id"],
        who["session"],
    )
    assert (lacks["tool"], lacks["reason"]) == ("write", "INSUFFICIENT_SCOPE")
    assert (rejected["subject"], rejected["reason"]) == (None, "TOKEN_SIGNATURE_INVALID")
    assert who["session"]
    assert session.startswith(who["session"].rstrip("…"))
    for secret in (token, forged, session, token.rpartition(".")[2]):
        assert secret not in text
