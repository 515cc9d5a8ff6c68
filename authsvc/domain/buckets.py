"""Names of buckets: one spelling for each, for every authorisation decision."""

from __future__ import annotations

import re

_VISIBLE_ASCII = re.compile(r"[!-~]+")


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
