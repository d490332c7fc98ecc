"""What the record of reindexes and the planner promise: whose turn it is, nothing twice, nothing of an upload mistaken for it."""

import asyncio
import contextlib

import pytest
from catalog_factories import add_document, add_ready, purge_all, take_to

from docray.domain.bulk import SourceFile
from docray.domain.documents import Failure, FailureCode, State
from docray.domain.errors import LostLease, NotFailed, ReindexNotBuilt, ReindexUnderWay
from docray.domain.ids import new_id
from docray.domain.reindexes import IndexForm, NewReindex, ReindexState, SearchForm, Switch
from docray.stores.postgres_reindex_planner import PostgresReindexPlanner

FORM = IndexForm("n", "1")


@pytest.fixture
def planner(worker_database):
    return PostgresReindexPlanner(worker_database)


async def begin(catalog, principal, switch=Switch.TENANT, form=FORM):
    async with catalog.transaction(principal) as tx:
        return await tx.reindexes.start(NewReindex(id=new_id(), form=form, model_before="m", switch=switch))


async def counts(catalog, principal, reindex):
    async with catalog.transaction(principal) as tx:
        found = (await tx.reindexes.get(reindex.id)).counts
    return found.total, found.done, found.built, found.failed, found.waiting


async def build(queue, planner, models=("n",)):
    """Builds all there is, uploads too; the generations in order. What is lost on the way is somebody else's."""
    built = []
    while True:
        worked = await planner.plan()
        while lease := await queue.lease("builder", 60.0, models):
            worked = True
            with contextlib.suppress(LostLease):
                pages = await queue.source_pages(lease) if lease.reindex_id else None
                await take_to(queue, lease, State.READY, pages, model=lease.models[0] if lease.models else "m")
                built.append((lease.tenant_id, lease.document_id, lease.generation))
        if not worked:
            return built


async def test_every_document_is_built_once_however_many_there_are_and_few_wait_at_a_time(catalog, queue, planner, principal, superuser):
    documents = [await add_ready(catalog, queue, principal) for _ in range(70)]
    reindex = await begin(catalog, principal)
    assert await planner.plan()
    assert not await planner.plan()
    assert await counts(catalog, principal, reindex) == (70, 0, 0, 0, 70)
    assert await superuser.fetchval("SELECT count(*) FROM docray.generations WHERE reindex_id IS NOT NULL") == 64
    built = await build(queue, planner)
    assert sorted(document for _, document, _ in built) == sorted(document.id for document in documents)
    assert await counts(catalog, principal, reindex) == (70, 0, 70, 0, 0)
    assert not await planner.plan()


async def test_uploads_of_every_tenant_go_before_a_reindex_of_any(catalog, queue, planner, principal, other_principal):
    ready = await add_ready(catalog, queue, principal)
    await begin(catalog, principal)
    await planner.plan()
    waiting = [await add_document(catalog, who) for who in (other_principal, principal, other_principal)]
    first = [await queue.lease("w", 60.0, ["m", "n"]) for _ in range(3)]
    assert {lease.document_id for lease in first} == {document.id for document in waiting}
    assert {lease.document_id: lease.models for lease in first} == {
        waiting[0].id: (), waiting[1].id: ("n", "m"), waiting[2].id: (),
    }  # fmt: skip
    assert await queue.lease("w", 60.0, ["m"]) is None
    rebuilt = await queue.lease("w", 60.0, ["m", "n"])
    assert (rebuilt.document_id, rebuilt.generation, rebuilt.source_generation, rebuilt.models) == (ready.id, 2, 1, ("n",))


async def test_a_tenant_has_one_open_reindex_even_when_two_are_started_at_once(catalog, principal):
    found = await asyncio.gather(*(begin(catalog, principal) for _ in range(5)), return_exceptions=True)
    assert sum(not isinstance(one, Exception) for one in found) == 1
    assert {type(one) for one in found if isinstance(one, Exception)} == {ReindexUnderWay}


async def test_the_first_document_decides_the_model_and_a_reindex_changes_it(catalog, queue, planner, principal, superuser):
    async def form():
        async with catalog.transaction(principal) as tx:
            return await tx.search_form()

    assert await form() == SearchForm(None, reindexing=False, crowded=False)
    await add_ready(catalog, queue, principal)
    assert await form() == SearchForm("m", reindexing=False, crowded=False)
    reindex = await begin(catalog, principal, switch=Switch.DOCUMENT)
    assert await form() == SearchForm("m", reindexing=True, crowded=True)
    await superuser.execute("UPDATE docray.reindexes SET created_at = created_at - interval '10 s'")
    await build(queue, planner)
    async with catalog.transaction(principal) as tx:
        assert (await tx.reindexes.get(reindex.id)).state is ReindexState.SWITCHED
        await tx.reindexes.finish(reindex.id)
    assert await form() == SearchForm("n", reindexing=False, crowded=True)
    await purge_all(queue)
    assert await form() == SearchForm("n", reindexing=False, crowded=False)


