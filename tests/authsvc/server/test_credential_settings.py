"""Names and conditions in ``[credentials]``: what starts, and what stops the start and why."""

from __future__ import annotations

from pathlib import Path

import pytest

from authsvc.common.settings import ConfigError, load
from authsvc.server.config import Settings

HERE, THERE = "https://mcp.example/1", "https://mcp.example/2"
AUTHSVC = f"""
resources = ["{HERE}", "{THERE}"]
[[issuers]]
issuer = "https://a.example"
algorithms = ["HS256"]
secret_file = "secret"
[[issuers]]
issuer = "https://b.example"
algorithms = ["HS256"]
secret_file = "secret"
"""
ALL = f'resources = ["{HERE}", "{THERE}"]\n'
AT_HERE = f'resources = ["{HERE}"]\n'
AT_THERE = f'resources = ["{THERE}"]\n'
API = 'name = "api"\n'


def static(more: str = "", role: str = "dev") -> str:
    return (
        f'[[credentials.static]]\n{more}role = "{role}"\naccess_key_id = "AKIA"\n'
        'secret_access_key_file = "secret"\n'
    )


def sts(more: str = "", issuer: str = "https://a.example") -> str:
    return (
        f'[[credentials.sts]]\n{more}region = "eu-west-1"\naccess_key_id = "AKIA"\n'
        f'secret_access_key_file = "secret"\n[[credentials.sts.roles]]\nissuer = "{issuer}"\n'
        'arn = "arn:aws:iam::123456789012:role/r"\n'
    )


def exchange(more: str = "", issuers: str = '"https://a.example"') -> str:
    return (
        f'[[credentials.exchange]]\n{more}issuers = [{issuers}]\nendpoint = "https://a.example/t"\n'
        'client_id = "authsvc"\nclient_secret_file = "secret"\n'
    )


NEVER = "never applies"
KIND = "a table of another kind"
B = 'for_issuers = ["https://b.example"]\n'

RIGHT = [
    static(),
    static(role="ops") + static(),
    sts(AT_HERE) + exchange(AT_THERE),
    sts(AT_HERE) + exchange(),
    sts(AT_HERE) + static(),
    sts() + sts(AT_HERE),
    sts(AT_HERE + 'for_roles = ["ops"]\n') + sts(AT_HERE),
    sts(AT_HERE + 'for_roles = ["ops"]\n') + sts(),
    sts(AT_HERE + 'for_roles = ["ops"]\n') + sts(AT_HERE + 'for_roles = ["ops", "dev"]\n'),
    sts(AT_HERE + 'for_scopes = ["a", "b"]\n') + sts(AT_HERE + 'for_scopes = ["a"]\n'),
    exchange(AT_HERE + 'for_issuers = ["https://a.example"]\n')
    + exchange(AT_HERE + B, '"https://b.example"'),
    sts() + exchange(API + AT_HERE) + exchange(API + AT_THERE),
    sts() + sts(API + ALL) + exchange('name = "other"\n' + ALL),
    static(API + AT_HERE + 'for_roles = ["ops"]\n') + static(API + AT_HERE),
]

WRONG = [
    (exchange('name = "a b"\n' + ALL), "name: is a name like orders-api"),
    (exchange('name = "default"\n' + ALL), "name: has another meaning in metrics"),
    (exchange('name = "unknown"\n' + ALL), "name: has another meaning in metrics"),
    (exchange(API), "a table with a name needs resources"),
    (static(API), "a table with a name needs resources"),
    (sts(f'resources = ["{HERE}", "{HERE}/", "{HERE}"]\n'), "resources: one is listed twice"),
    (sts("for_roles = []\n"), "for_roles: is empty, which is no condition"),
    (sts("for_issuers = []\n"), "for_issuers: is empty, which is no condition"),
    (sts("for_scopes = []\n"), "for_scopes: is empty, which is no condition"),
    (sts('for_scopes = ["a b"]\n'), "for_scopes: is a scope"),
    (sts(API + 'resources = ["https://x.example"]\n'), "no caller may resolve for it"),
    (sts('for_issuers = ["https://x.example"]\n'), "for_issuers: https://x.example: is not one"),
    (static('for_issuers = ["https://x.example"]\n'), "for_issuers: https://x.example: is not one"),
    (sts(B), "https://b.example: gets no credentials of this table: add it to roles"),
    (exchange(B), "https://b.example: gets no credentials of this table: add it to issuers"),
    (sts(API + AT_HERE) + exchange(API + AT_THERE), "'api' is the name of credentials.sts[0], too"),
    (sts(API + AT_HERE) + exchange(API + AT_HERE), "give one of them another name"),
    (sts(API + AT_HERE) + static(API + AT_HERE), KIND),
    (sts() + exchange(), KIND),
    (sts() + static(), KIND),
    (sts(AT_HERE + 'for_roles = ["ops"]\n') + static(), KIND),
    (exchange(AT_HERE + 'for_scopes = ["a"]\n') + sts(), KIND),
    (static() + static(), f"credentials.static[1]: {NEVER}: "),
    (static() + static('for_scopes = ["a"]\n'), f"credentials.static[1]: {NEVER}: "),
    (sts(AT_HERE) + sts(AT_HERE), f"credentials.sts[1]: {NEVER} for {HERE}"),
    (sts(ALL) + sts(AT_THERE), f"credentials.sts[{THERE}]: {NEVER} for {THERE}"),
    (sts() + sts('for_roles = ["ops"]\n'), f"credentials.sts[1]: {NEVER}: "),
    (
        exchange(AT_HERE) + exchange(AT_HERE + B, '"https://b.example"'),
        "or give that one for_issuers",
    ),
    (
        sts('for_issuers = ["https://a.example"]\n')
        + sts(B, issuer="https://b.example")
        + sts('for_roles = ["ops"]\n'),
        f"credentials.sts[2]: {NEVER}: ",
    ),
    (
        sts('for_roles = ["dev"]\n')
        + sts('for_roles = ["ops"]\n')
        + sts('for_roles = ["ops", "dev"]\n'),
        f"credentials.sts[2]: {NEVER}: ",
    ),
    (sts(AT_HERE) + sts(AT_THERE) + sts(), "credentials.sts[2]: has no effect: each resource has"),
]


def loaded(folder: Path, text: str) -> Settings:
    file = folder / "authsvc.toml"
    file.write_text(AUTHSVC + text)
    return load(Settings, file)


@pytest.mark.parametrize("text", RIGHT)
def test_what_starts(tmp_path: Path, text: str) -> None:
    loaded(tmp_path, text)


@pytest.mark.parametrize(("text", "said"), WRONG)
def test_what_stops_the_start(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(ConfigError) as stopped:
        loaded(tmp_path, text)
    lines = str(stopped.value).splitlines()
    assert said in lines[0]
    assert len(lines) == 1


def test_names_and_conditions_in_a_variable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = (
        f'[{{"name": "api", "resources": ["{HERE}"], "for_roles": ["ops"], "role": "dev", '
        '"access_key_id": "AKIA", "secret_access_key_file": "secret"}]'
    )
    monkeypatch.setenv("AUTHSVC_CREDENTIALS__STATIC", table)
    credentials = loaded(tmp_path, "").credentials
    assert credentials.names == {"api"}
    assert credentials.static[0].principals().roles == ({"ops"}, {"dev"})
