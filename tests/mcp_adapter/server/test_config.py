"""A wrong setting stops the start, by its name."""

from __future__ import annotations

from pathlib import Path

import pytest

from authsvc.common.settings import ConfigError, load
from authsvc.domain.rates import Rate, RateLimit, RatePer
from mcp_adapter.server import running
from mcp_adapter.server.config import Settings

MINIMAL = """
resource = "https://mcp.example/mcp"
authorization_servers = ["https://idp.example"]
"""


def written(folder: Path, text: str) -> Path:
    path = folder / "adapter.toml"
    path.write_text(text)
    return path


def complaint(folder: Path, text: str) -> str:
    with pytest.raises(ConfigError) as caught:
        load(Settings, written(folder, text))
    return str(caught.value)


def test_defaults(tmp_path: Path) -> None:
    settings = load(Settings, written(tmp_path, MINIMAL))

    assert settings.listen == "127.0.0.1:8000"
    assert settings.authsvc.target == "127.0.0.1:50051"
    assert settings.max_body_bytes == 4 * 1024 * 1024
    assert (settings.s3.endpoint_url, settings.s3.region) == (None, "us-east-1")
    assert all(origin.endswith(":*") for origin in settings.allowed_origins)


def test_the_environment_wins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = written(tmp_path, MINIMAL + '[authsvc]\ntarget = "127.0.0.1:1"\ndeadline_seconds = 9')
    monkeypatch.setenv("MCP_ADAPTER_AUTHSVC__TARGET", "unix:/run/authsvc.sock")
    monkeypatch.setenv("MCP_ADAPTER_LISTEN", "[::1]:0")

    settings = load(Settings, path)

    assert settings.authsvc.target == "unix:/run/authsvc.sock"
    assert settings.authsvc.deadline_seconds == 9
    assert settings.listen == "[::1]:0"


@pytest.mark.parametrize(
    ("target", "tls"),
    [
        ("127.0.0.1:1,[::1]:2,unix:/run/authsvc.sock,localhost:3,dns:///localhost:4", ""),
        ("10.0.0.7:1,10.0.0.8:1", 'ca_file = "ca.pem"'),
        ("dns:///authsvc.internal:50051", 'ca_file = "ca.pem"'),
    ],
)
def test_authsvc_may_have_replicas(tmp_path: Path, target: str, tls: str) -> None:
    text = MINIMAL + f'[authsvc]\ntarget = "{target}"\n{tls}'
    assert load(Settings, written(tmp_path, text)).authsvc.target == target


@pytest.mark.parametrize("setting", ["resource", "authorization_servers"])
def test_what_is_required(tmp_path: Path, setting: str) -> None:
    text = "\n".join(line for line in MINIMAL.splitlines() if not line.startswith(setting))

    assert f"{setting}: is required" in complaint(tmp_path, text)


