"""Settings of the profiles of token exchange that cannot work stop the start."""

from __future__ import annotations

import re

import pytest
from pydantic import ValidationError

from authsvc.server.config import ExchangeSettings

API_SERVER = {
    "endpoint": "https://auth.chat.example/token",
    "client_id": "b",
    "client_secret_file": "c",
}
ID_JAG = {
    "profile": "id-jag",
    "audience": "https://auth.chat.example",
    "api_server": API_SERVER,
}
ENTRA = {"profile": "entra-obo", "scopes": ["User.Read"]}


def read(**changes: object) -> ExchangeSettings:
    values = {
        "issuers": ["https://idp.example"],
        "endpoint": "https://idp.example/token",
        "client_id": "authsvc",
        "client_secret_file": "s",
        **changes,
    }
    return ExchangeSettings.model_validate(values)


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"profile": "rfc8693", "actor_token_file": "a", "actor_token_type": "access_token"},
        {"requested_token_type": "jwt", "subject_token_type": "id_token"},
        {"profile": "jwt-bearer"},
        {"profile": "jwt-bearer", "api": "https://api.example", "scopes": ["read"]},
        ENTRA,
        ID_JAG,
        {**ID_JAG, "subject_token_type": "id_token", "api": "https://a.example", "scopes": ["x"]},
        # Defaults that are written say nothing else.
        {**ENTRA, "audience": "", "api": ""},
    ],
    ids=str,
)
def test_settings_that_work(changes: dict[str, object]) -> None:
    read(**changes)


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        ({"profile": "token-exchange"}, "'rfc8693', 'jwt-bearer', 'entra-obo'"),
        ({"profile": "jwt-bearer", "audience": "x"}, "audience has no effect with profile"),
        (
            {"profile": "jwt-bearer", "subject_token_type": "jwt"},
            "set profile to rfc8693 or id-jag",
        ),
        ({"profile": "jwt-bearer", "requested_token_type": "jwt"}, "set profile to rfc8693"),
        ({"profile": "jwt-bearer", "actor_token_file": "x"}, "actor_token_file has no effect"),
        ({"profile": "jwt-bearer", "api_server": API_SERVER}, "set profile to id-jag"),
        ({"profile": "entra-obo"}, "profile = 'entra-obo' needs scopes"),
        ({**ENTRA, "api": "https://graph.example"}, "api has no effect"),
        ({**ENTRA, "audience": "x"}, "audience has no effect"),
        ({**ENTRA, "scopes": ["User.Read", "offline_access"]}, "refresh tokens are not used"),
        ({"api_server": API_SERVER}, "api_server has no effect"),
        ({"actor_token_type": "jwt"}, "actor_token_type has no effect without actor_token_file"),
        ({"profile": "id-jag"}, "profile = 'id-jag' needs audience and api_server"),
        ({**ID_JAG, "audience": ""}, "profile = 'id-jag' needs audience"),
        ({**ID_JAG, "actor_token_file": "x"}, "actor_token_file has no effect"),
        ({**ID_JAG, "requested_token_type": "access_token"}, "requested_token_type has no effect"),
        (
            {**ID_JAG, "api_server": {**API_SERVER, "endpoint": "https://idp.example/token"}},
            "api_server.endpoint is the endpoint of the identity provider",
        ),
        (
            {**ID_JAG, "api_server": {**API_SERVER, "endpoint": "https://IDP.example:443/token"}},
            "api_server.endpoint is the endpoint of the identity provider",
        ),
        (
            {**ID_JAG, "api_server": {**API_SERVER, "endpoint": "https://10.0.0.1/token"}},
            "has a private address",
        ),
        (
            {**ID_JAG, "api_server": {**API_SERVER, "client_secret_file": None}},
            "needs client_secret_file",
        ),
        ({**ID_JAG, "api_server": {**API_SERVER, "audience": "x"}}, "there is no such setting"),
    ],
    ids=str,
)
def test_settings_that_cannot_work(changes: dict[str, object], fault: str) -> None:
    with pytest.raises(ValidationError) as caught:
        read(**changes)
    assert fault in re.sub(r"\s+", " ", str(caught.value))
