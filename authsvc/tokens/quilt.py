"""The ``quilt`` profile: tokens of the original system, with short names and packed lists.

Those tokens are packed to fit in headers. The format is no standard; it is read for compatibility.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Mapping

from authsvc.tokens.values import MAX_STRINGS, check_count, malformed, string_list

SHORT_NAMES = {"permissions": "p", "roles": "r", "buckets": "b", "scope": "s", "level": "l"}
"""Short names by long name. If a token has both, the long one applies."""
# A principal has no `level`: the claim is expanded like the others, and not used.

PERMISSIONS = {
    "g": "s3:GetObject",
    "p": "s3:PutObject",
    "d": "s3:DeleteObject",
    "l": "s3:ListBucket",
    "la": "s3:ListAllMyBuckets",
    "gb": "s3:GetBucketLocation",
    "gv": "s3:GetObjectVersion",
    "pa": "s3:PutObjectAcl",
    "amu": "s3:AbortMultipartUpload",
}
"""Permissions by abbreviation; all other names are unchanged."""

MAX_PREFIX_LENGTH = 255
"""Characters of a prefix in a map. No bucket has a longer name. A prefix is repeated for each of
its suffixes, which makes a small token large."""

MAX_PACKED_LENGTH = 65536
"""Characters of a compressed list."""

_OWN_PREFIX = "quilt"


def expanded(claims: Mapping[str, object]) -> dict[str, object]:
    """The same claims under their long names, without abbreviations and packed lists.

    Raises:
        AuthError: TOKEN_MALFORMED for lists that cannot be unpacked, TOKEN_TOO_LARGE for too long
            ones.
    """
    plain = dict(claims)
    for long_name, short_name in SHORT_NAMES.items():
        short = plain.pop(short_name, None)
        if plain.get(long_name) is None and short is not None:
            plain[long_name] = short
    if plain.get("permissions") is not None:
        names = _list(plain["permissions"], "permissions")
        plain["permissions"] = [PERMISSIONS.get(name, name) for name in names]
    buckets = plain.get("buckets")
    if isinstance(buckets, dict):
        plain["buckets"] = _unpacked(buckets)
    return plain


def _list(value: object, name: str) -> tuple[str, ...]:
    return string_list(value, name, most=MAX_STRINGS[name])


def _unpacked(packed: Mapping[str, object]) -> list[str]:
    kind, data = packed.get("_type"), packed.get("_data")
    if kind == "groups":
        return _joined(data, _grouped)
    if kind == "patterns":
        return _joined(data, _patterned)
    if kind == "compressed":
        return _decompressed(data)
    raise malformed("buckets", "is packed in an unknown way")


def _joined(data: object, join: Callable[[str, str], str]) -> list[str]:
    if not isinstance(data, dict):
        raise malformed("buckets", "is not packed as a map of lists")
    if any(len(prefix) > MAX_PREFIX_LENGTH for prefix in data):
        raise malformed("buckets", "has a prefix that is too long")
    lists = {prefix: _list(suffixes, "buckets") for prefix, suffixes in data.items()}
    # Checked before they are joined: each suffix gets its prefix.
    check_count(sum(map(len, lists.values())), "buckets", most=MAX_STRINGS["buckets"])
    return [join(prefix, suffix) for prefix, suffixes in lists.items() for suffix in suffixes]


def _grouped(prefix: str, suffix: str) -> str:
    whole = prefix != _OWN_PREFIX and "-" in suffix
    return suffix if whole else f"{prefix}-{suffix}"


def _patterned(prefix: str, suffix: str) -> str:
    return f"{prefix}-{suffix}" if prefix == _OWN_PREFIX else suffix


def _decompressed(data: object) -> list[str]:
    if not isinstance(data, str) or len(data) > MAX_PACKED_LENGTH:
        raise malformed("buckets", "is not packed as text")
    try:
        names = json.loads(base64.b64decode(data, validate=True))
    except (ValueError, RecursionError):
        raise malformed("buckets", "cannot be unpacked") from None
    return list(_list(names, "buckets"))
