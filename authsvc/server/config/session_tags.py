"""``[credentials.sts.claim_tags]``: session tags of AWS whose values are claims."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Annotated

from pydantic import AfterValidator

from authsvc.common.setting_rules import Fault
from authsvc.credentials.attribution import TAGS
from authsvc.tokens.claim_paths import ClaimPath

MAX_TAGS = 50
"""Tags of one session, authsvc's own included (STS API reference, AssumeRole, parameter Tags)."""

_KEY = re.compile(r"[\w .:/=+\-@]{1,128}")
"""A key of a tag (STS API reference, data type Tag)."""


def _key(text: str) -> str:
    if not _KEY.fullmatch(text) or text.lower().startswith("aws:"):
        raise ValueError(
            "is a tag's key: 1 to 128 letters, digits, spaces and _.:/=+-@, not with aws: at its "
            "beginning"
        )
    return text


def _claim(text: str) -> str:
    ClaimPath(text)
    return text


ClaimTags = dict[Annotated[str, AfterValidator(_key)], Annotated[str, AfterValidator(_claim)]]
"""Claims by the keys of tags: a name, or a JSON Pointer (RFC 6901)."""


def tag_faults(tags: ClaimTags) -> Iterator[Fault]:
    """Faults of the table as a whole. AWS compares keys without regard to case."""
    if len(tags) > MAX_TAGS - len(TAGS):
        yield Fault(
            f"a session has {MAX_TAGS} tags at most, and {len(TAGS)} are authsvc's own",
            ("claim_tags",),
        )
    if own := sorted(key for key in tags if key.lower() in TAGS):
        yield Fault(
            f"{', '.join(own)}: a tag of authsvc's own. Give it another key", ("claim_tags",)
        )
    if len({key.lower() for key in tags}) < len(tags):
        yield Fault("two keys differ in case alone, and AWS takes them for one", ("claim_tags",))
