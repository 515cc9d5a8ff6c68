"""The code blocks of the pages."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass

from tests.support.processes import ROOT

_READMES = ("examples/**/README.md", "deploy/**/README.md")

PAGES = (
    *("README.md", "CONTRIBUTING.md"),
    *(
        str(path.relative_to(ROOT))
        for pattern in (
            "docs/*.md",
            "docs/credentials/*.md",
            "examples/**/README.md",
            "deploy/**/README.md",
        )
        for path in sorted(ROOT.glob(pattern))
    ),
)
"""The pages with code: not decisions, which tell of their time, nor what is generated."""

_FENCE = re.compile(r"^( *)```(.*)$")


@dataclass(frozen=True)
class Block:
    """A code block.

    Attributes:
        page: its file, from the root of the project.
        line: where it begins.
        language: the word after its fence; empty for none.
        text: what is in it, without the indent of its fence.
    """

    page: str
    line: int
    language: str
    text: str

    def __str__(self) -> str:
        return f"{self.page}:{self.line} ({self.language})"


def blocks_of(page: str, text: str | None = None) -> list[Block]:
    """All blocks of a page; ``text`` in place of its file's.

    Raises:
        ValueError: a block does not end.
    """
    if text is None:
        text = (ROOT / page).read_text(encoding="utf-8")
    return [*_blocks(page, text.splitlines())]


def _blocks(page: str, lines: list[str]) -> Iterator[Block]:
    begun: tuple[int, str, str] | None = None
    for number, line in enumerate(lines, 1):
        fence = _FENCE.match(line)
        if fence is None:
            continue
        if begun is None:
            begun = (number, fence[1], fence[2].strip())
        elif fence[1] == begun[1] and not fence[2]:
            at, _, language = begun
            text = textwrap.dedent("\n".join(lines[at : number - 1]))
            yield Block(page, at, language, f"{text}\n")
            begun = None
    if begun is not None:
        raise ValueError(f"{page}:{begun[0]}: a code block without an end")


def commands_of(block: Block) -> str:
    """What is typed in a block of a shell: a script, or a transcript with prompts."""
    if block.language != "console":
        return block.text
    typed = [line[2:] for line in block.text.splitlines() if line.startswith("$ ")]
    return "".join(f"{line}\n" for line in typed)