async def test_what_a_reindex_builds_is_no_retry_no_replacement_and_no_bulk_file(catalog, queue, planner, principal):
    document = await add_ready(catalog, queue, principal)
    before = document
    await begin(catalog, principal)
    await planner.plan()
    lease = await queue.lease("w", 60.0, ["n"])
    async with catalog.transaction(principal) as tx:
        assert await tx.documents.get(document.id) == before
        driver_run = new_id()
        await tx.bulk_runs.insert(driver_run, "/in", None)
        driver = await tx.bulk_runs.drive(driver_run, 60)
        await tx.bulk_runs.add_files(driver, [SourceFile(uri="/in/a.pdf", size_bytes=1, etag="1")])
        await queue.release(lease)
        assert await tx.bulk_runs.take(driver, 0, document.id, 60) is None
    lease = await queue.lease("w", 60.0, ["n"])
    await queue.fail(lease, Failure.of(FailureCode.NO_TEXT))
    async with catalog.transaction(principal) as tx:
        assert await tx.documents.get(document.id) == before
        with pytest.raises(NotFailed):
            await tx.documents.requeue(document.id)


async def test_a_generation_whose_document_was_replaced_or_whose_reindex_was_rolled_back_is_lost_to_its_worker(catalog, queue, planner, principal):
    document = await add_ready(catalog, queue, principal)
    reindex = await begin(catalog, principal)
    await planner.plan()
    lease = await queue.lease("w", 60.0, ["n"])
    async with catalog.transaction(principal) as tx:
        await tx.documents.insert_generation(document.id, sha256="1" * 64, size_bytes=1, filename=None)
    await take_to(queue, lease, State.INDEXED, await queue.source_pages(lease))  # a replacement on its way changes nothing
    await take_to(queue, await queue.lease("other", 60.0), State.READY)
    with pytest.raises(LostLease):
        await queue.publish(lease)
    await queue.release(lease)
    await planner.plan()
    again = await queue.lease("w", 60.0, ["n"])
    assert (again.generation, again.source_generation) == (4, 3)
    async with catalog.transaction(principal) as tx:
        await tx.reindexes.rollback(reindex.id)
    with pytest.raises(LostLease):
        await queue.heartbeat(again, 60.0)


async def test_switches_and_rollbacks_run_into_publishes_and_deletes_without_a_deadlock(catalog, queue, planner, principal, superuser):
    documents = [await add_ready(catalog, queue, principal) for _ in range(12)]

    async def leads() -> None:
        for switch in (*Switch, *Switch):
            reindex = await begin(catalog, principal, switch=switch)
            await superuser.execute("UPDATE docray.reindexes SET created_at = created_at - interval '10 s'")
            await build(queue, planner)
            with contextlib.suppress(ReindexNotBuilt):
                async with catalog.transaction(principal) as tx:
                    await tx.reindexes.switch(reindex.id, accept_failures=True)
            async with catalog.transaction(principal) as tx:
                await tx.reindexes.rollback(reindex.id)

    async def disturbs() -> None:
        for document in documents[:6]:
            async with catalog.transaction(principal) as tx:
                await tx.documents.insert_generation(document.id, sha256="1" * 64, size_bytes=1, filename=None)
            if lease := await queue.lease("disturber", 60.0):
                with contextlib.suppress(LostLease):
                    await take_to(queue, lease, State.READY)
            async with catalog.transaction(principal) as tx:
                await tx.documents.mark_deleting(documents[11 - documents.index(document)].id)
            await purge_all(queue)

    await asyncio.gather(leads(), disturbs())
    # A purge waits for the lease of a worker that was overtaken by it and does not know yet: it runs out.
    await superuser.execute("UPDATE docray.generations SET lease_until = clock_timestamp() WHERE lease_until IS NOT NULL")
    await purge_all(queue)
    rows = await superuser.fetch("SELECT d.state, d.live_generation, (SELECT array_agg(g.generation) FROM docray.generations g"
                                 " WHERE g.tenant_id = d.tenant_id AND g.document_id = d.id) AS there FROM docray.documents d")  # fmt: skip
    assert [(row["state"], row["there"]) for row in rows] == [("ready", [row["live_generation"]]) for row in rows]
    assert len(rows) == 6
