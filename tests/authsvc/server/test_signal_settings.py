"""``[signals]``: each fault of it is named, all of them at once."""

from __future__ import annotations

from pathlib import Path

import pytest

from authsvc.common.settings import ConfigError, load
from authsvc.server.config import Settings
from authsvc.signals.actions import Action

TOP = """
resources = ["https://mcp.example/files"]
[store]
kind = "memory"
[[issuers]]
issuer = "https://idp.example"
algorithms = ["RS256"]
jwks_file = "jwks.json"
"""

SIGNALS = """
[signals]
{table}
[[signals.streams]]
issuer = "https://idp.example"
audiences = ["us"]
{stream}
"""

OTHER = """
[signals]
[[signals.streams]]
issuer = "https://org.example"
audiences = ["us"]
"""

KEYS = 'jwks_url = "https://org.example/keys"\nalgorithms = ["ES256"]\n'

STREAM = "signals.streams[https://idp.example]"


def signals(table: str = "", stream: str = "") -> str:
    return SIGNALS.format(table=table, stream=stream)


def loaded(folder: Path, text: str) -> Settings:
    path = folder / "authsvc.toml"
    path.write_text(TOP + text)
    return load(Settings, path)


def complaints(folder: Path, text: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        loaded(folder, text)
    return [line.partition(": ")[2] for line in str(caught.value).splitlines()]


def test_it_is_off_by_default(tmp_path: Path) -> None:
    assert loaded(tmp_path, "").signals is None


def test_defaults(tmp_path: Path) -> None:
    table = loaded(tmp_path, signals()).signals
    assert table is not None
    assert table.listen == "127.0.0.1:50054"
    assert (table.requests_per_second, table.requests_burst) == (100, 200)
    assert table.max_body_bytes == 65_536
    assert table.actions == {}
    (stream,) = table.streams
    assert (stream.max_age_seconds, stream.leeway_seconds) == (86_400, 30)
    assert (stream.applies_to, stream.subject_formats) == ((), ())
    assert stream.accepted_types == ("secevent+jwt",)
    assert not stream.has_own_keys


def test_an_event_has_an_action(tmp_path: Path) -> None:
    actions = '[signals.actions]\nlogout = "subject"\nsession-revoked = "none"\n'
    table = loaded(tmp_path, signals() + actions).signals
    assert table is not None
    assert table.actions == {"logout": Action.SUBJECT, "session-revoked": Action.NONE}


@pytest.mark.parametrize(
    ("keys", "setting"),
    [
        (KEYS, "jwks_url"),
        ('jwks_file = "other.json"\nalgorithms = ["ES256", "RS256"]', "jwks_file"),
        ('discover = true\nalgorithms = ["ES256"]', "discover"),
        ('metadata_url = "https://a.example"\nalgorithms = ["ES256"]', "metadata_url"),
    ],
)
def test_a_stream_may_have_keys_of_its_own(tmp_path: Path, keys: str, setting: str) -> None:
    text = f'{OTHER}{keys}\napplies_to = ["https://idp.example"]'
    table = loaded(tmp_path, text).signals
    assert table is not None
    (stream,) = table.streams
    assert stream.has_own_keys
    assert stream.key_setting == setting


def test_all_that_a_stream_may_have(tmp_path: Path) -> None:
    stream = """
applies_to = ["https://idp.example"]
accepted_types = ["JWT", ""]
subject_formats = ["email", "opaque"]
push_authorization_file = "push"
poll_url = "https://idp.example/poll"
poll_authorization_file = "poll"
verification_url = "http://127.0.0.1:1/verify"
management_authorization_file = "manage"
stream_id = "stream-1"
max_age_seconds = 3600
leeway_seconds = 0
"""
    assert loaded(tmp_path, signals(stream=stream)).signals is not None


@pytest.mark.parametrize(
    ("table", "fault"),
    [
        ('listen = "unix:/run/signals.sock"', "listen: is an address like"),
        ('listen = "127.0.0.1:50051"', "listen: is the address of listen: choose another port"),
        ('listen = "0.0.0.0:50054"', "listen: can be reached from other machines and needs [tls]"),
        ("requests_per_second = 0", "requests_per_second"),
        ("requests_burst = 0.5", "requests_burst"),
        ("max_body_bytes = 100", "max_body_bytes"),
        ("max_body_bytes = 2000000", "max_body_bytes"),
        ('client_address_header = "X-Sender"', "client_address_header: is the name of a header"),
        ("request_per_second = 1", "request_per_second: there is no such setting; is it requests_"),
        ('actions = {logouts = "none"}', "actions.logouts: 'logouts' is no event; is it logout?"),
        ('actions = {logout = "revoke"}', "actions.logout"),
        ('actions = {verification = "none"}', "actions.verification: 'verification' is no event"),
    ],
)
def test_a_wrong_setting_is_named(tmp_path: Path, table: str, fault: str) -> None:
    (found,) = complaints(tmp_path, signals(table))
    assert found.startswith(f"signals.{fault}")


@pytest.mark.parametrize(
    ("stream", "fault"),
    [
        ('applies_to = ["https://other.example"]', ".applies_to: is not one of the issuers"),
        ('algorithms = ["RS256"]', ".algorithms: has no effect without jwks_url"),
        ('jwks_url = "https://idp.example/k"', ": has keys of its own and needs algorithms"),
        (KEYS + "discover = true", ": has several sources of keys"),
        (KEYS.replace("ES256", "HS256"), ".algorithms: HS algorithms go with secret_file"),
        (KEYS.replace("ES256", "none"), ".algorithms: is one of HS256"),
        (KEYS.replace("https", "http"), ".jwks_url: is a URL like"),
        (KEYS.replace("org.example", "10.0.0.1"), ".jwks_url: has a private address"),
        ('ca_file = "ca.pem"', ".ca_file: has no effect without jwks_url"),
        ('proxy = "http://proxy:3128"', ".proxy: has no effect without jwks_url"),
        ('subject_formats = ["phone"]', ".subject_formats"),
        ("max_age_seconds = 30", ".max_age_seconds"),
        ('poll_url = "https://idp.example/p"', ".poll_url: needs poll_authorization_file"),
        ('poll_authorization_file = "a"', ".poll_authorization_file: has no effect without poll_"),
        ('verification_url = "https://idp.example/v"', ".verification_url: needs management_"),
        ('management_authorization_file = "a"', ".management_authorization_file: has no effect"),
        ('stream_id = "s"', ".stream_id: has no effect without verification_url"),
        (
            'poll_url = "http://10.0.0.1/p"\npoll_authorization_file = "a"',
            ".poll_url: is a URL like",
        ),
    ],
)
def test_a_wrong_setting_of_a_stream_is_named(tmp_path: Path, stream: str, fault: str) -> None:
    (found,) = complaints(tmp_path, signals(stream=stream))
    assert found.startswith(f"{STREAM}{fault}")


@pytest.mark.parametrize("audiences", ["[]", '[""]', '"us"'])
def test_a_stream_has_an_audience(tmp_path: Path, audiences: str) -> None:
    text = signals().replace('["us"]', audiences)
    (found,) = complaints(tmp_path, text)
    assert found.startswith(f"{STREAM}.audiences")


def test_there_is_a_stream(tmp_path: Path) -> None:
    assert complaints(tmp_path, "[signals]\n") == [
        "signals.streams: needs [[signals.streams]]: who may send signals"
    ]


def test_a_stream_has_keys_and_tokens(tmp_path: Path) -> None:
    named = "signals.streams[https://org.example].issuer"
    assert complaints(tmp_path, OTHER) == [
        f"{named}: is not one of [[issuers]], and has no keys: set jwks_url, jwks_file or discover",
        f"{named}: is not an issuer of tokens: name in applies_to whose tokens it may revoke",
    ]


def test_an_introspected_issuer_has_streams_with_keys(tmp_path: Path) -> None:
    introspection = """
[introspection]
issuer = "https://org.example"
endpoint = "https://org.example/introspect"
client_id = "a"
client_secret_file = "b"
"""
    assert loaded(tmp_path, introspection + OTHER + KEYS).signals is not None
    (found,) = complaints(tmp_path, introspection + OTHER)
    assert "has no keys" in found


def test_an_issuer_has_one_stream(tmp_path: Path) -> None:
    again = '[[signals.streams]]\nissuer = "https://idp.example"\naudiences = ["b"]\n'
    (found,) = complaints(tmp_path, signals() + again)
    assert found.startswith("signals.streams[1].issuer: another stream has it")


@pytest.mark.parametrize("table", ["metrics", "assertions"])
def test_it_has_a_port_of_its_own(tmp_path: Path, table: str) -> None:
    other = f'[{table}]\nlisten = "127.0.0.1:50054"\n'
    issuer = 'issuer = "https://authsvc.example"\n' if table == "assertions" else ""
    (found,) = complaints(tmp_path, signals() + other + issuer)
    assert found == f"signals.listen: is the address of {table}.listen: choose another port"


def test_other_machines_reach_it_over_tls(tmp_path: Path) -> None:
    tls = '[tls]\ncertificate_file = "a"\nkey_file = "b"\n'
    settings = loaded(tmp_path, signals('listen = "0.0.0.0:50054"') + tls)
    assert settings.signals is not None
