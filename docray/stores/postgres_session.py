"""What the parts of one transaction share: its connection, its principal, and that the corpus changed."""

from uuid import UUID

from docray.domain.principals import Principal
from docray.stores.postgres import Connection
from docray.stores.sql import load

_SQL = load("tenants")


class Session:
    """One open transaction of a principal's tenant."""

    def __init__(self, connection: Connection, principal: Principal) -> None:
        self.connection = connection
        self.principal = principal
        self._corpus_changed = False

    @property
    def tenant_id(self) -> UUID:
        """The tenant whose rows the transaction sees."""
        return self.principal.tenant_id

    def corpus_changed(self) -> None:
        """Notes that answers may now be others. The tenant's row, which everybody wants, is locked only at the end."""
        self._corpus_changed = True

    async def raise_epoch(self) -> None:
        """Raises the corpus epoch if the corpus changed; the last statement before the commit."""
        if self._corpus_changed:
            self._corpus_changed = False
            await self.connection.execute(_SQL["raise_epoch"], self.tenant_id)
