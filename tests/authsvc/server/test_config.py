"""A wrong setting stops the start, by its name."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import get_args

import pytest
from pydantic import ValidationError

from authsvc.common.settings import ConfigError, load
from authsvc.net.addresses import is_local
from authsvc.server.config import Settings
from authsvc.server.config.store import SHARED_KINDS, StoreKind, StoreSettings

MINIMAL = """
resources = ["https://mcp.example/mcp"]
[[issuers]]
issuer = "https://idp.example"
algorithms = ["HS256"]
secret_file = "secret"
"""


def written(folder: Path, text: str) -> Path:
    path = folder / "authsvc.toml"
    path.write_text(text)
    return path


def complaint(folder: Path, text: str) -> str:
    with pytest.raises(ConfigError) as caught:
        load(Settings, written(folder, text))
    return str(caught.value)


def test_defaults(tmp_path: Path) -> None:
    settings = load(Settings, written(tmp_path, MINIMAL))
    assert settings.listen == "127.0.0.1:50051"
    assert (settings.store.kind, settings.store.path) == ("sqlite", Path("var/authsvc.db"))
    assert settings.sessions.unauthenticated_idle_seconds == 3600
    assert settings.sessions.authenticated_idle_seconds == 86400
    assert settings.sessions.absolute_seconds == 30 * 86400
    assert settings.issuers[0].required_claims == ("exp", "iat")


def test_each_worker_needs_a_port_for_its_metrics(tmp_path: Path) -> None:
    metrics = '[metrics]\nlisten = "127.0.0.1:65534"\n'
    settings = load(Settings, written(tmp_path, "workers = 2\n" + MINIMAL + metrics))
    assert settings.workers == 2
    assert "metrics.listen" in complaint(tmp_path, "workers = 3\n" + MINIMAL + metrics)


def test_workers_share_a_store_of_a_shared_kind_alone(tmp_path: Path) -> None:
    minimal = load(Settings, written(tmp_path, MINIMAL))
    given = {name: getattr(minimal, name) for name in ("resources", "issuers")}
    of_kind = StoreSettings.model_construct  # not validated: a kind may be new
    for kind in SHARED_KINDS:
        assert Settings(**given, workers=2, store=of_kind(kind=kind)).workers == 2
    for kind in {"new", *get_args(StoreKind)} - set(SHARED_KINDS):
        with pytest.raises(ValidationError, match="needs a store that they share: sqlite or redis"):
            Settings(**given, workers=2, store=of_kind(kind=kind))


def test_the_environment_overrides_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AUTHSVC_LISTEN", "127.0.0.1:6000")
    monkeypatch.setenv("AUTHSVC_STORE__EVENTS_KEPT", "5000")
    monkeypatch.setenv("AUTHSVC_RESOURCES", '["https://env.example/mcp"]')
    settings = load(Settings, written(tmp_path, MINIMAL + "[store]\npath = 'x.db'\n"))
    assert settings.listen == "127.0.0.1:6000"
    assert (settings.store.events_kept, settings.store.path) == (5_000, Path("x.db"))
    assert settings.resources == ("https://env.example/mcp",)


@pytest.mark.parametrize(
    ("old", "new", "named"),
    [
        ('resources = ["https://mcp.example/mcp"]', "", "needs either resources"),
        ('resources = ["https://mcp.example/mcp"]', "resources = []", "needs either resources"),
        ("https://mcp.example/mcp", "mcp.example/mcp", "resources: is a canonical URI"),
        ("https://mcp.example/mcp", "https://mcp.example/mcp#x", "resources: is a canonical"),
        ("https://mcp.example/mcp", "https://MCP.example/mcp", "resources: is a canonical"),
        (
            "resources",
            'listen = "0.0.0.0:50051"\nresources',
            "can be reached from other machines and needs [tls]",
        ),
        (
            "resources",
            'listen = "10.1.2.3:50051"\nresources',
            "can be reached from other machines and needs [tls]",
        ),
        (
            "resources",
            'listen = "[::]:50051"\nresources',
            "can be reached from other machines and needs [tls]",
        ),
        ("resources", 'listen = "nonsense"\nresources', "listen: is an address like"),
        ("resources", 'lsten = "x"\nresources', "lsten: there is no such setting"),
        (
            "secret_file",
            "secret_fil",
            "issuers[https://idp.example].secret_fil: there is no such setting",
        ),
        (
            'secret_file = "secret"',
            "",
            "issuers[https://idp.example]: needs exactly one of secret_file",
        ),
        ('secret_file = "secret"', 'secret_file = "s"\njwks_file = "j"', "exactly one of"),
        ('["HS256"]', '["RS256"]', "issuers[https://idp.example]: secret_file goes with"),
        ('["HS256"]', '["HS256", "RS256"]', "issuers[https://idp.example]: secret_file goes with"),
        (
            '["HS256"]',
            '["none"]',
            "issuers[https://idp.example].algorithms: is one of HS256, HS384",
        ),
        (
            'secret_file = "secret"',
            'jwks_file = "j"',
            "issuers[https://idp.example]: HS256: HS algorithms go with",
        ),
        ('secret_file = "secret"', 'secret_file = "s"\nleeway_seconds = -1', "leeway_seconds"),
        ("[[issuers]]", "[store]\nkind = 'redisx'\n[[issuers]]", "store.kind"),
    ],
)
def test_an_error_names_the_wrong_setting(tmp_path: Path, old: str, new: str, named: str) -> None:
    assert named in complaint(tmp_path, MINIMAL.replace(old, new))


def introspection(endpoint: str) -> str:
    return (
        f'[introspection]\nissuer = "https://opaque.example"\nendpoint = "{endpoint}"\n'
        'client_id = "a"\nclient_secret_file = "b"\n'
    )


def issuer(more: str) -> str:
    return f'[[issuers]]\nissuer = "https://b.example"\nalgorithms = ["ES256"]\n{more}\n'


def sts(url: str) -> str:
    return (
        f'[[credentials.sts]]\nregion = "eu-west-1"\nambient = true\nendpoint_url = "{url}"\n'
        '[[credentials.sts.roles]]\nissuer = "https://idp.example"\n'
        'arn = "arn:aws:iam::123456789012:role/a"\n'
    )


def exchange(endpoint: str = "https://idp.example/token", more: str = "") -> str:
    return (
        f'[[credentials.exchange]]\nissuers = ["https://idp.example"]\nendpoint = "{endpoint}"\n'
        f'client_id = "a"\nclient_secret_file = "b"\n{more}\n'
    )


WRONG_ENDPOINTS = [
    *("idp.example", "http://idp.example/x", "https://u:hush@idp.example/x", "https://a b/x"),
    *(r"https://idp.example/x\n", "https://idp.example/\u00e9", "https://..."),
    *("https://idp.example:99999/x", "https://idp.example/../x", "https://idp.example/x#y"),
]


@pytest.mark.parametrize("url", WRONG_ENDPOINTS)
@pytest.mark.parametrize(
    ("table", "named"),
    [
        (introspection, "introspection.endpoint: is a URL like"),
        (
            lambda url: issuer(f'jwks_url = "{url}"'),
            "issuers[https://b.example].jwks_url: is a URL like",
        ),
        (sts, "credentials.sts[0].endpoint_url: is a URL like"),
        (exchange, "credentials.exchange[0].endpoint: is a URL like"),
    ],
    ids=["introspection", "jwks_url", "sts", "exchange"],
)
def test_an_endpoint_is_a_url(
    tmp_path: Path, table: Callable[[str], str], named: str, url: str
) -> None:
    text = complaint(tmp_path, MINIMAL + table(url))
    assert named in text
    assert "hush" not in text


@pytest.mark.parametrize(
    "url",
    [
        *("https://idp.example/x?y=1", "http://127.0.0.1:1/x", "http://[::1]:1", "https://a_b:1/"),
        *("http://localhost:1/x", "https://idp.example/a%2Fb"),
    ],
)
def test_an_endpoint_is_https_or_on_loopback(tmp_path: Path, url: str) -> None:
    tables = introspection(url) + issuer(f'jwks_url = "{url}"') + sts(url)
    load(Settings, written(tmp_path, MINIMAL + tables))
    load(Settings, written(tmp_path, MINIMAL + exchange(url)))


@pytest.mark.parametrize(
    ("text", "named"),
    [
        (issuer("discover = true").replace("https://b.example", "urn:idp"), "discover: issuer is"),
        (issuer("discover = true").replace("b.example", "b.example/?x"), "discover: issuer is"),
        (
            issuer('jwks_file = "j"').replace("b.example", r"b.example\n"),
            "issuers[1].issuer: is one",
        ),
        (
            issuer('jwks_file = "j"').replace("b.example", "b.example "),
            "issuers[https://b.example ].issuer: is one",
        ),
        (
            issuer('jwks_file = "j"\naccepted_types = ["JWT", "application/SecEvent+JWT"]'),
            "issuers[https://b.example].accepted_types: has application/SecEvent+JWT: no access",
        ),
        (exchange(more='api = "api.example"'), "credentials.exchange[0].api: is a URI"),
        (exchange(more='api = "https://api.example#x"'), "credentials.exchange[0].api: is a URI"),
        (exchange(more='scopes = ["a b"]'), "credentials.exchange[0].scopes: is a scope"),
        (exchange(more=r'audience = "a\n"'), "credentials.exchange[0].audience: is one line"),
        ('[metrics]\nlisten = "a b:1"', "metrics.listen: is an address"),
        ('[metrics]\nlisten = "a:65536"', "metrics.listen: is an address"),
        ('[tracing]\nendpoint = "http://a b:1"', "tracing.endpoint: is a URL"),
        ('[store]\nkind = "redis"\nurl = "redis://a b"', "store: url is a URL like"),
        ('[store]\nkind = "redis"\nurl = "redis://h:0"', "store: url is a URL like"),
        ('[store]\nnodes = ["a b:1"]', "store.nodes: is a host and a port"),
        ('[store]\nsentinels = ["::1:1"]', "store.sentinels: is a host and a port"),
        ('[store]\nsentinels = ["a..b:1"]', "store.sentinels: is a host and a port"),
    ],
)
def test_an_error_names_an_inconsistent_setting(tmp_path: Path, text: str, named: str) -> None:
    assert named in complaint(tmp_path, MINIMAL + text)


@pytest.mark.parametrize(
    "listen",
    [
        *("127.0.0.1:65536", "a b:1", ":50051", "::1:50051", "a..b:1", "unix:", r"unix:/run/a\n"),
        *("127.0.0.1:\u0661", "b\u00fccher.example:1"),
    ],
)
def test_an_address_to_listen_on_is_one(tmp_path: Path, listen: str) -> None:
    text = f'listen = "{listen}"\n{MINIMAL}'
    assert "listen: is " in complaint(tmp_path, text)


@pytest.mark.parametrize("api", ["https://api.example/x?y", "urn:api", "api://4f2c-client-id"])
def test_an_api_is_any_uri(tmp_path: Path, api: str) -> None:
    load(Settings, written(tmp_path, MINIMAL + exchange(more=f'api = "{api}"')))


SECURE = """
listen = "0.0.0.0:50051"
[tls]
certificate_file = "server.pem"
key_file = "server.key"
client_ca_file = "ca.pem"
[[callers]]
name = "buckets"
resources = ["https://mcp.example/mcp"]
certificate_names = ["spiffe://example/buckets"]
[[callers]]
name = "operator"
admin = true
service_token_files = ["operator.token"]
[[issuers]]
issuer = "https://idp.example"
algorithms = ["HS256"]
secret_file = "secret"
"""


def test_other_machines_need_tls(tmp_path: Path) -> None:
    settings = load(Settings, written(tmp_path, SECURE))
    assert [caller.name for caller in settings.callers] == ["buckets", "operator"]


@pytest.mark.parametrize(
    ("old", "new", "named"),
    [
        ('client_ca_file = "ca.pem"\n', "", "callers[buckets].certificate_names: needs tls"),
        ('name = "operator"', 'name = "buckets"', "two have the same name"),
        ("admin = true\n", "", "callers[operator]: needs resources, or admin = true"),
        (
            "admin = true",
            'admin = true\nresources = ["https://a.example/x"]',
            "callers[operator]: needs",
        ),
        (
            'service_token_files = ["operator.token"]\n',
            "",
            "callers[operator]: needs certificate_names or",
        ),
        ('listen = "0.0.0.0:50051"', 'resources = ["https://a.example/x"]', "needs either"),
        ('key_file = "server.key"\n', "", "tls.key_file: is required"),
    ],
)
def test_an_error_names_the_missing_setting(tmp_path: Path, old: str, new: str, named: str) -> None:
    assert old in SECURE
    assert named in complaint(tmp_path, SECURE.replace(old, new))


def digest(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()


NO_DIGEST = "is the SHA-256 of a service token: 64 hexadecimal digits in lower case"


@pytest.mark.parametrize(
    ("stated", "fault"),
    [
        (digest(""), "it is the digest of a common word or of an empty text"),
        (digest("changeme"), "it is the digest of a common word or of an empty text"),
        ("0" * 64, "is no service token's digest: "),
        (digest("x1")[:-1], NO_DIGEST),
        (f"{digest('x1')}0", NO_DIGEST),
        (digest("x1").upper(), NO_DIGEST),
        (f"sha256:{digest('x1')}", NO_DIGEST),
        (f"{digest('x1')}\n", NO_DIGEST),
        ("the-token-itself-of-thirty-two-characters", NO_DIGEST),
    ],
)
def test_a_digest_of_no_service_token(tmp_path: Path, stated: str, fault: str) -> None:
    caller = '[[callers]]\nname = "a"\nadmin = true\nservice_token_sha256 = '
    listens = 'listen = "unix:/run/authsvc.sock"\n'
    found = complaint(tmp_path, f"{listens}{MINIMAL}{caller}{json.dumps([stated])}\n")
    assert "callers[a].service_token_sha256: " in found
    assert fault in found
    assert stated[:20] not in found


def test_callers_authenticate_over_tls_only(tmp_path: Path) -> None:
    plain = SECURE.replace('listen = "0.0.0.0:50051"', 'listen = "127.0.0.1:1"')
    start, end = plain.index("[tls]"), plain.index("[[callers]]")
    assert "needs [tls]" in complaint(tmp_path, plain[:start] + plain[end:])


@pytest.mark.parametrize(
    ("keys", "named"),
    [
        ('algorithms = ["HS256"]\njwks_url = "https://a.example/jwks"', "go with secret_file"),
        ('algorithms = ["HS256", "ES256"]\ndiscover = true', "go with secret_file"),
        (
            'algorithms = ["ES256"]\ndiscover = true\njwks_url = "https://a.example/j"',
            "exactly one",
        ),
        ('algorithms = ["ES256"]\ndiscover = false', "exactly one"),
        (
            'algorithms = ["ES256"]\njwks_file = "j"\nprevious_secret_files = ["s"]',
            "previous_secret",
        ),
        ('algorithms = ["ES256"]\njwks_file = "j"\naudiences = {"a" = ["x"]}', "audiences"),
    ],
)
def test_an_issuer_has_one_source_of_keys(tmp_path: Path, keys: str, named: str) -> None:
    issuer = '[[issuers]]\nissuer = "https://idp.example"\n'
    text = MINIMAL.partition("[[issuers]]")[0] + issuer + keys
    assert named in complaint(tmp_path, text)


def test_issuers_are_distinct(tmp_path: Path) -> None:
    issuer = MINIMAL.partition("[[issuers]]")[2]
    assert "two have the same issuer" in complaint(tmp_path, f"{MINIMAL}\n[[issuers]]{issuer}")


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"nowhere\.toml: No such file"):
        load(Settings, tmp_path / "nowhere.toml")


def test_a_file_that_is_not_toml_is_named(tmp_path: Path) -> None:
    assert "not TOML" in complaint(tmp_path, "=")


def test_unknown_variables_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AUTHSVC_LISTENN", "127.0.0.1:1")
    assert "AUTHSVC_LISTENN: there is no such setting" in complaint(tmp_path, MINIMAL)


def test_values_are_not_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AUTHSVC_LISTEN", "hush-hush")
    assert "hush-hush" not in complaint(tmp_path, MINIMAL)


@pytest.mark.parametrize(
    "address", ["127.0.0.1:1", "127.8.8.8:1", "[::1]:1", "localhost:1", "unix:/tmp/x"]
)
def test_local_addresses(address: str) -> None:
    assert is_local(address)


@pytest.mark.parametrize(
    "address", ["0.0.0.0:1", "[::]:1", "192.168.0.1:1", "example.com:1", ":1", "localhost.evil:1"]
)
def test_addresses_that_are_not_local(address: str) -> None:
    assert not is_local(address)


# [assertions].

ASSERTIONS = """
[assertions]
issuer = "https://authsvc.example"
"""
ENCRYPTED = f'{ASSERTIONS}encryption_key_file = "encryption.key"\n'
IN_MEMORY = '[store]\nkind = "memory"\n'
TLS = '[tls]\ncertificate_file = "server.pem"\nkey_file = "server.key"\n'


def test_defaults_of_assertions(tmp_path: Path) -> None:
    assert load(Settings, written(tmp_path, MINIMAL)).assertions is None
    assertions = load(Settings, written(tmp_path, MINIMAL + ENCRYPTED)).assertions
    assert assertions is not None
    assert assertions.listen == "127.0.0.1:50053"
    assert (assertions.lifetime_seconds, assertions.rotation_days) == (60, 30)


@pytest.mark.parametrize("kind", SHARED_KINDS)
def test_shared_keys_of_assertions_are_encrypted(tmp_path: Path, kind: str) -> None:
    store = f'[store]\nkind = "{kind}"\n'
    load(Settings, written(tmp_path, MINIMAL + store + ENCRYPTED))
    found = complaint(tmp_path, MINIMAL + store + ASSERTIONS)
    assert "assertions.encryption_key_file: is required" in found
    assert "openssl rand -hex 32" in found


def test_keys_of_assertions_in_memory_need_no_file(tmp_path: Path) -> None:
    load(Settings, written(tmp_path, MINIMAL + IN_MEMORY + ASSERTIONS))
    found = complaint(tmp_path, MINIMAL + IN_MEMORY + ENCRYPTED)
    assert "assertions.encryption_key_file: has no effect with store.kind = 'memory'" in found


@pytest.mark.parametrize(
    ("setting", "fault"),
    [
        ("lifetime_seconds = 61", "lifetime_seconds"),
        ("lifetime_seconds = 4", "lifetime_seconds"),
        ("lifetime_seconds = 30.5", "lifetime_seconds"),
        ("rotation_days = 0", "rotation_days"),
        ("rotation_days = 366", "rotation_days"),
        ('listen = "unix:/run/jwks.sock"', "listen"),
        ('listen = "50053"', "listen"),
        ('listen = "127.0.0.1:50051"', "listen: is the address of listen: choose another port"),
        ('listen = "0.0.0.0:50053"', "listen: can be reached from other machines and needs [tls]"),
        ("lifetime = 60", "lifetime: there is no such setting"),
    ],
)
def test_a_wrong_setting_of_assertions_is_named(tmp_path: Path, setting: str, fault: str) -> None:
    assert f"assertions.{fault}" in complaint(tmp_path, f"{MINIMAL}{ENCRYPTED}{setting}\n")


def test_assertions_do_not_listen_where_metrics_do(tmp_path: Path) -> None:
    metrics = '[metrics]\nlisten = "127.0.0.1:50053"\n'
    assert "assertions.listen: is the address of metrics.listen" in complaint(
        tmp_path, MINIMAL + metrics + ENCRYPTED
    )


def test_assertions_are_published_to_other_machines_over_tls(tmp_path: Path) -> None:
    settings = f'{MINIMAL}{ENCRYPTED}listen = "0.0.0.0:50053"\n{TLS}'
    assert load(Settings, written(tmp_path, settings)).assertions is not None


@pytest.mark.parametrize(
    ("audit", "fault"),
    [
        ('format = "ocsf"', "format: is the format of audit_file: set audit_file, too"),
        ('calls = "full"', "calls: needs [ext_authz]"),
        ('calls = "all"', "calls"),
        ("sample_ratio = 0.1", 'sample_ratio: has no effect with calls = "off"'),
        ('calls = "sampled"\nsample_ratio = 0.0', "sample_ratio"),
        ('calls = "sampled"\nsample_ratio = 1.1', "sample_ratio"),
        ('file = "calls.jsonl"', "file: there is no such setting"),
    ],
)
def test_a_wrong_setting_of_the_audit_is_named(tmp_path: Path, audit: str, fault: str) -> None:
    assert f"audit.{fault}" in complaint(tmp_path, f"{MINIMAL}[audit]\n{audit}\n")


def test_the_audit_of_calls(tmp_path: Path) -> None:
    route = '[ext_authz]\n[[ext_authz.routes]]\nresource = "https://mcp.example/mcp"\n'
    table = '[audit]\ncalls = "sampled"\nformat = "ocsf"\n'
    text = f'audit_file = "a"\n{MINIMAL}{ENCRYPTED}{route}{table}'
    audit = load(Settings, written(tmp_path, text)).audit
    assert (audit.calls, audit.sample_ratio, audit.format) == ("sampled", 0.01, "ocsf")


@pytest.mark.parametrize("issuer", ["", "authsvc", "http://authsvc.example", "https://a.example?x"])
def test_the_issuer_of_assertions_is_a_url(tmp_path: Path, issuer: str) -> None:
    text = ENCRYPTED.replace("https://authsvc.example", issuer)
    assert "assertions.issuer: is an issuer's URL" in complaint(tmp_path, MINIMAL + text)


@pytest.mark.parametrize("issuer", ["https://idp.example", "https://idp.example/"])
def test_assertions_have_an_issuer_of_their_own(tmp_path: Path, issuer: str) -> None:
    text = ENCRYPTED.replace("https://authsvc.example", issuer)
    assert "assertions.issuer: is also an issuer of tokens" in complaint(tmp_path, MINIMAL + text)
