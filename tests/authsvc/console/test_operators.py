"""The operators file: who may sign in, and what happens when it changes."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from authsvc.console.cli import main
from authsvc.console.operators import OperatorsFile
from authsvc.console.passphrases import (
    COST,
    MAX_PASSPHRASE_BYTES,
    has_passphrase,
    operator_line,
)
from tests.support.console import NAME, PASSPHRASE

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("files_always_checked")]


async def test_an_operator_signs_in_by_the_passphrase(operators_file: Path) -> None:
    operators = OperatorsFile(operators_file)
    operator = await operators.sign_in(NAME, PASSPHRASE)
    assert operator is not None
    assert operator.name == NAME
    assert await operators.sign_in(NAME, PASSPHRASE + " ") is None
    assert await operators.sign_in(NAME.upper(), PASSPHRASE) is None
    assert await operators.sign_in(NAME, "x" * (MAX_PASSPHRASE_BYTES + 1)) is None


async def test_every_attempt_costs_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the derivations: the latency does not reveal an unknown name."""
    path = tmp_path / "operators"
    lines = [
        operator_line(name, PASSPHRASE, cost=cost)
        for name, cost in (("cheap", 10), ("other", 10), ("dear", 12))
    ]
    path.write_text("\n".join(lines))
    operators = OperatorsFile(path)
    derive, derived = hashlib.scrypt, list[int]()

    def counted(password: bytes, **options: Any) -> bytes:  # noqa: ANN401 - hashlib's
        derived.append(options["n"])
        return derive(password, **options)

    monkeypatch.setattr(hashlib, "scrypt", counted)
    for name in ("cheap", "other", "dear", "unknown", "", "x" * 1_000):
        for passphrase in (PASSPHRASE, "wrong", ""):
            operator = await operators.sign_in(name, passphrase)
            is_right = name in {"cheap", "other", "dear"} and passphrase == PASSPHRASE
            assert (operator is not None) == is_right
            assert derived == [1 << 10, 1 << 12], name
            derived.clear()
    # Without operators, nothing reveals the costs that there were.
    path.unlink()
    assert await operators.sign_in("cheap", PASSPHRASE) is None
    assert derived == [1 << COST]


def test_neither_the_line_nor_the_repr_shows_secrets(
    operators_file: Path, operators_line: str
) -> None:
    assert PASSPHRASE not in operators_line
    assert operator_line(NAME, PASSPHRASE) != operators_line  # salted
    key = operators_line.rpartition(":")[2]
    assert key not in repr(OperatorsFile(operators_file).get(NAME))


def test_the_file_is_read_again_when_it_changes(operators_file: Path, operators_line: str) -> None:
    operators = OperatorsFile(operators_file)
    rewrite(operators_file, operators_line.replace(NAME, "ada"))
    assert operators.get(NAME) is None
    assert operators.get("ada") is not None
    rewrite(operators_file, "half a li")  # invalid: the last valid operators stay
    assert operators.get("ada") is not None
    operators_file.unlink()
    assert operators.get("ada") is None
    rewrite(operators_file, operators_line)
    assert operators.get(NAME) is not None


def test_a_removed_operator_is_signed_out_although_another_line_is_invalid(
    operators_file: Path, operators_line: str, caplog: pytest.LogCaptureFixture
) -> None:
    operators = OperatorsFile(operators_file)
    ada, bob = (operators_line.replace(NAME, name) for name in ("ada", "bob"))
    rewrite(operators_file, f"{ada}\nbob:half a li\n")
    assert operators.get(NAME) is None
    assert operators.get("ada") is not None
    assert "line 2: not " in caplog.text
    # It is not known which passphrase is bob's.
    rewrite(operators_file, f"{ada}\n{bob}\n{bob.replace(':10:', ':11:')}\n")
    assert operators.get("bob") is None
    assert operators.get("ada") is not None
    rewrite(operators_file, "# nobody\n")
    assert operators.get("ada") is None


def test_a_file_that_cannot_be_used_is_logged_once(
    operators_file: Path, operators_line: str, caplog: pytest.LogCaptureFixture
) -> None:
    operators = OperatorsFile(operators_file)

    def look() -> tuple[int, int]:
        for _ in range(5):
            operators.get(NAME)
        text = caplog.text
        return text.count("cannot be reloaded"), text.count("is missing, and nobody can sign in")

    for times in (1, 2):
        rewrite(operators_file, "half a li")
        assert look() == (times, times - 1)
        operators_file.unlink()
        assert look() == (times, times)
        rewrite(operators_file, operators_line)
        assert look() == (times, times)


def rewrite(path: Path, text: str) -> None:
    """A new file, which no clock can mistake for the old one."""
    fresh = path.with_suffix(".new")
    fresh.write_text(text)
    fresh.replace(path)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda line: f"{line}\n{line}", "line 2: grace occurs twice"),
        (lambda line: line.replace("scrypt", "plain"), "line 1: not NAME:scrypt:COST:SALT:KEY"),
        (lambda line: line + ":more", "line 1: not NAME:scrypt:COST:SALT:KEY"),
        (lambda line: line.replace(NAME, "../grace"), "line 1: not"),
        (lambda line: line.replace(":10:", ":9:"), "the cost is not 10 to 17"),
        (lambda line: line.replace(":10:", ":18:"), "the cost is not 10 to 17"),
        (lambda line: line.replace(":10:", ":x:"), "the cost is not 10 to 17"),
        (lambda line: line[:-8], "truncated"),
        (lambda line: line[:-3], "."),
    ],
)
def test_an_invalid_file_is_rejected(
    operators_file: Path, operators_line: str, change: object, says: str
) -> None:
    assert callable(change)
    operators_file.write_text(change(operators_line))
    with pytest.raises(ValueError, match=says):
        OperatorsFile(operators_file)


@pytest.mark.parametrize("content", ["", "\n", "# nobody yet"])
@pytest.mark.anyio
async def test_a_file_without_operators_lets_nobody_in_until_there_is_one(
    operators_file: Path, operators_line: str, caplog: pytest.LogCaptureFixture, content: str
) -> None:
    operators_file.write_text(content)
    operators = OperatorsFile(operators_file)
    assert caplog.messages == [
        f"operators_file has no operators, and nobody can sign in: {operators_file}"
    ]
    for name in (NAME, ""):
        assert await operators.sign_in(name, PASSPHRASE) is None
    rewrite(operators_file, operators_line)
    assert await operators.sign_in(NAME, PASSPHRASE) is not None


def test_the_command_prints_a_line_that_works(tmp_path: Path) -> None:
    typed = f"{PASSPHRASE}\n{PASSPHRASE}\n"
    result = CliRunner().invoke(main, ["operator", "ada"], input=typed)
    assert result.exit_code == 0
    assert PASSPHRASE not in result.output
    path = tmp_path / "operators"
    path.write_text(result.stdout.splitlines()[-1])
    operator = OperatorsFile(path).get("ada")
    assert operator is not None
    assert operator.cost == COST
    assert has_passphrase(operator, PASSPHRASE, [COST])


@pytest.mark.parametrize(("name", "passphrase"), [("ada:x", PASSPHRASE), ("ada", "too short")])
def test_the_command_rejects_invalid_names_and_passphrases(name: str, passphrase: str) -> None:
    typed = f"{passphrase}\n{passphrase}\n"
    assert CliRunner().invoke(main, ["operator", name], input=typed).exit_code == 2
