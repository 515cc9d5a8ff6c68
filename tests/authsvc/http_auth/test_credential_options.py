"""Which credentials a resolver can be asked for is seen from its signature."""

from __future__ import annotations

from typing import Any

import pytest

from authsvc.domain.credential_requests import CredentialRequest
from authsvc.http_auth.credential_options import CredentialOptions, takes
from mcp_adapter.testing import FakeResolver


def test_a_parameter_of_the_name_or_any() -> None:
    def named(*, credentials: object) -> None: ...

    def any_of_them(**options: object) -> None: ...

    def neither(credential: object, *rest: object) -> None: ...

    assert takes(named, "credentials")
    assert takes(any_of_them, "credentials")
    assert not takes(neither, "credentials")
    without_signature: Any = type
    assert not takes(without_signature, "credentials")
    not_callable: Any = None
    assert not takes(not_callable, "credentials")


@pytest.mark.parametrize(("on_demand", "expected"), [(True, {"credentials": ()}), (False, {})])
def test_the_arguments(*, on_demand: bool, expected: dict[str, object]) -> None:
    options = CredentialOptions(FakeResolver(), on_demand=on_demand)
    assert dict(options.of_request) == expected
    wanted = CredentialRequest("api")
    assert options.of(wanted) == {"credentials": (wanted,)}
