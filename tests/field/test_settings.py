"""Wrong settings of the three programs: each error names the setting, and what mends it."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from authsvc.cli import main
from authsvc.common.settings import ConfigError, FileSettings, load
from authsvc.console.config import ConsoleSettings
from authsvc.server.config import Settings
from mcp_adapter.server.config import Settings as AdapterSettings
from tests.support.tokens import NOBODYS_DIGEST

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
    (Settings, "leeway_seconds = 1\n" + AUTHSVC, f"leeway_seconds: {UNKNOWN}"),
    (Settings, "age_seconds = 1\n" + AUTHSVC, f"age_seconds: {UNKNOWN}"),
    (Settings, AUTHSVC + "roles = 1", f"{FIRST}.roles: {UNKNOWN}"),
    (Settings, AUTHSVC + "[claims]", f"claims: {UNKNOWN}"),
    (Settings, "drain_second = 1\n" + AUTHSVC, f"drain_second: {UNKNOWN}; is it drain_seconds?"),
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

UNSERVED = (
    "no caller may resolve for it: add it to resources, of a caller or at the top, or remove it"
)
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
        AUTHSVC
        + f'{name} = {{"https://mcp.example:443/mcp" = ["x"], "https://mcp.example" = ["y"]}}',
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
        ("AUTHSVC_STORE_PATH", "x", f"AUTHSVC_STORE_PATH: {UNKNOWN}; is it AUTHSVC_STORE__PATH?"),
        (
            "authsvc_tls_key_file",
            "x",
            f"authsvc_tls_key_file: {UNKNOWN}; is it AUTHSVC_TLS__KEY_FILE?",
        ),
        ("AUTHSVC_STORE__KNID", "memory", f"AUTHSVC_STORE__KNID: {UNKNOWN}; is it kind?"),
        ("AUTHSVC_STORE__KIND", "hush", f"AUTHSVC_STORE__KIND: {ONE_OF_KINDS}"),
        ("AUTHSVC_RESOURCES", "hush", "AUTHSVC_RESOURCES: is a list, written as JSON"),
        ("AUTHSVC_STORE", "hush", "AUTHSVC_STORE: is a table, written as JSON"),
        ("AUTHSVC_STORE", '{"kind": "hush"}', f"AUTHSVC_STORE: store.kind: {ONE_OF_KINDS}"),
        (
            "AUTHSVC_ISSUERS",
            ISSUERS,
            "AUTHSVC_ISSUERS: issuers[https://b.example].algorithms: names one or more",
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


SECRET = AUTHSVC.replace("RS256", "HS256").replace(
    'jwks_url = "https://idp.example/jwks"', 'secret_file = "secret"'
)
FILE = AUTHSVC.replace('jwks_url = "https://idp.example/jwks"', 'jwks_file = "jwks.json"')
FROM_A_FILE = (
    "has no effect with keys from a file: remove it, or use jwks_url or discover in place of the "
    "file"
)
OTHER = '"https://other.example/mcp"'
UNREGISTERED = (
    "no caller may resolve for it: add it to resources, of a caller or at the top, or remove it"
)
NO_ISSUER = "is not one of the issuers: write its [[issuers]] table, or remove it"
INTROSPECTION = """
[introspection]
issuer = "https://opaque.example"
endpoint = "https://opaque.example/introspect"
client_id = "a"
client_secret_file = "b"
"""
STS = """
[[credentials.sts]]
region = "eu-west-1"
ambient = true
"""
ROLE = "arn:aws:iam::123456789012:role/"
ALL_ROLES = f"""
[[credentials.sts.roles]]
issuer = "https://idp.example"
arn = "{ROLE}all"
"""
ADMIN = f"""
[[callers]]
name = "operator"
admin = true
service_token_sha256 = ["{NOBODYS_DIGEST}"]
"""
CALLERS = (
    'listen = "unix:/run/authsvc.sock"\n'
    + AUTHSVC.replace('resources = ["https://mcp.example/mcp"]', "")
    + ADMIN
)


def without_effect(setting: str, reason: str) -> str:
    return f"{setting}: has no effect {reason}"


def unset(table: str, name: str, other: str) -> str:
    return f"{table}{name}: has no effect without {other}: set it"


def above(table: str, name: str, bound: str, value: str) -> str:
    return without_effect(f"{table}{name}", f"above {bound} = {value}: lower it, or raise {bound}")


def of_kind(name: str, kind: str) -> str:
    reason = f"with kind = {kind!r}: remove it, or choose another kind"
    return without_effect(f"store.{name}", reason)


def of_mode(name: str, mode: str) -> str:
    reason = f"with mode = {mode!r}: remove it, or choose another mode"
    return without_effect(f"store.{name}", reason)


ISSUERS_WITHOUT_EFFECT = [
    (SECRET + "keys_max_stale_seconds = 60", f"{FIRST}.keys_max_stale_seconds: {FROM_A_FILE}"),
    (FILE + "allow_private_addresses = true", f"{FIRST}.allow_private_addresses: {FROM_A_FILE}"),
    (
        FILE + 'proxy = "http://p.example:1"\nca_file = "c"',
        f"{FIRST}.ca_file: {FROM_A_FILE}\n{FIRST}.proxy: {FROM_A_FILE}",
    ),
    (FILE + "allow_private_addresses = false", ""),
    (
        SECRET + 'previous_secret_files = ["secret"]',
        f"{FIRST}.previous_secret_files: has secret_file itself: remove it there",
    ),
    (AUTHSVC + f"audiences = {{{OTHER} = ['x']}}", f"{FIRST}.audiences.{OTHER}: {UNREGISTERED}"),
    (AUTHSVC + f"client_ids = {{{OTHER} = ['x']}}", f"{FIRST}.client_ids.{OTHER}: {UNREGISTERED}"),
    (
        AUTHSVC + INTROSPECTION + f"client_ids = {{{OTHER} = ['x']}}",
        f"introspection.client_ids.{OTHER}: {UNREGISTERED}",
    ),
    (
        AUTHSVC + 'audiences = {"https://mcp.example/mcp" = []}',
        (
            f'{FIRST}.audiences."https://mcp.example/mcp": accepts no aud: name one, or remove it '
            "to accept the resource itself"
        ),
    ),
    (
        AUTHSVC + INTROSPECTION + 'client_ids = {"https://mcp.example/mcp" = []}',
        (
            'introspection.client_ids."https://mcp.example/mcp": names no client: name one, or '
            "remove it"
        ),
    ),
    (
        AUTHSVC + 'client_ids = ["app"]\nrequired_claims = ["exp", "aud"]',
        without_effect(f"{FIRST}.client_ids", "where required_claims has aud: remove one of them"),
    ),
    (
        AUTHSVC.replace("https://idp.example/jwks", "https://10.0.0.7/jwks"),
        f"{FIRST}.jwks_url: has a private address: set allow_private_addresses = true",
    ),
    (
        AUTHSVC + INTROSPECTION.replace("//opaque.example/i", "//[fd00::1]/i"),
        "introspection.endpoint: has a private address: set allow_private_addresses = true",
    ),
    (AUTHSVC.replace("https://idp.example/jwks", "http://127.0.0.1:1/jwks"), ""),
    (
        AUTHSVC + INTROSPECTION + 'private_key_id = "k"',
        without_effect(
            "introspection.private_key_id",
            "with auth_method = 'client_secret_basic': remove it, or set auth_method to "
            "private_key_jwt",
        ),
    ),
]

STORES_WITHOUT_EFFECT = [
    ('kind = "memory"\npath = "x"', of_kind("path", "memory")),
    ('kind = "memory"\ncached_sessions = 5', of_kind("cached_sessions", "memory")),
    ('url = "redis://valkey.example"\nprefix = "x"',
     f"{of_kind('url', 'sqlite')}\n{of_kind('prefix', 'sqlite')}"),
    ('kind = "redis"\npath = "x"', of_kind("path", "redis")),
    ('kind = "redis"\nnodes = ["h:1"]\nservice = "x"',
     f"{of_mode('nodes', 'single')}\n{of_mode('service', 'single')}"),
    ('kind = "redis"\nmode = "cluster"\nnodes = ["h:1"]\nurl = "redis://h"',
     of_mode("url", "cluster")),
    ('kind = "redis"\nmode = "sentinel"\nsentinels = ["h:1"]\nnodes = ["h:1"]',
     of_mode("nodes", "sentinel")),
    ('kind = "redis"\ncertificate_file = "c"',
     "store: certificate_file and key_file go together"),
    ('kind = "redis"\ncertificate_file = "c"\nkey_file = "k"',
     ("store.certificate_file: has no effect without TLS: set ca_file, or a rediss:// url\n"
     "store.key_file: has no effect without TLS: set ca_file, or a rediss:// url")),
    ('kind = "redis"\nurl = "rediss://h"\ncertificate_file = "c"\nkey_file = "k"', ""),
    ('kind = "redis"\nurl = "unix:/run/valkey.sock"\nca_file = "c"',
     "store.ca_file: has no effect on a Unix socket: remove it, or set a rediss:// url"),
    ('kind = "memory"\nevents_kept = 5000', ""),
]  # fmt: skip

CREDENTIALS_WITHOUT_EFFECT = [
    (
        STS + f"resources = [{OTHER}]" + ALL_ROLES,
        (
            f"credentials.sts[{OTHER.strip(chr(34))}].resources: {OTHER.strip(chr(34))}: "
            f"{UNREGISTERED}"
        ),
    ),
    (
        STS + ALL_ROLES.replace("idp.example", "x.example"),
        f"credentials.sts[0].roles[{ROLE}all].issuer: {NO_ISSUER}",
    ),
    (
        EXCHANGE.replace('["https://idp.example"]', '["https://x.example"]'),
        "credentials.exchange[https://mcp.example/mcp].issuers: https://x.example: " + NO_ISSUER,
    ),
    (
        STS + ALL_ROLES + ALL_ROLES.replace("/all", "/readers") + 'role = "reader"',
        (
            f"credentials.sts[0].roles[{ROLE}readers]: never applies: an entry before it is for "
            "all principals of https://idp.example. Move that one to the end"
        ),
    ),
    (
        EXCHANGE + STS + ALL_ROLES,
        "credentials.sts[0]: has no effect: each resource has a table of its own. Remove it",
    ),
    (
        EXCHANGE + "[[credentials.static]]\nrole = 'r'\naccess_key_id = 'a'\n"
        "secret_access_key_file = 's'",
        "credentials.static[r]: has no effect: each resource has a table of its own. Remove it",
    ),
    (
        2 * "[[credentials.static]]\nrole = 'r'\naccess_key_id = 'a'\n"
        "secret_access_key_file = 's'\n",
        (
            "credentials.static[1]: never applies: what it is for meets the conditions of "
            "credentials.static[0], which comes before it. Move it before that one, or give that "
            "one for_issuers, for_roles or for_scopes"
        ),
    ),
]

SERVERS_WITHOUT_EFFECT = [
    (CALLERS, "callers: all are operators: give one of them resources"),
    (
        AUTHSVC + "[limits]\nmax_concurrent_calls_per_caller = 300\nmax_concurrent_calls = 200",
        above("limits.", "max_concurrent_calls_per_caller", "max_concurrent_calls", "200"),
    ),
    (AUTHSVC + "[limits]\nmax_concurrent_calls = 200", ""),
    (
        AUTHSVC + "[limits]\ncalls_burst_per_subject = 20",
        unset("limits.", "calls_burst_per_subject", "calls_per_second_per_subject"),
    ),
    (
        AUTHSVC + "[limits]\ncalls_burst_per_client_id = 20",
        unset("limits.", "calls_burst_per_client_id", "calls_per_second_per_client_id"),
    ),
    (
        AUTHSVC + "[limits]\ncalls_per_second_per_subject = 0.1\ncalls_burst_per_subject = 20",
        "",
    ),
    (
        AUTHSVC + "[limits]\nmax_streams_per_caller = 3000",
        above("limits.", "max_streams_per_caller", "max_concurrent_calls_per_caller", "2000"),
    ),
    (
        AUTHSVC + "[sessions]\nabsolute_seconds = 60\nauthenticated_idle_seconds = 61",
        above("sessions.", "authenticated_idle_seconds", "absolute_seconds", "60"),
    ),
    (AUTHSVC + "[sessions]\nabsolute_seconds = 60", ""),
    (
        "max_connection_idle_seconds = 600\n" + AUTHSVC,
        above("", "max_connection_idle_seconds", "max_connection_age_seconds", "300"),
    ),
    ("max_connection_idle_seconds = 600\nmax_connection_age_seconds = 0\n" + AUTHSVC, ""),
    ("grace_seconds = inf\n" + AUTHSVC, "grace_seconds: is a finite number"),
    (
        AUTHSVC + "[metrics]\nlisten = '127.0.0.1:50051'",
        "metrics.listen: is the address of listen: choose another port",
    ),
    ("listen = '127.0.0.1:0'\n" + AUTHSVC + "[metrics]\nlisten = '127.0.0.1:0'", ""),
    (
        AUTHSVC + "[development]\nissuer = 'https://idp.example'\naudience = 'https://x.example'",
        (
            "development.issuer: is not the issuer of an [[issuers]] table with a secret_file: "
            "write its table, or name another"
        ),
    ),
    (
        SECRET + "[development]\nissuer = 'https://idp.example'\naudience = 'https://x.example'",
        (
            "development.audience: tokens with it are rejected, as https://idp.example accepts it "
            "for no resource: name one of resources, or set audiences of the issuer"
        ),
    ),
    (
        SECRET + "audiences = {'https://mcp.example/mcp' = ['https://x.example/']}\n"
        "[development]\nissuer = 'https://idp.example'\naudience = 'https://x.example'",
        "",
    ),
]


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        *ISSUERS_WITHOUT_EFFECT,
        *((f"{AUTHSVC}[store]\n{text}", wanted) for text, wanted in STORES_WITHOUT_EFFECT),
        *((AUTHSVC + text, wanted) for text, wanted in CREDENTIALS_WITHOUT_EFFECT),
        *SERVERS_WITHOUT_EFFECT,
    ],
)
def test_settings_of_authsvc_without_effect(tmp_path: Path, text: str, wanted: str) -> None:
    assert faults(tmp_path, Settings, text) == wanted.splitlines()


@pytest.mark.parametrize(
    ("settings_class", "text", "wanted"),
    [
        (
            AdapterSettings,
            "max_anonymous_body_bytes = 2048\nmax_body_bytes = 1024\n" + ADAPTER,
            above("", "max_anonymous_body_bytes", "max_body_bytes", "1024"),
        ),
        (AdapterSettings, "max_body_bytes = 1024\n" + ADAPTER, ""),
        (
            AdapterSettings,
            ADAPTER + "implied_scopes = {a = [], b = ['b'], c = ['a']}",
            (
                "implied_scopes.a: implies no other scope: name one, or remove it\n"
                "implied_scopes.b: implies no other scope: name one, or remove it"
            ),
        ),
        (
            AdapterSettings,
            ADAPTER + "[connections]\nmax_connections = 5\nmax_connections_per_address = 6",
            above("connections.", "max_connections_per_address", "max_connections", "5"),
        ),
        (
            AdapterSettings,
            ADAPTER + "[connections]\nheader_timeout_seconds = 90",
            above("connections.", "header_timeout_seconds", "request_timeout_seconds", "60"),
        ),
        (
            AdapterSettings,
            ADAPTER + "[metrics]\nlisten = '127.0.0.1:8000'",
            "metrics.listen: is the address of listen: choose another port",
        ),
        (
            ConsoleSettings,
            "session_seconds = 60\nsession_idle_seconds = 61\n" + CONSOLE,
            above("", "session_idle_seconds", "session_seconds", "60"),
        ),
        (ConsoleSettings, "session_seconds = 60\n" + CONSOLE, ""),
    ],
)
def test_other_settings_without_effect(
    tmp_path: Path, settings_class: type[FileSettings], text: str, wanted: str
) -> None:
    assert faults(tmp_path, settings_class, text) == wanted.splitlines()


def test_check_config_and_serve_refuse_them_alike(tmp_path: Path) -> None:
    path = tmp_path / "authsvc.toml"
    path.write_text(f"{AUTHSVC}[store]\nkind = 'memory'\npath = 'x'")
    for command in ("check-config", "serve"):
        result = CliRunner().invoke(main, [command, "--config", str(path)])
        assert result.exit_code == 2
        assert f"{path}: {of_kind('path', 'memory')}" in result.output


def test_a_wrong_caller_hides_no_fault_and_causes_none(tmp_path: Path) -> None:
    """Which resources are registered is not known where a caller is wrong."""
    text = f"{CALLERS}resources = []\nfoo = 1\n[sessions]\nabsolute_seconds = 1"
    text = text.replace("jwks_url", f"client_ids = {{{OTHER} = ['x']}}\njwks_url")
    assert faults(tmp_path, Settings, text + "\nunauthenticated_idle_seconds = 2") == [
        f"callers[operator].foo: {UNKNOWN}",
        above("sessions.", "unauthenticated_idle_seconds", "absolute_seconds", "1"),
    ]
