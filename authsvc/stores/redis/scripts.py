"""The scripts that run inside the server; each is a ``.lua`` file beside this one."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from importlib import resources


@dataclass(frozen=True, slots=True)
class Script:
    """One script: its source, and the SHA-1 by which the server knows it."""

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
NOT_BEFORE = _script("not_before")
FORGET = _script("forget")
APPEND = _script("append")
