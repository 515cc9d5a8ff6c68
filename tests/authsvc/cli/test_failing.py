"""How a command ends when authsvc answers with an error."""

from __future__ import annotations

import pytest

from authsvc.cli.failing import Failure, errors_explained
from authsvc.domain.errors import AuthError, Reason


@pytest.mark.parametrize(
    ("reason", "exit_code"),
    [
        (Reason.SERVICE_UNAVAILABLE, 3),
        (Reason.STORE_UNAVAILABLE, 3),
        (Reason.CONFLICT, 3),
        (Reason.CALLER_NOT_ALLOWED, 1),
        (Reason.SESSION_NOT_FOUND, 1),
    ],
)
def test_the_exit_code_says_whether_to_try_again(reason: Reason, exit_code: int) -> None:
    with pytest.raises(Failure) as failure, errors_explained("127.0.0.1:50051"):
        raise AuthError(reason)
    assert failure.value.exit_code == exit_code


@pytest.mark.parametrize(
    ("reason", "remedy"),
    [
        (Reason.SERVICE_UNAVAILABLE, "Check that authsvc listens at 127.0.0.1:50051."),
        (Reason.STORE_UNAVAILABLE, "authsvc answers, and its store does not."),
    ],
)
def test_what_does_not_answer_is_named(reason: Reason, remedy: str) -> None:
    with pytest.raises(Failure) as failure, errors_explained("127.0.0.1:50051"):
        raise AuthError(reason)
    assert remedy in str(failure.value)
