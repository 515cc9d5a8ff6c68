"""The Lua scripts that run in the server; each is a ``.lua`` file beside this module."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from importlib import resources

Argument = str | bytes | int | float


@dataclass(frozen=True, slots=True)
class Script:
    """One script.

    Attributes:
        source: in Lua.
        sha: its SHA-1, by which the server caches it.
    """

    source: str = field(repr=False)
    sha: str


def _script(name: str) -> Script:
    folder = resources.files(__package__)
    prelude, body = ((folder / file).read_text("ascii") for file in ("prelude.lua", f"{name}.lua"))
    source = f"{prelude}\n{body}"
    return Script(source, hashlib.sha1(source.encode(), usedforsecurity=False).hexdigest())


PUT = _script("put")
TOUCH = _script("touch")
CONFIRM = _script("confirm")
REMOVE = _script("remove")
SWEEP = _script("sweep")
SET_NOT_BEFORE = _script("set_not_before")
DELETE_NOT_BEFORE = _script("delete_not_before")
APPEND = _script("append")
PUT_DOCUMENT = _script("put_document")
CONFIRM_DOCUMENT = _script("confirm_document")
MARK_RECEIVED = _script("mark_received")
SUBJECT_IDS = _script("subject_ids")
PREFIX_IDS = _script("prefix_ids")
COUNT = _script("count")
IS_INDEXED = _script("is_indexed")
INDEX = _script("index")
