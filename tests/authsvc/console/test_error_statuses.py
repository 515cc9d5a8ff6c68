"""The HTTP status of a page for each error of authsvc."""

from __future__ import annotations

import pytest

from authsvc.console.app import _HTTP_STATUSES
from authsvc.domain.errors import AuthError, Reason


@pytest.mark.parametrize("reason", Reason)
def test_what_may_be_tried_again_is_503(reason: Reason) -> None:
    is_retryable = AuthError(reason).retry_after_seconds is not None
    assert (_HTTP_STATUSES.get(reason.status.name) == 503) is is_retryable
