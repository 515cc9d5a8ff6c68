"""Wrong settings of the three programs: each error names the setting, and what mends it."""

from __future__ import annotations

from pathlib import Path

import pytest

from authsvc.common.settings import ConfigError, FileSettings, load
from authsvc.console.config import ConsoleSettings
from authsvc.server.config import Settings
from mcp_adapter.server.config import Settings as AdapterSettings

AUTHSVC = """
resources = ["https://mcp.example/mcp"]
[[issuers]]
issuer = "https://idp.example"
algorithms = ["RS256"]
jwks_url = "https://idp.example/jwks"
"""
ADAPTER = """
resource = "https://mcp.example/mcp"
authorization_servers = ["https://idp.example"]
"""
CONSOLE = """
operators_file = "operators"
[authsvc]
ca_file = "ca.pem"
service_token_file = "token"
"""
UNKNOWN = "there is no such setting"
ALGORITHMS = (
    "is one of HS256, HS384, HS512, RS256, RS384, RS512, PS256, PS384, PS512, ES256, ES384, "
    "ES512, EdDSA, Ed25519"
)


def faults(
    folder: Path, settings_class: type[FileSettings], text: str, name: str = "x.toml"
) -> list[str]:
    """The errors, without the file's name; the start of others is kept."""
    path = folder / name
    path.write_text(text)
    try:
        load(settings_class, path)
    except ConfigError as error:
        return [line.removeprefix(f"{path}: ") for line in str(error).splitlines()]
    return []


@pytest.mark.parametrize(
    ("settings_class", "text"),
    [(Settings, AUTHSVC), (AdapterSettings, ADAPTER), (ConsoleSettings, CONSOLE)],
)
def test_valid_settings_have_no_faults(
    tmp_path: Path, settings_class: type[FileSettings], text: str
) -> None:
    assert faults(tmp_path, settings_class, text) == []


FIRST = "issuers[https://idp.example]"
EXCHANGE = """
[[credentials.exchange]]
resources = ["https://mcp.example/mcp"]
issuers = ["https://idp.example"]
endpoint = "https://idp.example/token"
client_id = "a"
client_secret_file = "b"
"""

NEAREST_NAMES = [
    (Settings, AUTHSVC + '[store]\npth = "x"', f"store.pth: {UNKNOWN}; is it path?"),
    (Settings, AUTHSVC + "[store]\nworkers = 1", f"store.workers: {UNKNOWN}"),
    (Settings, AUTHSVC + "[limits]\nendpoint = 1", f"limits.endpoint: {UNKNOWN}"),
    (Settings, "target = 1\n" + AUTHSVC, f"target: {UNKNOWN}"),
    (Settings, "_env_prefix = 'X'\n" + AUTHSVC, f"_env_prefix: {UNKNOWN}"),
    (AdapterSettings, ADAPTER + "[s3]\nregion-s = 1", f"s3.region-s: {UNKNOWN}; is it region?"),
    (AdapterSettings, ADAPTER + "[s3]\nREGION = 1", f"s3.REGION: {UNKNOWN}; is it region?"),
    (ConsoleSettings, "Listen = ''\n" + CONSOLE, f"Listen: {UNKNOWN}; is it listen?"),
]  # fmt: skip

FOLLOW_ON_ERRORS = [
    (
        AdapterSettings,
        ADAPTER.replace("resource ", "ressource "),
        f"ressource: {UNKNOWN}; is it resource?",
    ),
    (
        Settings,
        AUTHSVC.replace("jwks_url", "jwks_urls"),
        f"{FIRST}.jwks_urls: {UNKNOWN}; is it jwks_url?",
    ),
    (
        Settings,
        AUTHSVC.replace("[[issuers]]", "[[issuer]]"),
        f"issuer: {UNKNOWN}; is it issuers?",
    ),
]

PATHS = [
    (Settings, AUTHSVC.replace("RS256", "RS265"), f"{FIRST}.algorithms: {ALGORITHMS}"),
    (
        Settings,
        AUTHSVC.replace('["RS256"]', '["RS256", "RS265"]'),
        f"{FIRST}.algorithms[1]: {ALGORITHMS}",
    ),
    (
        Settings,
        AUTHSVC.replace('issuer = "https://idp.example"\n', ""),
        "issuers[0].issuer: is required",
    ),
    (
        Settings,
        AUTHSVC.replace('//idp.example"\n', '//u:hush@idp.example"\ndiscover = "x"\n', 1),
        "issuers[0].discover: is true or false",
    ),
    (
        Settings,
        AUTHSVC + 'client_ids = {"https://mcp.example/mcp" = [1]}',
        f'{FIRST}.client_ids."https://mcp.example/mcp": is a string, in quotes',
    ),
    (
        Settings,
        AUTHSVC + EXCHANGE + 'scopes = ["a b"]',
        (
            "credentials.exchange[https://mcp.example/mcp].scopes: is a scope: visible ASCII "
            "without spaces, quotation marks and backslashes. Give several scopes one by one"
        ),
    ),
]