@pytest.mark.parametrize(
    ("text", "setting"),
    [
        ('listen = "8000"', "listen"),
        ('listen = ":8000"', "listen"),
        ('listen = "127.0.0.1:http"', "listen"),
        ('listen = "127.0.0.1:65536"', "listen"),
        ('listen = "a b:8000"', "listen"),
        ('listen = "::1:8000"', "listen"),
        ('allowed_hosts = ["..."]', "allowed_hosts"),
        ('implied_scopes = {"a b" = ["c"]}', 'implied_scopes."a b"'),
        ('implied_scopes = {a = ["b c"]}', "implied_scopes.a"),
        ('[s3]\nendpoint_url = "s3.example"', "s3.endpoint_url"),
        ('[s3]\nendpoint_url = "http://u:p@s3.example"', "s3.endpoint_url"),
        ('[s3]\nendpoint_url = "http://s3..example"', "s3.endpoint_url"),
        ('[s3]\nendpoint_url = "http://s3.example/?x"', "s3.endpoint_url"),
        ('[s3]\nendpoint_url = "http://my_s3:9000"', "s3.endpoint_url"),
        ('[s3]\nendpoint_url = "http://-s3:9000"', "s3.endpoint_url"),
        ('[s3]\nregion = "eu west"', "s3.region"),
        ('[s3]\nregion = "-eu"', "s3.region"),
        ('[s3]\nregion = "1"', "s3.region"),
        ('[s3]\nregion = ""', "s3.region"),
        (r"[s3]" + "\n" + r'endpoint_url = "http://s3.example\n"', "s3.endpoint_url"),
        ('[tracing]\nendpoint = "http://a b:4317"', "tracing.endpoint"),
        ('[tracing]\nendpoint = "http://u:p@collector:4317"', "tracing.endpoint"),
        ('[tracing]\nendpoint = "http://collector:99999"', "tracing.endpoint"),
        ('[tracing]\nendpoint = "http://collector:4317/"', "tracing.endpoint"),
        ('[metrics]\nlisten = "a b:1"', "metrics.listen"),
        ('colour = "blue"', "colour"),
        ("max_body_bytes = 0", "max_body_bytes"),
        ("grace_seconds = 0", "grace_seconds"),
        ('allowed_origins = ["app.example"]', "allowed_origins"),
        ('allowed_origins = ["https://app.example/"]', "allowed_origins"),
        ('allowed_origins = ["*"]', "allowed_origins"),
        ('allowed_hosts = ["https://app.example"]', "allowed_hosts"),
        ('log_level = "loud"', "log_level"),
        ('[authsvc]\ntarget = "127.0.0.1"', "authsvc.target"),
        ('[authsvc]\ntarget = "authsvc.internal:50051"', "authsvc"),
        ('[authsvc]\ntarget = "10.0.0.7:50051"', "authsvc"),
        ('[authsvc]\ntarget = "127.0.0.1:1,"', "authsvc.target"),
        ('[authsvc]\ntarget = "127.0.0.1:1,10.0.0.7:50051"', "authsvc"),
        ('[authsvc]\ntarget = "dns:///authsvc.internal:50051"', "authsvc"),
        ('[authsvc]\nservice_token_file = "x"', "authsvc"),
        ('[authsvc]\nca_file = "x"\nkey_file = "x"', "authsvc"),
        ("[authsvc]\ndeadline_seconds = 0", "authsvc.deadline_seconds"),
        ("[authsvc]\ntls = true", "authsvc.tls"),
        ('[s3]\nbucket = "x"', "s3.bucket"),
        ('[audit]\nfile = "x"', "audit.file"),
        ('client_address_header = "x-forwarded-for"', "client_address_header"),
        (
            'trusted_proxies = ["10.0.0.0/8"]\nclient_address_header = "X-Forwarded-For"',
            "client_address_header",
        ),
        ('[audit]\ncalls = "full"\nformat = "ocsf"', "audit.format"),
        ("[audit]\nsample_ratio = 0.5", "audit.sample_ratio"),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, text: str, setting: str) -> None:
    assert f"adapter.toml: {setting}: " in complaint(tmp_path, MINIMAL + text)


@pytest.mark.parametrize(
    "resource",
    [
        "mcp.example/mcp",
        "https://mcp.example/mcp#x",
        "https://MCP.example/mcp",
        "ftp://mcp.example",
        "https://mcp.example/../mcp",
        "https://mcp,example/mcp",
        "https://.../mcp",
    ],
)
def test_a_resource_is_a_canonical_uri(tmp_path: Path, resource: str) -> None:
    text = MINIMAL.replace("https://mcp.example/mcp", resource)

    assert "adapter.toml: resource: is a canonical URI" in complaint(tmp_path, text)


@pytest.mark.parametrize(
    "issuer",
    [
        "http://idp.example",
        "idp.example",
        "https://idp.example/?x=1",
        "https://",
        "[::1",
        r"https://idp.example/\n",
        "https://a b",
        "https://a/\u00e9",
        "https://...",
    ],
)
def test_an_authorization_server_is_a_url(tmp_path: Path, issuer: str) -> None:
    text = MINIMAL.replace("https://idp.example", issuer)

    assert "adapter.toml: authorization_servers: " in complaint(tmp_path, text)


def test_an_authorization_server_on_loopback_may_be_plain(tmp_path: Path) -> None:
    text = MINIMAL.replace("https://idp.example", "http://127.0.0.1:9000/idp")

    assert load(Settings, written(tmp_path, text)).authorization_servers
    assert "TLS" in complaint(tmp_path, MINIMAL + '[authsvc]\ntarget = "10.0.0.7:50051"')


def test_an_unknown_variable_is_rejected(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MCP_ADAPTER_COLOUR", "blue")

    assert complaint(tmp_path, MINIMAL) == "MCP_ADAPTER_COLOUR: there is no such setting"


LIMIT = "[[rate_limits]]\nname = 'search'\ncalls_per_second = 0.5\n"


def test_limits_have_defaults(tmp_path: Path) -> None:
    more = "[[rate_limits]]\nname = 'all'\ncalls_per_second = 20\nper = 'client'\n"
    settings = load(Settings, written(tmp_path, MINIMAL + LIMIT + more))
    assert [item.limit() for item in settings.rate_limits] == [
        RateLimit("search", Rate(0.5, 1.0)),
        RateLimit("all", Rate(20.0, 20.0), RatePer.CLIENT),
    ]


def test_limits_are_distinct_and_few(tmp_path: Path) -> None:
    twice = complaint(tmp_path, MINIMAL + 2 * LIMIT)
    assert "rate_limits[1].name: another limit has it" in twice
    many = "".join(LIMIT.replace("search", f"limit{number}") for number in range(17))
    assert "rate_limits: has more than 16 limits" in complaint(tmp_path, MINIMAL + many)
    assert "visible ASCII" in complaint(tmp_path, MINIMAL + LIMIT.replace("search", "a b"))


def test_a_limit_is_of_tools_that_are_served(tmp_path: Path) -> None:
    served = load(Settings, written(tmp_path, MINIMAL + LIMIT + "tools = ['whoami']"))
    running.check(served)
    unknown = load(Settings, written(tmp_path, MINIMAL + LIMIT + "tools = ['whoareyou']"))
    with pytest.raises(ConfigError) as caught:
        running.check(unknown)
    assert "rate_limits: whoareyou: no such tool is served; these are: " in str(caught.value)
    assert "whoami" in str(caught.value)
