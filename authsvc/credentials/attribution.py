"""How AWS calls a principal: in its trails, and in conditions of policies. Pure."""

from __future__ import annotations

import base64
import hashlib
import re

from authsvc.domain.resolution import Principal

_UNSAFE = re.compile(r"[^A-Za-z0-9_+=,.@-]")
_TAG_VALUE = re.compile(r"[\w .:/=+\-@]{1,256}")

_READABLE = 47
"""Characters of the subject in a session's name; with ``-`` and 16 of a digest they make 64."""


def session_name(principal: Principal) -> str:
    """A ``RoleSessionName`` and ``SourceIdentity``: at most 64 of ``[A-Za-z0-9_+=,.@-]``.

    Begins with what can be kept of the subject, and ends with 80 bits of a digest of issuer and
    subject. It always does: were names left as they are where they can be, somebody could take the
    subject that another's turns into.
    """
    whole = f"{len(principal.issuer)}:{principal.issuer}{principal.subject}"
    digest = hashlib.sha256(whole.encode("utf-8", "surrogatepass")).digest()
    suffix = base64.b32encode(digest[:10]).decode().lower()
    return f"{_UNSAFE.sub('-', principal.subject)[:_READABLE]}-{suffix}"


def session_tags(principal: Principal) -> list[tuple[str, str]]:
    """Keys and values: ``issuer``, ``subject`` and ``client_id``, each as it is or not at all.

    A value that AWS does not take is not made to fit: a role's policy that compares tags would take
    one principal for another.
    """
    tags = {
        "issuer": principal.issuer,
        "subject": principal.subject,
        "client_id": principal.client_id,
    }
    return [(key, value) for key, value in tags.items() if _TAG_VALUE.fullmatch(value)]
