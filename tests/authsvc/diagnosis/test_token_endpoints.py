"""A token endpoint is asked about a text that is no token: what its answer says of authsvc."""

from __future__ import annotations

import json
from pathlib import Path
from urllib.parse import parse_qs

import pytest

from authsvc.common.settings import ConfigError
from authsvc.diagnosis import Level, Report, diagnose, service
from authsvc.diagnosis.endpoint_remedies import Place
from authsvc.diagnosis.token_endpoints import ask_as_client, form_of, form_of_api_server
from authsvc.server.brokers import open_broker
from authsvc.server.config import ExchangeSettings
from tests.support.bounds import TIMEOUT_SECONDS
from tests.support.http import Answer, serving_http
from tests.support.service import settings_for
from tests.support.tokens import ISSUER, RESOURCE, IdentityProvider

pytestmark = pytest.mark.anyio

PLACE = Place("credentials.exchange", is_of_client=True)

PROFILES: dict[str, dict[str, object]] = {
    "rfc8693": {"audience": "api"},
    "jwt-bearer": {},
    "entra-obo": {"scopes": ["api://x/.default"]},
    "id-jag": {
        "audience": "https://api.example",
        "api_server": {
            "endpoint": "https://api.example/token",
            "client_id": "authsvc",
            "client_secret_file": "secret",
        },
    },
}


def table(folder: Path, url: str, profile: str = "rfc8693", **more: object) -> ExchangeSettings:
    secret = folder / "client"
    secret.write_text("secret-of-authsvc")
    values = {
        "endpoint": f"{url}/token",
        "issuers": [ISSUER],
        "client_id": "authsvc",
        "client_secret_file": secret,
        "auth_method": "client_secret_post",
        "profile": profile,
        **PROFILES[profile],
        **more,
    }
    return ExchangeSettings.model_validate(values)


@pytest.mark.parametrize("profile", PROFILES)
@pytest.mark.parametrize(
    ("status", "code", "level", "text"),
    [
        (400, "invalid_grant", Level.OK, "takes authsvc for its client"),
        (400, "invalid_request", Level.OK, "takes authsvc for its client"),
        (400, "invalid_target", Level.WARN, "takes authsvc for its client, and rejects"),
        (400, "invalid_scope", Level.WARN, "takes authsvc for its client, and rejects"),
        (401, "invalid_client", Level.FAIL, "client authentication was rejected"),
        (400, "invalid_client", Level.FAIL, "client authentication was rejected"),
        (401, "", Level.FAIL, "client authentication was rejected"),
        (400, "unauthorized_client", Level.FAIL, "which may not ask for this"),
        (400, "unsupported_grant_type", Level.FAIL, "it has no such grant"),
        (403, "access_denied", Level.NOTE, "is not known"),
        (404, "", Level.FAIL, "404"),
        (503, "", Level.FAIL, "503"),
        (302, "", Level.FAIL, "302"),
    ],
)
async def test_what_an_answer_says(
    tmp_path: Path, profile: str, status: int, code: str, level: Level, text: str
) -> None:
    report = Report("credentials")
    with serving_http() as site:
        body = json.dumps({"error": code, "error_description": "secret-of-server"}).encode()
        headers = {"Location": f"{site.url}/elsewhere"} if status == 302 else {}
        site.answers["/token"] = Answer(body if code else b"", status, headers)
        settings = table(tmp_path, site.url, profile)
        await ask_as_client(report, settings, PLACE, form_of(settings))
    (finding,) = report.findings
    assert finding.level is level
    assert text in finding.text
    assert "secret-of" not in finding.text + finding.remedy
    assert bool(finding.remedy) == (level in {Level.WARN, Level.FAIL})
    names = {
        "invalid_target": "audience" if profile in {"rfc8693", "id-jag"} else "scopes",
        "invalid_scope": "scopes",
        "unauthorized_client": "client_id",
    }
    assert f"{PLACE.table}.{names.get(code, '')}" in finding.remedy or code not in names
    assert site.requests == ["/token"]
    (asked,) = (parse_qs(body) for _, body in site.posted)
    assert asked["client_secret"] == ["secret-of-authsvc"]
    (sent,) = asked.get("subject_token", []) + asked.get("assertion", [])
    assert sent == "authsvc-doctor"


@pytest.mark.parametrize(
    ("status", "code"), [(401, "invalid_client"), (400, "unauthorized_client")]
)
async def test_the_number_of_entras_error(tmp_path: Path, status: int, code: str) -> None:
    said = {"error": code, "error_description": "AADSTS700016: Application 'of-alice' was …"}
    for profile in PROFILES:
        report = Report("credentials")
        with serving_http() as site:
            site.answers["/token"] = Answer(json.dumps(said).encode(), status)
            settings = table(tmp_path, site.url, profile)
            await ask_as_client(report, settings, PLACE, form_of(settings))
        (finding,) = report.findings
        assert finding.text.count("AADSTS700016") == (profile == "entra-obo")
        assert "alice" not in finding.text


async def test_a_server_that_issues_tokens_to_anybody(tmp_path: Path) -> None:
    report = Report("credentials")
    with serving_http() as site:
        site.answers["/token"] = Answer(b'{"access_token":"t","token_type":"Bearer"}')
        settings = table(tmp_path, site.url)
        await ask_as_client(report, settings, PLACE, form_of_api_server())
    (finding,) = report.findings
    assert finding.level is Level.FAIL
    assert "issues a token for a text that is no token" in finding.text


async def test_without_client_authentication_there_is_no_question(tmp_path: Path) -> None:
    report = Report("credentials")
    with serving_http() as site:
        settings = ExchangeSettings.model_validate(
            {"endpoint": f"{site.url}/token", "issuers": [ISSUER], "auth_method": "none"}
        )
        await ask_as_client(report, settings, PLACE, form_of(settings))
    assert not report.findings
    assert not site.requests


async def test_of_several_tables_each_finding_says_which(
    tmp_path: Path, idp: IdentityProvider
) -> None:
    with serving_http() as site:
        site.answers["/token"] = Answer(b'{"error":"invalid_client"}', 401)
        first = table(tmp_path, site.url).model_dump(exclude_unset=True)
        second = first | {"name": "api", "resources": [RESOURCE]}
        settings = settings_for(tmp_path, idp, credentials={"exchange": [first, second]})
        found = [
            it
            async for it in diagnose(service.checks(settings), timeout_seconds=TIMEOUT_SECONDS)
            if it.level is Level.FAIL
        ]
        assert len(found) == 2
        for position, finding in enumerate(found):
            where = f"credentials.exchange[{position}]"
            assert f"compare {where}.client_id" in finding.text
            assert f"Compare {where}.client_id" in finding.remedy
        (tmp_path / "other").write_text("")
        second["client_secret_file"] = tmp_path / "other"
        settings = settings_for(tmp_path, idp, credentials={"exchange": [first, second]})
        with pytest.raises(ConfigError, match=r"^credentials.exchange\[1\].client_secret_file: "):
            async with open_broker(settings):
                pass
