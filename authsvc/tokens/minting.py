"""Signs tokens for development. No module that serves requests imports this one."""

from __future__ import annotations

from collections.abc import Mapping

import jwt

from authsvc.tokens.keys import VerificationKey


def mint(
    claims: Mapping[str, object],
    key: VerificationKey,
    *,
    token_type: str = "JWT",  # noqa: S107 - the header's value, not a password
) -> str:
    """A token with these claims, signed with a secret.

    Args:
        claims: the payload.
        key: a secret; public keys can only verify.
        token_type: header ``typ``.

    Raises:
        ValueError: the key cannot sign.
    """
    if not isinstance(key.material, bytes):
        raise ValueError(f"a public key for {key.algorithm} cannot sign")
    headers = {"typ": token_type} if key.kid is None else {"typ": token_type, "kid": key.kid}
    return jwt.encode(dict(claims), key.material, algorithm=key.algorithm, headers=headers)
