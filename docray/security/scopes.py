"""What a call asks of a principal's scopes. One value per kind of call; the routes name theirs."""

from dataclasses import dataclass

from docray.domain.errors import InsufficientScope
from docray.domain.principals import READING, Principal, Scope


@dataclass(frozen=True, slots=True, kw_only=True)
class Access:
    """Who may call: a principal with one of the scopes (admin has them all), the operator, or any principal at all."""

    any_of: frozenset[Scope] = frozenset()
    operator: bool = False
    anybody: bool = False

    def check(self, principal: Principal) -> None:
        """InsufficientScope unless the principal may."""
        if self.anybody:
            return
        if self.operator:
            if not principal.operator:
                raise InsufficientScope("Only the platform's operator may do that. Use the key that the first start gave.")
        elif not principal.may(*self.any_of):
            needed = " or ".join(f"`{scope}`" for scope in sorted(self.any_of or {Scope.ADMIN}))
            raise InsufficientScope(f"These credentials do not allow that. Use a key with the scope {needed}.")


SIGNED_IN = Access(anybody=True)
READ = Access(any_of=READING)
WRITE = Access(any_of=frozenset({Scope.INGEST}))
SEARCH = Access(any_of=frozenset({Scope.SEARCH}))
ASK = Access(any_of=frozenset({Scope.ASK}))
ADMINISTER = Access()
OPERATE = Access(operator=True)
