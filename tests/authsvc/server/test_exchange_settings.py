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
GCP = {
    "profile": "gcp-sts",
    "audience": "//iam.googleapis.com/projects/1/locations/global/workloadIdentityPools/p",
    "scopes": ["https://www.googleapis.com/auth/cloud-platform"],
    "auth_method": "none",
    "client_id": "",
    "client_secret_file": None,
}
ACCOUNT = {**GCP, "service_account": "reader@acme.iam.gserviceaccount.com"}
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
        GCP,
        {**GCP, "subject_token_type": "id_token"},
        ACCOUNT,
        {**GCP, "service_account": "112233445566778899000"},
        {**ACCOUNT, "service_account_endpoint": "https://iamcredentials.acme.example"},
        {"profile": "jwt-bearer", "auth_method": "none", "client_secret_file": None},
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
        ({**ID_JAG, "auth_method": "none", "client_secret_file": None}, "none is not possible"),
        ({**ENTRA, "auth_method": "none", "client_secret_file": None}, "none is not possible"),
        ({**GCP, "audience": ""}, "needs audience"),
        ({**GCP, "scopes": []}, "needs scopes"),
        ({**GCP, "audience": "https://mcp.example"}, "is the name of an identity provider"),
        ({**GCP, "subject_token_type": "access_token"}, "is jwt or id_token"),
        ({**GCP, "api": "https://api.example"}, "api has no effect"),
        ({**GCP, "client_id": "a"}, "client_id has no effect with profile = 'gcp-sts'"),
        (
            {
                **GCP,
                "auth_method": "client_secret_post",
                "client_id": "a",
                "client_secret_file": "s",
            },
            "auth_method has to be none",
        ),
        (
            {**GCP, "service_account_endpoint": "https://x.example"},
            "service_account_endpoint has no effect without service_account",
        ),
        ({"service_account": "reader@acme.iam.gserviceaccount.com"}, "set profile to gcp-sts"),
        ({**GCP, "service_account": "ada@example.com"}, "pattern"),
        ({**GCP, "service_account": "a/b@acme.iam.gserviceaccount.com"}, "pattern"),
        ({**ACCOUNT, "service_account_endpoint": "https://10.0.0.1"}, "has a private address"),
        ({**ACCOUNT, "service_account_endpoint": "https://x.example/?a=b"}, "has a query"),
        (
            {**ACCOUNT, "service_account_endpoint": "http://127.0.0.1:1", "ca_file": "c"},
            "ca_file goes with https alone",
        ),
        ({**ID_JAG, "api_server": {**API_SERVER, "audience": "x"}}, "there is no such setting"),
    ],
    ids=str,
)
def test_settings_that_cannot_work(changes: dict[str, object], fault: str) -> None:
    with pytest.raises(ValidationError) as caught:
        read(**changes)
    assert fault in re.sub(r"\s+", " ", str(caught.value))
