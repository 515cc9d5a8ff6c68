"""Names of buckets: one spelling for each, for every authorisation decision."""

from __future__ import annotations

import re
from collections.abc import Collection

_VISIBLE_ASCII = re.compile(r"[!-~]+")
_NAMES = re.compile(r"[!-.0-~]+(?:\n[!-.0-~]+)*+")
"""Lines of visible ASCII without a slash."""


def located(text: str) -> tuple[str, str]:
    """The bucket that ``text`` names, and the path after it: empty except in ``s3://name/path``.

    White space around the whole is no part of either.

    Raises:
        ValueError: it names no bucket.
    """
    name, _, path = text.strip().removeprefix("s3://").partition("/")
    if not _VISIBLE_ASCII.fullmatch(name):
        raise ValueError("not the name of a bucket")
    return name, path


def bucket_name(text: str) -> str:
    """The bucket that ``text`` names: ``name``, ``s3://name`` and ``s3://name/prefix`` are one.

    Raises:
        ValueError: it names none.
    """
    return located(text)[0]


def bucket_names(texts: Collection[str]) -> tuple[str, ...]:
    """The buckets that ``texts`` name, each once, in order.

    Raises:
        ValueError: one of them names none.
    """
    lines = "\n".join(texts)
    if lines.count("\n") != len(texts) - 1 or not _NAMES.fullmatch(lines):
        return tuple(dict.fromkeys(map(bucket_name, texts)))
    return tuple(dict.fromkeys(texts))  # each is its own name, as nearly always
