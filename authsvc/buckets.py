"""Names of buckets: one spelling for each, before anything is authorised. Knows nothing else."""

from __future__ import annotations


def bucket_name(text: str) -> str:
    """The bucket that ``text`` names: ``name``, ``s3://name`` and ``s3://name/prefix`` are one.

    Raises:
        ValueError: it names none.
    """
    name = text.strip().removeprefix("s3://").partition("/")[0]
    if not name or not all("!" <= character <= "~" for character in name):
        raise ValueError("not the name of a bucket")
    return name
