"""Which embedder a tenant's search goes by: that of the generations that answer.

Owns how often PostgreSQL is asked. While a reindex is open, before each search, since the switch may come any moment; else once a second, which
is safe because a reindex is not switched before it is two seconds old.
"""

import time
from dataclasses import dataclass
from uuid import UUID

from cachetools import LRUCache

from docray.domain.catalog import Catalog
from docray.domain.ports import Embedder
from docray.domain.principals import Principal
from docray.domain.reindexes import SearchForm

_KNOWN_S = 1.0
_TENANTS_KNOWN = 10_000


@dataclass(frozen=True, slots=True)
class Going:
    """What one search goes by. `known`: the embedder is the tenant's own model, not one that has embedded only a part of its documents."""

    form: SearchForm
    embedder: Embedder
    known: bool


class TenantModels:
    """The embedders of this process, by tenant."""

    def __init__(self, catalog: Catalog, embedder: Embedder, next_embedder: Embedder | None = None) -> None:
        """`embedder` is for tenants without documents, and for those whose model this process does not have."""
        self._catalog = catalog
        self._embedders = [embedder] if next_embedder is None else [embedder, next_embedder]
        self._known: LRUCache[UUID, tuple[float, SearchForm]] = LRUCache(_TENANTS_KNOWN)

    async def of(self, principal: Principal) -> Going:
        """What the tenant's next search goes by."""
        until, form = self._known.get(principal.tenant_id, (0.0, None))
        if form is None or time.monotonic() > until:
            form = await self._ask(principal)
        by_model = {embedder.model_id: embedder for embedder in self._embedders}
        return Going(form, by_model.get(form.model or "", self._embedders[0]), form.model is None or form.model in by_model)

    async def have_changed(self, principal: Principal, going: Going) -> bool:
        """Whether the model was switched under a search, which then may have looked where nothing answers any more."""
        return going.form.reindexing and (await self._ask(principal)).model != going.form.model

    async def _ask(self, principal: Principal) -> SearchForm:
        asked = time.monotonic()
        async with self._catalog.transaction(principal) as transaction:
            form = await transaction.search_form()
        if form.reindexing:
            self._known.pop(principal.tenant_id, None)
        else:
            self._known[principal.tenant_id] = (asked + _KNOWN_S, form)
        return form
