"""A run's driver at PostgreSQL: finds or makes the run, lists its files, keeps and ends it. Not what is done with the files.

Synchronous, over services in a loop of their own; what is away for a moment is asked again.
"""

import asyncio
import contextlib
import itertools
import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from uuid import UUID

from docray.domain.bulk import BulkRun, Driver, SourceFile
from docray.domain.catalog import Paging, Transaction
from docray.domain.errors import DuplicateName, NotFound
from docray.domain.ids import new_id, parse_id
from docray.ingestion.bulk import patiently
from docray.wiring import BulkStores
from pipelines.plan import Opened, Plan, worker_principal
from pipelines.sources import files_of, name_of, sidecar_of

log = logging.getLogger("docray.bulk")

DRIVER_LEASE_S = 60.0
_FILES_A_STATEMENT = 2_000


class CannotStart(Exception):
    """The command asks for what is not there. The message says what to do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """Which run: of what source, whose, where its documents go. `resume`: the unfinished one as it is, without listing the source anew."""

    source: str
    tenant: str
    collection: str | None = None
    metadata_from: str | None = None
    resume: bool = False


class Desk:
    """The driver's dealings with PostgreSQL."""

    def __init__(self, stores: "Opened[BulkStores]") -> None:
        self._stores = stores

    def open(self, wanted: Wanted) -> Plan:
        """The run of this source, new or taken on, with every file of the source in it. CannotStart, BadSource, RunInProgress."""
        return self._stores.run(self._open(wanted))

    def keep(self, plan: Plan, seconds: float) -> BulkRun:
        """Extends the lease; the run as it is now. LostLease when another driver drives."""
        return self._stores.run(patiently(lambda: self._keep(plan, seconds)))

    def set_pace(self, plan: Plan, pace: float) -> None:
        """The share of their time that the run's operators may work. LostLease when another driver drives."""
        self._stores.run(patiently(lambda: self._set_pace(plan, pace)))

    def look(self, plan: Plan) -> BulkRun:
        """The run as it is now."""
        return self._stores.run(patiently(lambda: self._look(plan)))

    def settle(self, plan: Plan) -> int:
        """Ends files whose document has ended without the run."""
        return self._stores.run(patiently(lambda: self._settle(plan)))

    def close(self, plan: Plan, error: tuple[str, str] | None) -> BulkRun:
        """Ends the run."""
        return self._stores.run(patiently(lambda: self._close(plan, error)))

    def failures(self, plan: Plan) -> tuple[Mapping[str, int], Sequence[tuple[str, str, str]]]:
        """How many files failed by code, and the first thousand of them."""
        return self._stores.run(patiently(lambda: self._failures(plan)))

    async def _open(self, wanted: Wanted) -> Plan:
        catalog = self._stores.service.catalog
        tenant_id, tenant_name = await self._tenant(wanted.tenant)
        source = name_of(wanted.source)
        files = None if wanted.resume else files_of(wanted.source, sidecar_of(wanted.metadata_from) if wanted.metadata_from else None)
        first = list(itertools.islice(files, 1)) if files is not None else []
        if files is not None and not first:
            raise CannotStart(f"There is no PDF in {wanted.source}.")
        principal = worker_principal(tenant_id, tenant_name, new_id())
        async with catalog.transaction(principal) as tx:
            collection_id = await self._collection(tx, wanted.collection) if wanted.collection else None
        async with catalog.transaction(principal) as tx:
            run = await tx.bulk_runs.unfinished(source, collection_id)
            if run is None:
                if wanted.resume:
                    raise CannotStart(f"There is no unfinished run of {source}. Leave --resume out to start one.")
                try:
                    await tx.bulk_runs.insert(principal.id, source, collection_id)
                except NotFound:
                    raise CannotStart(f"There is no tenant {wanted.tenant}.") from None
                await tx.audit("bulk.start", "job", principal.id, {"source": source})
            driver = await tx.bulk_runs.drive(run.id if run else principal.id, DRIVER_LEASE_S)
        plan = Plan(tenant_id=tenant_id, tenant_name=tenant_name, driver=driver, collection_id=collection_id)
        log.info("job %s: %s", driver.run_id, "goes on" if run else "starts")
        if files is not None:
            await self._add(plan, driver, itertools.chain(first, files))
        return plan

    async def _add(self, plan: Plan, driver: Driver, files: Iterator[SourceFile]) -> None:
        while batch := await asyncio.to_thread(lambda: list(itertools.islice(files, _FILES_A_STATEMENT))):
            async with self._stores.service.catalog.transaction(plan.principal) as tx:
                await tx.bulk_runs.add_files(driver, batch)
                await tx.bulk_runs.keep(driver, DRIVER_LEASE_S, 0.0)

    async def _tenant(self, given: str) -> tuple[UUID, str]:
        tenant = await self._stores.service.tenants.find_by_name(given)
        if tenant is not None:
            return tenant.id, tenant.name
        found = parse_id(given)
        if found is None:
            raise CannotStart(f"There is no tenant {given}.")
        return found, given

    async def _collection(self, tx: Transaction, given: str) -> UUID:
        found = parse_id(given)
        if found is not None:
            try:
                await tx.collections.get(found)
            except NotFound:
                raise CannotStart(f"There is no collection {given}.") from None
            return found
        paging = Paging(limit=200)
        while True:
            page = await tx.collections.list(paging)
            for collection in page.items:
                if collection.name == given:
                    return collection.id
            if page.next_cursor is None:
                break
            paging = Paging(limit=200, after=page.next_cursor)
        with contextlib.suppress(DuplicateName):
            return (await tx.collections.insert(new_id(), name=given, description=None, metadata={})).id
        raise CannotStart(f"The collection {given} was made at this moment. Run the command again.")

    async def _keep(self, plan: Plan, seconds: float) -> BulkRun:
        async with self._stores.service.catalog.transaction(plan.principal) as tx:
            await tx.bulk_runs.keep(plan.driver, DRIVER_LEASE_S, seconds)
            return await tx.bulk_runs.get(plan.driver.run_id)

    async def _set_pace(self, plan: Plan, pace: float) -> None:
        async with self._stores.service.catalog.transaction(plan.principal) as tx:
            await tx.bulk_runs.set_pace(plan.driver, pace)

    async def _look(self, plan: Plan) -> BulkRun:
        async with self._stores.service.catalog.transaction(plan.principal) as tx:
            return await tx.bulk_runs.get(plan.driver.run_id)

    async def _settle(self, plan: Plan) -> int:
        async with self._stores.service.catalog.transaction(plan.principal) as tx:
            return await tx.bulk_runs.settle(plan.driver)

    async def _close(self, plan: Plan, error: tuple[str, str] | None) -> BulkRun:
        async with self._stores.service.catalog.transaction(plan.principal) as tx:
            run = await tx.bulk_runs.finish(plan.driver, error)
            await tx.audit("bulk.end", "job", run.id, {"state": run.state.value, "ready": run.ready, "failed": run.failed})
            return run

    async def _failures(self, plan: Plan) -> tuple[Mapping[str, int], Sequence[tuple[str, str, str]]]:
        async with self._stores.service.catalog.transaction(plan.principal) as tx:
            run_id = plan.driver.run_id
            return await tx.bulk_runs.failure_counts(run_id), await tx.bulk_runs.failures(run_id, 1000)
