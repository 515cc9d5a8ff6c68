"""docs/providers.md, read: by heading, its configuration, tokens, principals and refusals."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from authsvc.domain.errors import Reason
from tests.support.processes import ROOT

PAGE = (ROOT / "docs" / "providers.md").read_text(encoding="utf-8")
PARTS = ("subject", "client_id", "scopes", "roles", "buckets", "permissions")
"""Of a principal, as ``explain`` names them."""

_LISTS = PARTS[2:]


@dataclass(frozen=True)
class Section:
    """A heading of the page, and what is below it.

    Attributes:
        title: the heading.
        toml: its configuration, as it is written.
        documents: its JSON: a token's header and payload, or an introspection response.
        shown: the lines of ``explain``, by part of the principal; empty where none are shown.
        refused: what is sent in the token's place, and the answer.
    """

    title: str
    toml: str
    documents: tuple[dict[str, Any], ...]
    shown: Mapping[str, str]
    refused: Mapping[str, Reason]

    @property
    def is_introspected(self) -> bool:
        """Whether it shows an introspection response."""
        return "active" in self.documents[-1]

    @property
    def kid(self) -> str:
        """Of the token that it shows; any other name where it shows none."""
        return str(self.documents[0].get("kid", "none"))

    @property
    def principal(self) -> dict[str, object]:
        """The principal that it shows, by part."""
        found: dict[str, object] = {}
        for part in PARTS:
            text = self.shown[part].split(maxsplit=1)[1].partition("  (claim")[0]
            listed = () if text == "none" else tuple(text.split(", "))
            found[part] = listed if part in _LISTS else text
        return found


def _section(title: str, text: str) -> Section:
    blocks: dict[str, list[str]] = {"toml": [], "json": [], "text": []}
    for language, block in re.findall(
        r"^```(toml|json|text)\n(.*?)^```", text, re.MULTILINE | re.DOTALL
    ):
        blocks[language].append(block)
    (toml,) = blocks["toml"] or [""]
    documents = tuple(it for block in blocks["json"] for it in _parsed(block))
    shown = {line.split()[0]: line for block in blocks["text"] for line in block.splitlines()}
    rows = re.findall(r"^\| ([^|]+) \| `(\w+)` \|$", text, re.MULTILINE)
    return Section(title, toml, documents, shown, {what: Reason[it] for what, it in rows})


def _parsed(block: str) -> list[dict[str, Any]]:
    """The JSON objects of a block, one after the other."""
    found = []
    while block := block.strip():
        document, end = json.JSONDecoder().raw_decode(block)
        found.append(document)
        block = block[end:]
    return found


def _sections() -> tuple[Section, ...]:
    parts = re.split(r"^###? (.*)\n", PAGE, flags=re.MULTILINE)[1:]
    return tuple(_section(title, text) for title, text in zip(parts[::2], parts[1::2], strict=True))


ALL = {it.title: it for it in _sections()}
"""By heading."""

BASE = ALL["Before any of them"].toml
"""What is above each configuration."""
