"""The comparison with peers: its client's bytes, and what is made of samples."""

from __future__ import annotations

import json
from pathlib import Path

import jwt
import pytest

from bench.peers.answers import ASKED, SCENARIOS
from bench.peers.client import Answer, Connection
from bench.peers.envoy import configuration, ext_authz, jwt_authn
from bench.peers.idp import ALGORITHM, RESOURCE, Idp
from bench.peers.section import Taken, answers_table, section
from bench.peers.sides import NAMES, OURS

RESULT = '{"jsonrpc":"2.0","id":7,"result":{"content":[{"type":"text","text":"ada:reader"}]}}'
FAILED = '{"jsonrpc":"2.0","id":7,"result":{"isError":true,"content":[{"text":"no"}]}}'


@pytest.mark.parametrize(
    ("body", "text"),
    [
        (RESULT, "ada:reader"),
        (f"event: message\r\ndata: {RESULT}\r\n\r\n", "ada:reader"),
        (FAILED, ""),
        ('{"jsonrpc":"2.0","id":7,"error":{"code":401,"message":"no"}}', ""),
        ("", ""),
    ],
)
def test_the_tools_text_is_found(body: str, text: str) -> None:
    assert Answer(200, "", body.encode()).text == text


def test_a_token_is_good_for_its_audience_alone() -> None:
    idp = Idp()
    token = idp.token("ada", "writer")
    claims = jwt.decode(token, idp.pem(), [ALGORITHM], audience=RESOURCE)
    assert (claims["sub"], claims["role"]) == ("ada", "writer")
    with pytest.raises(jwt.InvalidAudienceError):
        jwt.decode(token, idp.pem(), [ALGORITHM], audience="https://other.example")


def test_envoy_verifies_everything_that_passes() -> None:
    text = json.dumps(configuration("127.0.0.1:9", jwt_authn(Idp().jwks()), Path("admin")))
    assert '"match": {"prefix": "/"}, "requires": {"provider_name": "idp"}' in text
    assert text.index('"authorization"') < text.index('"router"')


def test_envoy_has_authsvc_check_everything_and_never_opens() -> None:
    text = json.dumps(configuration("127.0.0.1:9", ext_authz(), Path("admin"), "127.0.0.1:8"))
    assert '"failure_mode_allow": false' in text
    assert f'"context_extensions": {{"resource": "{RESOURCE}"}}' in text
    assert text.index('"authorization"') < text.index('"router"')


def taken(app: float, authsvc: float) -> Taken:
    return Taken({"app": app, "authsvc": authsvc} if authsvc else {"app": app}, (1.0, 2.0))


def test_goals_are_ratios_within_the_round() -> None:
    costs = {"pyjwt": (300, 0), "adapter": (90, 60)}
    made = section(
        {
            (era, name): [taken(*costs.get(name, (200, 0))) for _ in range(3)]
            for era in ("legacy", "modern")
            for name in NAMES
        },
        {},
    )
    # authsvc counts in a tool call, and not in what the adapter's transport costs.
    assert [(goal.limit, goal.measured.median) for goal in made.goals] == [
        (1.0, 0.5),
        (1.0, 0.5),
        (1.25, 0.45),
    ]
    assert len(made.rows) == 2 * len(NAMES)


def test_every_answer_has_its_column() -> None:
    told = {text: dict.fromkeys(ASKED, "401") for text in SCENARIOS}
    head, rows = answers_table(told)
    assert {len(row) for row in rows} == {len(head)} == {1 + len(ASKED)}
    assert {"gate", "adapter"} <= set(ASKED) & set(OURS)


def test_a_modern_request_names_itself_in_its_headers() -> None:
    connection = Connection.__new__(Connection)
    connection.address = "127.0.0.1:1"
    head, _, body = connection.call("secret", era="modern").partition(b"\r\n\r\n")
    lines = head.decode().split("\r\n")
    assert {"Mcp-Method: tools/call", "Mcp-Name: whoami"} <= set(lines)
    assert f"Content-Length: {len(body)}" in lines
    assert "_meta" in json.loads(body)["params"]
