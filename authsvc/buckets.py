"""Names of buckets: one spelling for each, before anything is authorised. Knows nothing else."""

from __future__ import annotations

import re

_VISIBLE_ASCII = re.compile(r"[!-~]+")


def bucket_name(text: str) -> str:
    """The bucket that ``text`` names: ``name``, ``s3://name`` and ``s3://name/prefix`` are one.

    Raises:
        ValueError: it names none.
    """
    name = text.strip().removeprefix("s3://").partition("/")[0]
    if not _VISIBLE_ASCII.fullmatch(name):
        raise ValueError("not the name of a bucket")
    return name
