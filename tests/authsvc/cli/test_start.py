"""The command line as a whole: how fast it is, what it suggests, what scripts rely on."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
import time
from pathlib import Path
from secrets import token_hex

import pytest
from click.testing import CliRunner, Result

from authsvc.cli import COMMANDS, main
from authsvc.cli.instants import PAST_INSTANT
from authsvc.cli.output import print_table
from authsvc.cli.sessions import records
from authsvc.cli.signals.status import document as stream_document
from authsvc.common.printable import printable
from authsvc.domain.events import EventType, SessionEvent
from authsvc.domain.record import Grant, Record
from authsvc.domain.signal_status import StreamStatus
from authsvc.net.certificates import make_authority
from mcp_adapter.server.cli import main as adapter_main
from tests.support.bounds import TIMEOUT_SECONDS
from tests.support.commands import ROOT, environment
from tests.support.keys import jwks, signer
from tests.support.tokens import ISSUER, RESOURCE

HEAVY = ("grpc", "pydantic", "redis", "jwt", "cryptography", "rich", "starlette", "asyncio")


def invoked(*arguments: str | Path) -> Result:
    return CliRunner().invoke(main, [*map(str, arguments)])


@pytest.fixture
def config(tmp_path: Path) -> Path:
    (tmp_path / "secret").write_text("s" + token_hex(20))
    path = tmp_path / "authsvc.toml"
    path.write_text(
        f'resources = ["{RESOURCE}"]\n[[issuers]]\nissuer = "{ISSUER}"\nalgorithms = ["HS256"]\n'
        f'secret_file = "{tmp_path}/secret"\n[development]\nissuer = "{ISSUER}"\n'
        f'audience = "{RESOURCE}"\n'
    )
    return path


def test_help_imports_nothing_heavy() -> None:
    """What takes time to start are imports; how much time depends on the machine."""
    script = (
        "import sys\nfrom authsvc.cli import main\n"
        "try:\n    main(['--help'])\nexcept SystemExit:\n    pass\n"
        "print(*sys.modules, file=sys.stderr)"
    )
    ran = subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True,
        text=True,
        check=True,
        cwd=ROOT,
        timeout=TIMEOUT_SECONDS,
        env=environment(),
    )
    loaded = set(ran.stderr.split())
    assert not loaded & set(HEAVY)
    assert "Commands:" in ran.stdout


OF_GROUPS = (
    *("sessions list", "sessions show", "sessions revoke", "sessions watch", "keys show"),
    *("assertions rotate", "signals status", "signals test"),
)


@pytest.mark.parametrize("command", [*COMMANDS, *OF_GROUPS])
def test_every_command_has_help_with_an_example(command: str) -> None:
    ran = invoked(*command.split(), "--help")
    assert ran.exit_code == 0
    if command not in {"assertions", "sessions", "signals", "keys"}:
        assert "Example" in ran.output


@pytest.mark.parametrize(
    ("arguments", "meant"),
    [
        (("sesions",), "'sessions'"),
        (("sessions", "lst"), "'list'"),
        (("sessions", "list", "--subjct", "x"), "'--subject'"),
        (("token", "--rol", "x"), "'--role'"),
        (("explian",), "'explain'"),
    ],
)
def test_what_is_unknown_is_answered_with_what_is_meant(
    arguments: tuple[str, ...], meant: str
) -> None:
    ran = invoked(*arguments)
    assert ran.exit_code == 2
    assert meant in ran.output


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_scripts(shell: str) -> None:
    ran = invoked("completion", shell)
    assert ran.exit_code == 0
    assert "_AUTHSVC_COMPLETE" in ran.output


@pytest.mark.parametrize(
    ("words", "offered"),
    [
        ("authsvc se", {"serve", "sessions"}),
        ("authsvc sessions ", {"list", "show", "revoke", "watch"}),
        ("authsvc sessions list --st", {"--state"}),
        (
            "authsvc sessions list --state ",
            {"authenticated", "unauthenticated", "tokens-revoked", "revoked"},
        ),
    ],
)
def test_words_are_completed_in_bash(words: str, offered: set[str]) -> None:
    *_, last = given = words.split(" ")
    ran = subprocess.run(
        [sys.executable, "-c", "from authsvc.cli import main; main(prog_name='authsvc')"],
        env={
            **environment(),
            "_AUTHSVC_COMPLETE": "bash_complete",
            "COMP_WORDS": words,
            "COMP_CWORD": str(len(given) - 1),
        },
        capture_output=True,
        text=True,
        check=True,
        cwd=ROOT,
        timeout=TIMEOUT_SECONDS,
    )
    found = {line.partition(",")[2] for line in ran.stdout.splitlines()}
    assert found == offered, last


# Configurations.


def test_check_config_names_every_problem(config: Path, tmp_path: Path) -> None:
    good = invoked("check-config", "--config", config)
    assert (good.exit_code, good.output) == (0, f"{config}: valid.\n")
    text = config.read_text().replace(f"{tmp_path}/secret", "/nonexistent/secret")
    config.write_text(
        text + '[[credentials.static]]\nrole = "r"\naccess_key_id = "A"\n'
        'secret_access_key_file = "/nonexistent/key"\n'
    )
    bad = invoked("check-config", "--config", config, "--json")
    assert bad.exit_code == 2
    problems = json.loads(bad.output)["problems"]
    assert len(problems) == 2
    assert "secret_file: /nonexistent/secret" in problems[0]
    assert "/nonexistent/key" in problems[1]
    config.write_text("listen = 1\nresorces = []\n")
    wrong = invoked("check-config", "--config", config)
    assert "resorces: there is no such setting; is it resources?" in wrong.output
    assert "listen:" in wrong.output


UNUSABLE = """
resources = []
listen = "unix:/run/authsvc.sock"
[store]
kind = "redis"
url = "rediss://h"
password_file = "none/password"
ca_file = "none/ca"
[tls]
certificate_file = "none/certificate"
key_file = "none/key"
client_ca_file = "none/authority"
[[callers]]
name = "a"
resources = ["https://mcp.example/mcp"]
service_token_files = ["none/token", "empty"]
[[callers]]
name = "b"
admin = true
service_token_files = ["empty"]
[[issuers]]
issuer = "https://hs.example"
algorithms = ["HS256"]
secret_file = "none/secret"
previous_secret_files = ["empty"]
[introspection]
issuer = "https://opaque.example"
endpoint = "https://opaque.example/introspect"
ca_file = "none/ca"
client_id = "a"
auth_method = "private_key_jwt"
private_key_file = "none/private"
private_key_certificate_file = "none/public"
[[credentials.static]]
role = "r"
access_key_id = "A"
secret_access_key_file = "none/access"
session_token_file = "empty"
[[credentials.static]]
role = "s"
access_key_id = "B"
secret_access_key_file = "none/access"
[[credentials.sts]]
name = "sts"
resources = ["https://mcp.example/mcp"]
region = "eu-west-1"
ca_file = "none/ca"
access_key_id = "C"
secret_access_key_file = "empty"
session_token_file = "none/session"
[[credentials.sts.roles]]
issuer = "https://hs.example"
arn = "arn:aws:iam::123456789012:role/a"
[[credentials.exchange]]
name = "one"
resources = ["https://mcp.example/mcp"]
issuers = ["https://hs.example"]
endpoint = "https://hs.example/token"
client_id = "a"
client_secret_file = "empty"
ca_file = "empty"
actor_token_file = "none/actor"
[[credentials.exchange]]
name = "two"
resources = ["https://mcp.example/mcp"]
issuers = ["https://hs.example"]
endpoint = "https://hs.example/token"
client_id = "a"
auth_method = "tls_client_auth"
client_certificate_file = "none/certificate"
client_certificate_key_file = "none/key"
"""
"""Files that cannot be used, of each kind."""

UNUSABLE_SETTINGS = [
    *(
        "issuers[https://hs.example].secret_file",
        "issuers[https://hs.example].previous_secret_files",
    ),
    *("introspection.private_key_file", "introspection.private_key_certificate_file"),
    "introspection.ca_file",
    *("tls.certificate_file", "tls.key_file", "tls.client_ca_file"),
    *("callers[a].service_token_files", "callers[a].service_token_files"),
    "callers[b].service_token_files",
    *("credentials.static[r].secret_access_key_file", "credentials.static[r].session_token_file"),
    "credentials.static[s].secret_access_key_file",
    *("credentials.sts.secret_access_key_file", "credentials.sts.session_token_file"),
    *("credentials.sts.ca_file", "credentials.exchange[0].client_secret_file"),
    *("credentials.exchange[0].ca_file", "credentials.exchange[0].actor_token_file"),
    "credentials.exchange[1].client_certificate_file",
    "credentials.exchange[1].client_certificate_key_file",
    *("store.password_file", "store.ca_file"),
]


def test_an_unusable_file_hides_no_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").touch()
    (tmp_path / "authsvc.toml").write_text(UNUSABLE)
    ran = invoked("check-config", "--config", "authsvc.toml", "--json")
    problems = json.loads(ran.stdout)["problems"]
    assert [it.split(": ")[0] for it in problems] == UNUSABLE_SETTINGS
    missing = [it for it in problems if "No such file" in it and "client_certificate" not in it]
    assert all(it.endswith(f" (relative to {tmp_path})") for it in missing)


def test_a_check_that_fails_unexpectedly_hides_no_other(
    config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def odd(*_: object) -> None:
        raise TypeError("may quote a secret")

    monkeypatch.setattr("authsvc.server.callers.callers_of", odd)
    config.write_text(config.read_text().replace('/secret"', '/none"'))
    first, second = invoked("check-config", "--config", config).stderr.splitlines()
    assert "].secret_file: " in first
    assert second.endswith("a check failed unexpectedly, as `serve` may: TypeError")


def test_check_config_warns_of_certificates(config: Path, tmp_path: Path) -> None:
    authority = make_authority("CA", days=-1 / 1_440)
    (tmp_path / "ca.pem").write_bytes(authority.certificate_pem())
    expired = f"{authority.certificate.not_valid_after_utc:%Y-%m-%d %H:%M:%S UTC}"
    told = f"store.ca_file: {tmp_path / 'ca.pem'} expired on {expired}"
    text = re.sub(r"\[store\][^\[]*", "", config.read_text())
    store = f'[store]\nkind = "redis"\nurl = "rediss://h"\nca_file = "{tmp_path / "ca.pem"}"\n'
    config.write_text(f"{text}\n{store}")
    shown = invoked("check-config", "--config", config)
    assert (shown.exit_code, f"warning: {told}" in shown.output) == (0, True)
    document = json.loads(invoked("check-config", "--config", config, "--json").stdout)
    assert document == {"valid": True, "problems": [], "warnings": [told]}


def test_check_config_checks_the_audits_file_and_makes_none(config: Path, tmp_path: Path) -> None:
    text, folder = config.read_text(), tmp_path / "audit"
    config.write_text(f'audit_file = "{folder}/events.jsonl"\n{text}')
    assert invoked("check-config", "--config", config).exit_code == 0
    assert not folder.exists()
    (tmp_path / "elsewhere").touch()
    folder.symlink_to(tmp_path / "elsewhere")
    found = invoked("check-config", "--config", config)
    assert found.exit_code == 2
    assert f"audit_file: {folder}/events.jsonl: Not a directory" in found.output


def test_the_adapters_check_config(tmp_path: Path) -> None:
    path = tmp_path / "adapter.toml"
    good = 'resource = "http://127.0.0.1:8000/mcp"\nauthorization_servers = ["https://i.example"]\n'
    cases = {
        good: (0, "valid."),
        good + "[tools]\nwrites = ['nothing']\n": (2, "nothing"),
        good + '[authsvc]\ntarget = "a.example:1"\nca_file = "/nonexistent"\n': (2, "/nonexistent"),
        f'{good}[authsvc]\nca_file = "{tmp_path}/ca"\nservice_token_file = "/none/t"\n': (
            *(0, "warning: authsvc: service_token_file /none/t: No such file or directory"),
        ),
        f'{good}[audit]\ncalls = "full"\nfile = "{tmp_path}"\n': (2, "audit.file: "),
        f'{good}[audit]\ncalls = "full"\nfile = "{tmp_path}/calls"\n': (0, "valid."),
        "": (2, "resource: is required"),
    }
    (tmp_path / "ca").write_bytes(make_authority("CA", days=90).certificate_pem())
    several = f'{good}[authsvc]\ntarget = "a.example:1"\nca_file = "/none/ca"\n'
    several += 'certificate_file = "/none/c"\nkey_file = "/none/k"\n[tools]\nwrites = ["nothing"]\n'
    path.write_text(several)
    ran = CliRunner().invoke(adapter_main, ["check-config", "--config", str(path)])
    for line, named in zip(ran.stderr.splitlines(), ("/ca", "/c", "/k", "nothing"), strict=True):
        assert named in line
    for text, (code, said) in cases.items():
        path.write_text(text)
        ran = CliRunner().invoke(adapter_main, ["check-config", "--config", str(path)])
        assert (ran.exit_code, said in ran.output) == (code, True), ran.output
    assert not (tmp_path / "calls").exists()


def test_variables_of_operators_programs_are_not_taken_for_settings(
    config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AUTHSVC_ADMIN_TARGET", "127.0.0.1:1")
    monkeypatch.setenv("AUTHSVC_CONSOLE_LISTEN", "127.0.0.1:1")
    assert invoked("check-config", "--config", config).exit_code == 0
    monkeypatch.setenv("AUTHSVC_NOTHING", "x")
    assert "AUTHSVC_NOTHING: there is no such setting" in invoked(
        "check-config", "--config", config
    ).output  # fmt: skip


def test_keys_of_a_configuration(config: Path, tmp_path: Path) -> None:
    (tmp_path / "old").write_text("o" + token_hex(20))
    os.utime(tmp_path / "secret", (time.time() - 7_200,) * 2)
    text = config.read_text().replace(
        "[development]", f'previous_secret_files = ["{tmp_path}/old"]\n[development]'
    )
    config.write_text(
        text + '[[issuers]]\nissuer = "http://127.0.0.1:1"\nalgorithms = ["ES256"]\n'
        'discover = true\n[[issuers]]\nissuer = "http://127.0.0.1:2"\nalgorithms = ["ES256"]\n'
        'jwks_url = "http://127.0.0.1:2/keys?hush"\n'
    )
    ran = invoked("keys", "show", "--config", config)
    lines = [" ".join(line.split()) for line in ran.output.splitlines()]
    assert lines[1:] == [
        f"{ISSUER} - HS256 ready {tmp_path}/secret 2 h ago",
        f"{ISSUER} - HS256 previous {tmp_path}/old {lines[2].split('old ')[1]}",
        "http://127.0.0.1:1 - - not fetched discovery at http://127.0.0.1:1 -",
        "http://127.0.0.1:2 - - not fetched http://127.0.0.1:2/keys?... -",
    ]
    assert (tmp_path / "secret").read_text() not in ran.output
    fetched = json.loads(invoked("keys", "show", "--config", config, "--fetch", "--json").output)
    states = ["ready", "previous", "unavailable", "unavailable"]
    assert [it["state"] for it in fetched["keys"]] == states


def test_keys_that_are_skipped_are_shown_with_the_cause(tmp_path: Path) -> None:
    path, config = tmp_path / "jwks.json", tmp_path / "authsvc.toml"
    odd = {"kid": "odd", "kty": "EC", "crv": "P-256", "x": "AA"}
    path.write_bytes(jwks(signer("k1"), odd=[odd]))
    config.write_text(
        f'resources = ["{RESOURCE}"]\n[[issuers]]\nissuer = "{ISSUER}"\n'
        f'algorithms = ["ES256"]\njwks_file = "{path}"\n'
    )
    ran = invoked("keys", "show", "--config", config, "--json")
    good, skipped = json.loads(ran.stdout)["keys"]
    assert (good["key_id"], good["state"]) == ("k1", "ready")
    assert skipped["key_id"] == "keys[1] (kid 'odd')"
    assert skipped["state"].startswith("skipped: is not a valid ES256 key: its x has ")


def test_the_console_starts_by_its_configuration(tmp_path: Path) -> None:
    ran = invoked("console", "--config", tmp_path / "nothing.toml")
    assert (ran.exit_code, "nothing.toml: No such file" in ran.output) == (2, True)


@pytest.mark.parametrize("target", ["https://127.0.0.1:1/readyz", "dns:///localhost:1"])
def test_what_health_cannot_ask(target: str) -> None:
    ran = invoked("health", target)
    assert (ran.exit_code, "TARGET is host:port" in ran.output) == (2, True)


@pytest.mark.parametrize("url", ["http://", "http://a b/readyz", "http://127.0.0.1:99999/readyz"])
def test_what_is_asked_over_http_is_a_url(url: str) -> None:
    ran = invoked("health", url)
    assert (ran.exit_code, "TARGET is a URL like" in ran.output) == (2, True)
    ran = invoked("doctor", "--adapter-config", "adapter.toml", "--adapter-url", url)
    assert (ran.exit_code, "--adapter-url is a URL like" in ran.output) == (2, True)


def test_a_bare_token_is_all_that_token_prints(config: Path) -> None:
    ran = invoked("token", "--config", config, "--sub", "ada")
    assert ran.exit_code == 0
    assert ran.output.count(".") == 2
    assert len(ran.output.split()) == 1


# Output.


@pytest.mark.parametrize("hostile", ["\x1b[2J", "\x9b2J", "\u202e", "\u200b", "\r", "\x00", "\n"])
def test_what_moves_a_terminal_is_escaped(hostile: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert printable(f"a{hostile}b").isprintable()
    print_table(["A", "B"], [[hostile, "x"]])
    out = capsys.readouterr().out
    assert hostile == "\n" or hostile not in out
    assert len(out.splitlines()) == 2


def test_text_of_any_script_stays() -> None:
    assert printable("Zoë 漢字 ✓ [bold]") == "Zoë 漢字 ✓ [bold]"


def test_times_on_the_command_line() -> None:
    at = 1_795_467_600.0
    for text in ("2026-11-23T21:00:00Z", "2026-11-23T21:00:00", "2026-11-23T22:00:00+01:00"):
        assert PAST_INSTANT.convert(text, None, None) == at
    before = time.time()
    assert before - 7_201 < PAST_INSTANT.convert("2h", None, None) < time.time() - 7_199


# The page.

PAGE = (ROOT / "docs" / "cli.md").read_text()


def shown_commands() -> list[str]:
    """Every command line that the page shows, without what the shell makes of it."""
    blocks = re.findall(r"```(?:sh|console)\n(.*?)```", PAGE, re.DOTALL)
    lines = [line.removeprefix("$ ") for block in blocks for line in block.splitlines()]
    return [re.split(r" [<|#]", line)[0].strip() for line in lines if line.startswith("authsvc ")]


@pytest.mark.parametrize("line", shown_commands())
def test_commands_of_the_page_are_understood(line: str) -> None:
    _, *arguments = shlex.split(line)
    ran = invoked(*arguments, "--help")
    assert ran.exit_code == 0, ran.output


def test_the_page_has_every_command_and_json_member() -> None:
    for name in COMMANDS:
        assert f"`authsvc {name}" in PAGE, name
    record = Record("i", 1, 1.0, 1.0, 2.0, grants={"r": Grant(b"", 1.0, 2.0)})
    event = records.event_document(SessionEvent(EventType.CREATED, 1.0, record), "t")
    shown = records.document(record)
    grants = shown["grants"]
    assert isinstance(grants, list)
    stream = stream_document(StreamStatus("i"), 1.0)
    for name in (*shown, *grants[0], *event, *stream):
        assert f"`{name}`" in PAGE, name
