"""Which principals a table of the configuration is for. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from itertools import product

from authsvc.domain.resolution import Principal


@dataclass(frozen=True, slots=True)
class PrincipalConditions:
    """Conditions on the claims of a token, each of which has to hold.

    Each is monotone: what a principal with fewer roles and scopes meets, one with more of them
    meets as well.

    Attributes:
        issuers: claim ``iss``, one of these; None for any.
        roles: sets of roles; the token has at least one role of each set.
        scopes: the token has all of them.
    """

    issuers: AbstractSet[str] | None = None
    roles: tuple[AbstractSet[str], ...] = ()
    scopes: AbstractSet[str] = frozenset()

    def hold(self, principal: Principal) -> bool:
        """Whether they hold for a principal."""
        return (
            (self.issuers is None or principal.issuer in self.issuers)
            and not any(names.isdisjoint(principal.roles) for names in self.roles)
            and self.scopes <= {*principal.scopes}
        )

    def missing(self, principal: Principal) -> str:
        """Which of them do not hold for a principal, for operators; empty where all hold."""
        if self.issuers is not None and principal.issuer not in self.issuers:
            return f"its for_issuers do not have {principal.issuer}"
        lacks = [
            f"role {' or '.join(sorted(roles))}"
            for roles in self.roles
            if roles.isdisjoint(principal.roles)
        ]
        if scopes := sorted(self.scopes - {*principal.scopes}):
            lacks.append(f"scope {' '.join(scopes)}")
        return f"the token lacks {', and '.join(lacks)}" if lacks else ""

    def least_principals(self, issuers: Iterable[str]) -> Iterator[Principal]:
        """The principals with the fewest claims for which they hold.

        Any other principal of ``issuers`` for which they hold has the claims of one of these, and
        more. So conditions that are monotone hold for all of those if they hold for these.

        Args:
            issuers: all that there are.
        """
        for issuer in issuers:
            if self.issuers is not None and issuer not in self.issuers:
                continue
            for roles in product(*map(sorted, self.roles)):
                yield Principal(issuer, "", 0.0, scopes=(*self.scopes,), roles=roles)


EVERYONE = PrincipalConditions()
"""No condition."""
