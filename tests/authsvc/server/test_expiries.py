"""When the files expire that authsvc authenticates by at other servers, as metrics have it."""

from __future__ import annotations

from pathlib import Path

import jwt
import pytest
from cryptography import x509
from prometheus_client.core import CollectorRegistry
from prometheus_client.exposition import generate_latest

from authsvc.net.certificate_files import CertificateFiles
from authsvc.net.certificates import issue, make_authority
from authsvc.net.validity import UNUSABLE, Validity
from authsvc.server.config import Settings
from authsvc.server.expiries import certificate_files, renewed_files
from authsvc.telemetry.metrics import Metrics, ServiceCollector
from tests.support.certificates import Authority
from tests.support.clock import START
from tests.support.tokens import ISSUER, RESOURCE

ENDS = "authsvc_client_credential_expire_timestamp_seconds"
BEGINS = "authsvc_client_credential_issue_timestamp_seconds"


def token(**claims: object) -> str:
    return jwt.encode({"sub": "authsvc", **claims}, "k" * 32, algorithm="HS256")


def exposed(settings: Settings) -> dict[str, float]:
    """By name and setting."""
    registry = CollectorRegistry()
    registry.register(ServiceCollector(Metrics(renewed_files=renewed_files(settings))))
    lines = generate_latest(registry).decode().splitlines()
    samples = (it.rsplit(" ", 1) for it in lines if it.startswith("authsvc_client_credential"))
    return {name: float(value) for name, value in samples}


def configured(folder: Path) -> Settings:
    def client(name: str) -> dict[str, object]:
        return {"endpoint": f"https://{name}.example/token", "client_id": "authsvc"}

    assertion = {
        "auth_method": "client_assertion_file",
        "client_assertion_file": folder / "assertion",
    }
    certificate = {
        "auth_method": "tls_client_auth",
        "client_certificate_file": folder / "client.pem",
        "client_certificate_key_file": folder / "client.pem",
    }
    return Settings.model_validate(
        {
            "resources": [RESOURCE],
            "introspection": {"issuer": ISSUER, **client("introspects"), **certificate},
            "credentials": {
                "exchange": [
                    {
                        **client("idp"),
                        **assertion,
                        "issuers": [ISSUER],
                        "profile": "id-jag",
                        "audience": "https://api.example",
                        "api_server": {**client("api"), **certificate},
                    },
                    {
                        **client("sts"),
                        "name": "acting",
                        "resources": [RESOURCE],
                        "issuers": [ISSUER],
                        "client_secret_file": folder / "secret",
                        "actor_token_file": folder / "actor",
                    },
                ],
                "sts": [
                    {
                        "name": "aws",
                        "resources": [RESOURCE],
                        "region": "eu-west-1",
                        "web_identity_token_file": folder / "web",
                        "roles": [{"issuer": ISSUER, "arn": "arn:aws:iam::123456789012:role/r"}],
                    }
                ],
            },
        }
    )


def test_each_file_has_its_end(tmp_path: Path) -> None:
    (tmp_path / "client.pem").write_bytes(b"".join(Authority().signed([])))
    (tmp_path / "assertion").write_text(token(exp=START + 60, iat=START))
    (tmp_path / "actor").write_text(token(exp=START + 90))
    (tmp_path / "web").write_text(token())
    found = exposed(configured(tmp_path))
    ends = {key for key in found if key.startswith(ENDS)}
    assert ends == {
        f'{ENDS}{{setting="{setting}"}}'
        for setting in (
            "introspection.client_certificate_file",
            "credentials.exchange[0].client_assertion_file",
            "credentials.exchange[0].api_server.client_certificate_file",
            "credentials.exchange[1].actor_token_file",
        )
    }
    first = '{setting="credentials.exchange[0].client_assertion_file"}'
    assert (found[BEGINS + first], found[ENDS + first]) == (START, START + 60)
    acting = '{setting="credentials.exchange[1].actor_token_file"}'
    assert found[ENDS + acting] == START + 90
    assert BEGINS + acting not in found
    certificate = '{setting="introspection.client_certificate_file"}'
    assert 0 < found[BEGINS + certificate] < found[ENDS + certificate]
    # A renewed file is read.
    (tmp_path / "assertion").write_text(token(exp=START + 600))
    assert exposed(configured(tmp_path))[ENDS + first] == START + 600


@pytest.mark.parametrize("content", [None, "", "x", "a.b.c", "-----BEGIN CERTIFICATE-----\nx"])
def test_a_file_that_cannot_be_used_has_expired(tmp_path: Path, content: str | None) -> None:
    for name in ("client.pem", "assertion", "actor", "web"):
        if content is not None:
            (tmp_path / name).write_text(content)
    found = exposed(configured(tmp_path))
    assert len(found) == 5
    assert all(key.startswith(ENDS) and value == 0.0 for key, value in found.items())


