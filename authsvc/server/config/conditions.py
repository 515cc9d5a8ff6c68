"""Which credentials a table of ``[credentials]`` gives, and to which principals."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated

from pydantic import AfterValidator, Field

from authsvc.common.formats import check_scope
from authsvc.common.setting_rules import Fault, rule
from authsvc.common.settings import Resource, Table
from authsvc.credentials.conditions import PrincipalConditions
from authsvc.domain.credential_requests import is_credential_name
from authsvc.server.config.values import NonEmpty

RESERVED_NAMES = {"default", "unknown"}
"""What metrics call credentials without a name, and those of a name that no table has."""


def _credential_name(name: str) -> str:
    if name and not is_credential_name(name):
        raise ValueError(
            "is a name like orders-api: 1 to 64 letters, digits, '.', '_' and '-', the first a "
            "letter or a digit"
        )
    if name in RESERVED_NAMES:
        raise ValueError("has another meaning in metrics: choose another name")
    return name


CredentialName = Annotated[str, AfterValidator(_credential_name)]
"""A name of credentials, or nothing."""


class Conditions(Table):
    """The settings that each table of ``[credentials]`` has beside its own."""

    name: CredentialName = Field(
        default="",
        description="What tools ask for these credentials by. Without it: those that a resolve "
        "answers when it asks for none by name.",
    )
    resources: tuple[Resource, ...] = Field(
        default=(),
        description="The resources it applies to; a table with a name needs them. Without it: "
        "those for which no other table applies.",
    )
    for_issuers: tuple[NonEmpty, ...] = Field(
        default=(),
        description="It applies to tokens of these issuers (claim iss). Without it: of each.",
    )
    for_roles: tuple[NonEmpty, ...] = Field(
        default=(),
        description="It applies to tokens that have one of these roles. Without it: to each.",
    )
    for_scopes: tuple[Annotated[str, AfterValidator(check_scope)], ...] = Field(
        default=(),
        description="It applies to tokens that have all of these scopes. Without it: to each.",
    )

    @rule
    def _a_name_is_of_resources(self) -> Iterator[Fault]:
        if self.name and not self.resources:
            yield Fault("a table with a name needs resources: list those it is for")

    @rule
    def _each_resource_once(self) -> Iterator[Fault]:
        if len(set(self.resources)) < len(self.resources):
            yield Fault("one is listed twice", ("resources",))

    @rule
    def _conditions_name_something(self) -> Iterator[Fault]:
        for condition in ("for_issuers", "for_roles", "for_scopes"):
            if condition in self.model_fields_set and not getattr(self, condition):
                yield Fault("is empty, which is no condition: name one, or remove it", (condition,))

    def principals(self) -> PrincipalConditions:
        """The principals that the table is for."""
        return PrincipalConditions(
            issuers=frozenset(self.for_issuers) or None,
            roles=(frozenset(self.for_roles),) if self.for_roles else (),
            scopes=frozenset(self.for_scopes),
        )
