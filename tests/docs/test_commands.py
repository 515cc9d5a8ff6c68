"""Every command line in the documents is one that the programs know."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import click
import pytest

from authsvc.cli import main as authsvc
from mcp_adapter.server.cli import main as mcp_adapter
from tests.support.snippets import PAGES, blocks_of, commands_of

PROGRAMS: dict[str, click.Command] = {"authsvc": authsvc, "mcp-adapter": mcp_adapter}
OPERATORS = {"|", "<", ">", ">>", "&&", ";", "&"}


def lines(page: str) -> list[str]:
    """The lines of the page's shell blocks, and what is typed in its transcripts; those that go on
    are put together."""
    shells = [it for it in blocks_of(page) if it.language in {"sh", "console"}]
    typed = "".join(map(commands_of, shells))
    return typed.replace("\\\n", " ").splitlines()


def commands(line: str) -> list[tuple[str, list[str]]]:
    """The programs of ours that a line calls, and with what."""
    found: list[tuple[str, list[str]]] = []
    for part in re.split(r"\$\(|<\(|\)", line):
        lexer = shlex.shlex(part, posix=True, punctuation_chars="|<>&;")
        lexer.whitespace_split = True
        try:
            words = list(lexer)
        except ValueError:  # a quotation that the split above has cut
            words = part.split()
        for place, word in enumerate(words):
            name = Path(word).name
            if name in PROGRAMS and (place == 0 or words[place - 1] in {*OPERATORS, "-m"}):
                rest = words[place + 1 :]
                end = next((at for at, it in enumerate(rest) if it in OPERATORS), len(rest))
                found.append((name, rest[:end]))
    return found


def unknown(program: click.Command, words: list[str]) -> list[str]:
    """The commands and options among ``words`` that the program does not have."""
    if words[:1] == ["$@"]:
        return []  # a function of the shell, which is given the command
    command, rest = program, list(words)
    while isinstance(command, click.Group) and rest and not rest[0].startswith("-"):
        name = rest.pop(0)
        below = command.get_command(click.Context(command), name)
        if below is None:
            return [name]
        command = below
    known = {option for it in command.params for option in (*it.opts, *it.secondary_opts)}
    given = {word.partition("=")[0] for word in rest if word.startswith("-") and word != "-"}
    return sorted(given - known - {"--help", "-h"})


def test_there_are_commands_to_look_at() -> None:
    every = [it for page in PAGES for line in lines(page) for it in commands(line)]
    assert len(every) > 15


@pytest.mark.parametrize("page", PAGES)
def test_the_programs_know_them(page: str) -> None:
    for line in lines(page):
        for name, words in commands(line):
            assert unknown(PROGRAMS[name], words) == [], line


def test_what_is_not_there_is_found() -> None:
    assert unknown(authsvc, ["sessions", "lst"]) == ["lst"]
    assert unknown(authsvc, ["sessions", "list", "--colour=red"]) == ["--colour"]
    assert commands("x=$(.venv/bin/authsvc token --config a)") == [
        ("authsvc", ["token", "--config", "a"])
    ]
