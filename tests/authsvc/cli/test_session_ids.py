"""Session ids as arguments, also those that begin with ``-``."""

from __future__ import annotations

import click
import pytest
from click.testing import CliRunner

from authsvc.cli import main
from authsvc.cli.sessions.ids import SessionIdCommand

DASHED = (
    *("-Ab3xyzw", "-Ab3xyzw…", "--Ab3xyz", "--9xyzab…", "-hAb3xyz", "--", "--jsonAbc", "--_xyzabc"),
    *("-json-of-ada", "--all-letters…", "---abcde", "-1", "-"),
)


@click.command(cls=SessionIdCommand, context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("session_id", required=False, default="")
@click.option("--subject", default="")
@click.option("--yes", is_flag=True)
def command(session_id: str, subject: str, yes: bool) -> None:
    """Print what it was given."""
    click.echo(f"{session_id!r} {subject!r} {yes}")


@pytest.mark.parametrize(
    ("arguments", "printed"),
    [
        *(((it,), f"{it!r} '' False") for it in DASHED if it != "--"),
        *((("--", it), f"{it!r} '' False") for it in (*DASHED, "--yes", "-h", "--help")),
        *((("--subject", it), f"'' {it!r} False") for it in DASHED),
        *(((f"--subject={it}",), f"'' {it!r} False") for it in DASHED),
        (("-Ab3xyzw", "--yes"), "'-Ab3xyzw' '' True"),
        (("--yes", "-Ab3xyzw", "--subject", "--9x"), "'-Ab3xyzw' '--9x' True"),
        (("-Ab3xyzw", "--subject", "ada"), "'-Ab3xyzw' 'ada' False"),
        (("Ab3xyzw",), "'Ab3xyzw' '' False"),
        ((), "'' '' False"),
    ],
)
def test_an_id_is_no_option(arguments: tuple[str, ...], printed: str) -> None:
    ran = CliRunner().invoke(command, arguments)
    assert (ran.exit_code, ran.output) == (0, f"{printed}\n")


@pytest.mark.parametrize(
    ("arguments", "wrong"),
    [
        (("--subjct", "ada"), "Did you mean '--subject'?"),
        (("--subjct=ada",), "Did you mean '--subject'?"),
        (("--yess",), "Put -- before a session id that begins with -."),
        (("-y",), "No such option"),
        (("-yes",), "No such option"),
        (("-subject=ada",), "No such option"),
        (("--subject",), "requires an argument"),
        (("-Ab3xyzw", "another"), "unexpected extra argument"),
        (("-Ab3xyzw", "--", "another"), "unexpected extra argument"),
        (("-Ab3xyzw", "-Ab3xyzv"), "unexpected extra argument"),
    ],
)
def test_a_misspelt_option_is_no_id(arguments: tuple[str, ...], wrong: str) -> None:
    ran = CliRunner().invoke(command, arguments)
    assert ran.exit_code == 2
    assert wrong in ran.output


def test_help_is_still_asked_for() -> None:
    for option in ("-h", "--help"):
        assert "Print what it was given." in CliRunner().invoke(command, [option]).output


@pytest.mark.parametrize("name", ["show", "revoke"])
def test_commands_that_take_an_id_take_these(name: str) -> None:
    # Rejected for its connection, after its arguments were read.
    away = ("--target", "http://x")
    ran = CliRunner().invoke(main, ["sessions", name, "-Ab3xyzw", *away])
    assert (ran.exit_code, "--target" in ran.output) == (2, True)
    assert "No such option" not in ran.output


@pytest.mark.parametrize("name", ["list", "watch"])
def test_a_short_prefix_is_rejected_with_its_length(name: str) -> None:
    ran = CliRunner().invoke(main, ["sessions", name, "--session", "4fZk0…"])
    assert ran.exit_code == 2
    assert "--session: the beginning of a session id has at least 6 characters" in ran.output