SHAPES = [
    (Settings, AUTHSVC + "client_ids = 'app'", f"{FIRST}.client_ids: is a list"),
    (
        Settings,
        AUTHSVC.replace("[[issuers]]", "[issuers]"),
        "issuers: is a list of tables: write [[issuers]]",
    ),
    (Settings, AUTHSVC + "[[store]]\nkind = 'memory'", "store: is a table: write [store]"),
    (Settings, AUTHSVC.replace('["https://mcp.example/mcp"]', "'x'"), "resources: is a list"),
    (
        Settings,
        "workers = 'two'\nallow_core_dumps = 3\n" + AUTHSVC + "[store]\nkind = 'x'",
        (
            "store.kind: is 'sqlite', 'redis' or 'memory'\n"
            "allow_core_dumps: is true or false\n"
            "workers: is a whole number"
        ),
    ),
]

UNSERVED = "has no effect: no caller may resolve for this resource"
ASKED = """
[introspection]
issuer = "https://other.example"
endpoint = "https://other.example/introspect"
client_id = "a"
client_secret_file = "b"
"""

WITHOUT_EFFECT = [
    (
        Settings,
        AUTHSVC + f'{name} = {{"https://mcp.example:443/mcp" = ["x"], "https://mcp.example" = []}}',
        f'{FIRST}.{name}."https://mcp.example": {UNSERVED}',
    )
    for name in ("audiences", "client_ids")
] + [
    (
        Settings,
        AUTHSVC + ASKED + f'{name} = {{"https://mcp.example/mcp/" = ["x"]}}',
        f'introspection.{name}."https://mcp.example/mcp/": {UNSERVED}',
    )
    for name in ("audiences", "client_ids")
]

ALL_TOGETHER = [
    (
        Settings,
        "workers = 2\nlisten = 'unix:/run/x'\n"
        + AUTHSVC.replace("RS256", "HS256")
        + "[tls]\nkey_file = 'k'\n[store]\nkind = 'memory'\ntimeout_seconds = 0",
        (
            "tls.certificate_file: is required\n"
            f"{FIRST}: HS256: HS algorithms go with secret_file\n"
            "store.timeout_seconds: is greater than 0\n"
            "settings: workers > 1 needs a port to share, such as listen = 127.0.0.1:50051"
        ),
    ),
]


@pytest.mark.parametrize(
    ("settings_class", "text", "wanted"),
    [*NEAREST_NAMES, *FOLLOW_ON_ERRORS, *PATHS, *SHAPES, *WITHOUT_EFFECT, *ALL_TOGETHER],
)
def test_each_fault_is_named_once(
    tmp_path: Path, settings_class: type[FileSettings], text: str, wanted: str
) -> None:
    assert faults(tmp_path, settings_class, text) == wanted.splitlines()


ONE_OF_KINDS = "is 'sqlite', 'redis' or 'memory'"
ISSUERS = '[{"issuer": "https://b.example", "algorithms": [], "discover": true}]'


@pytest.mark.parametrize(
    ("variable", "value", "wanted"),
    [
        ("AUTHSVC_LISTENN", "x", f"AUTHSVC_LISTENN: {UNKNOWN}; is it listen?"),
        ("authsvc_zzz", "x", f"authsvc_zzz: {UNKNOWN}"),
        ("AUTHSVC_STORE__KNID", "memory", f"AUTHSVC_STORE__KNID: {UNKNOWN}; is it kind?"),
        ("AUTHSVC_STORE__KIND", "hush", f"AUTHSVC_STORE__KIND: {ONE_OF_KINDS}"),
        ("AUTHSVC_RESOURCES", "hush", "AUTHSVC_RESOURCES: is a list, written as JSON"),
        ("AUTHSVC_STORE", "hush", "AUTHSVC_STORE: is a table, written as JSON"),
        ("AUTHSVC_STORE", '{"kind": "hush"}', f"AUTHSVC_STORE: store.kind: {ONE_OF_KINDS}"),
        (
            "AUTHSVC_ISSUERS",
            ISSUERS,
            "AUTHSVC_ISSUERS: issuers[https://b.example].algorithms: names one algorithm or more",
        ),
    ],
)
def test_a_fault_of_a_variable_names_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, variable: str, value: str, wanted: str
) -> None:
    monkeypatch.setenv(variable, value)
    assert faults(tmp_path, Settings, AUTHSVC) == [wanted]


def test_a_fault_in_the_file_names_no_variable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AUTHSVC_LIMITS", '{"calls_burst": 3}')
    text = f"{AUTHSVC}[limits]\ncalls_burst = 0\nmax_connections = 0"
    assert faults(tmp_path, Settings, text) == [
        "limits.max_connections: is greater than or equal to 1"
    ]


def test_two_entries_of_one_name_have_positions(tmp_path: Path) -> None:
    entry = AUTHSVC.partition("[[issuers]]")[2]
    text = f"{AUTHSVC}\n[[issuers]]{entry}leeway_seconds = -1"
    assert faults(tmp_path, Settings, text) == [
        "issuers[1].leeway_seconds: is greater than or equal to 0"
    ]