def test_the_certificate_of_a_private_key(tmp_path: Path) -> None:
    (tmp_path / "client.pem").write_bytes(b"".join(Authority().signed([])))
    key = {
        "endpoint": "https://idp.example/i",
        "client_id": "authsvc",
        "auth_method": "private_key_jwt",
        "private_key_file": tmp_path / "client.pem",
        "private_key_certificate_file": tmp_path / "client.pem",
    }
    settings = Settings.model_validate(
        {"resources": [RESOURCE], "introspection": {"issuer": ISSUER, **key}}
    )
    setting = '{setting="introspection.private_key_certificate_file"}'
    found = exposed(settings)
    assert 0 < found[BEGINS + setting] < found[ENDS + setting]


def test_nothing_of_files_that_do_not_expire(tmp_path: Path) -> None:
    client = {"endpoint": "https://idp.example/i", "client_id": "authsvc"}
    table = {"issuer": ISSUER, **client, "client_secret_file": tmp_path / "secret"}
    settings = Settings.model_validate({"resources": [RESOURCE], "introspection": table})
    assert not exposed(settings)


def test_each_certificate_in_use_has_its_end(tmp_path: Path) -> None:
    """What authsvc presents, and the authorities that it trusts: the first of a file that ends."""
    first, later = (make_authority("CA", days=days) for days in (1, 2))
    server = issue(later, "server", [x509.DNSName("localhost")], days=3)
    for name, made in {
        "server.pem": [server, first],
        "ca.pem": [later, first],
        "store.pem": [server],
        "idp.pem": [first],
    }.items():
        (tmp_path / name).write_bytes(b"".join(it.certificate_pem() for it in made))
    files = {it: tmp_path / it for it in ("server.pem", "ca.pem", "store.pem", "idp.pem", "gone")}
    endpoint = {"endpoint": "https://idp.example/i", "client_id": "a", "ca_file": files["idp.pem"]}
    exchange = {
        **endpoint,
        "issuers": [ISSUER],
        "client_secret_file": tmp_path / "secret",
        "profile": "id-jag",
        "audience": "https://api.example",
        "api_server": {
            **endpoint,
            "endpoint": "https://api.example/token",
            "client_secret_file": tmp_path / "secret",
        },
    }
    sts = {
        "name": "aws",
        "resources": [RESOURCE],
        "region": "eu-west-1",
        "use_client_token": True,
        "ca_file": files["idp.pem"],
        "roles": [{"issuer": ISSUER, "arn": "arn:aws:iam::123456789012:role/r"}],
    }
    settings = Settings.model_validate(
        {
            "callers": [{"name": "a", "resources": [RESOURCE], "certificate_names": ["a.example"]}],
            "tls": {
                "certificate_file": files["server.pem"],
                "key_file": files["gone"],
                "client_ca_file": files["ca.pem"],
            },
            "store": {
                "kind": "redis",
                "url": "rediss://valkey.example",
                "ca_file": files["ca.pem"],
                "certificate_file": files["store.pem"],
                "key_file": files["gone"],
            },
            "issuers": [
                {
                    "issuer": "https://other.example",
                    "algorithms": ["RS256"],
                    "discover": True,
                    "ca_file": files["gone"],
                }
            ],
            "introspection": {
                **endpoint,
                "issuer": ISSUER,
                "client_secret_file": tmp_path / "secret",
            },
            "credentials": {"exchange": [exchange], "sts": [sts]},
        }
    )
    ends = {
        path: Validity(
            it.certificate.not_valid_before_utc.timestamp(),
            it.certificate.not_valid_after_utc.timestamp(),
        )
        for path, it in {"idp.pem": first, "store.pem": server}.items()
    }
    first_ends, server_ends = ends["idp.pem"], ends["store.pem"]
    expected = {
        "tls.certificate_file": first_ends,
        "tls.client_ca_file": first_ends,
        "store.ca_file": first_ends,
        "store.certificate_file": server_ends,
        "issuers[0].ca_file": UNUSABLE,
        "introspection.ca_file": first_ends,
        "credentials.exchange[0].ca_file": first_ends,
        "credentials.exchange[0].api_server.ca_file": first_ends,
        "credentials.sts[0].ca_file": first_ends,
    }
    certificates = CertificateFiles(certificate_files(settings))
    assert certificates.validities() == expected
    registry = CollectorRegistry()
    registry.register(ServiceCollector(Metrics(certificates=certificates.validities)))
    for setting, validity in expected.items():
        for name, value in (("expire", validity.ends), ("issue", validity.begins)):
            metric = f"authsvc_certificate_{name}_timestamp_seconds"
            assert registry.get_sample_value(metric, {"setting": setting}) == value
