"""What the record of bulk runs promises: one driver at a time, every file once, nothing that ended is begun again."""

import pytest
from catalog_factories import add_document, add_ready, take_to

from docray.domain.bulk import Ended, FileState, RunState, SourceFile
from docray.domain.catalog import Paging
from docray.domain.documents import State
from docray.domain.errors import LostLease, NotFound, RunInProgress
from docray.domain.ids import new_id

READY = Ended(state=FileState.READY, pages=3, chunks=7, size_bytes=10)


def a_file(name: str, etag: str = "1") -> SourceFile:
    return SourceFile(uri=f"/pdfs/{name}.pdf", size_bytes=10, etag=etag)


async def begin(catalog, principal, *names, source="/pdfs", etag="1", lease_s=60.0):
    """A driven run of these files."""
    async with catalog.transaction(principal) as tx:
        run_id = new_id()
        await tx.bulk_runs.insert(run_id, source, None)
        driver = await tx.bulk_runs.drive(run_id, lease_s)
        await tx.bulk_runs.add_files(driver, [a_file(name, etag) for name in names])
    return driver


async def now(catalog, principal, driver):
    async with catalog.transaction(principal) as tx:
        return await tx.bulk_runs.get(driver.run_id)


async def end(catalog, principal, driver, n, ended):
    async with catalog.transaction(principal) as tx:
        await tx.bulk_runs.end(driver, n, ended)


async def waiting(catalog, principal, driver, first=0, last=100):
    async with catalog.transaction(principal) as tx:
        return [(each.n, each.file.uri) for each in await tx.bulk_runs.waiting(driver, first, last)]


async def test_files_are_numbered_and_wait_until_they_end(catalog, principal):
    driver = await begin(catalog, principal, "a", "b", "c")
    assert await waiting(catalog, principal, driver) == [(0, "/pdfs/a.pdf"), (1, "/pdfs/b.pdf"), (2, "/pdfs/c.pdf")]
    assert await waiting(catalog, principal, driver, 1, 2) == [(1, "/pdfs/b.pdf")]
    await end(catalog, principal, driver, 1, READY)
    await end(catalog, principal, driver, 2, Ended(state=FileState.FAILED, failure=("damaged", "It is damaged.")))
    run = await now(catalog, principal, driver)
    assert (run.files, run.ended, run.ready, run.failed, run.pages, run.chunks) == (3, 2, 1, 1, 3, 7)
    assert await waiting(catalog, principal, driver) == [(0, "/pdfs/a.pdf")]
    async with catalog.transaction(principal) as tx:
        assert await tx.bulk_runs.failures(driver.run_id, 10) == [("/pdfs/c.pdf", "damaged", "It is damaged.")]
        assert await tx.bulk_runs.failure_counts(driver.run_id) == {"damaged": 1}


async def test_a_file_ends_once_and_is_listed_once(catalog, principal):
    driver = await begin(catalog, principal, "a")
    async with catalog.transaction(principal) as tx:
        await tx.bulk_runs.add_files(driver, [a_file("a"), a_file("b")])
    await end(catalog, principal, driver, 0, READY)
    await end(catalog, principal, driver, 0, Ended(state=FileState.FAILED, failure=("damaged", "")))
    run = await now(catalog, principal, driver)
    assert (run.files, run.ready, run.failed) == (2, 1, 0)


async def test_a_run_has_one_driver_and_one_that_died_is_followed(catalog, principal, superuser):
    first = await begin(catalog, principal, "a")
    async with catalog.transaction(principal) as tx:
        with pytest.raises(RunInProgress):
            await tx.bulk_runs.drive(first.run_id, 60)
    await superuser.execute("UPDATE docray.bulk_runs SET lease_until = now() - interval '1 s'")
    assert (await now(catalog, principal, first)).state is RunState.INTERRUPTED
    async with catalog.transaction(principal) as tx:
        assert (await tx.bulk_runs.unfinished("/pdfs", None)).id == first.run_id
        second = await tx.bulk_runs.drive(first.run_id, 60)
    assert second.fence > first.fence
    for late in (
        lambda tx: tx.bulk_runs.keep(first, 60, 1.0), lambda tx: tx.bulk_runs.end(first, 0, READY), lambda tx: tx.bulk_runs.finish(first),
        lambda tx: tx.bulk_runs.add_files(first, [a_file("z")]), lambda tx: tx.bulk_runs.waiting(first, 0, 9), lambda tx: tx.bulk_runs.settle(first),
    ):  # fmt: skip
        with pytest.raises(LostLease):
            async with catalog.transaction(principal) as tx:
                await late(tx)
    await end(catalog, principal, second, 0, READY)
    async with catalog.transaction(principal) as tx:
        assert (await tx.bulk_runs.finish(second, ("internal", "It broke."))).state is RunState.FAILED
        assert (await tx.bulk_runs.unfinished("/pdfs", None)).id == first.run_id
        third = await tx.bulk_runs.drive(first.run_id, 60)
        assert (await tx.bulk_runs.finish(third)).state is RunState.DONE
        assert await tx.bulk_runs.unfinished("/pdfs", None) is None


async def test_what_an_earlier_run_ended_is_known_unless_it_changed_or_its_document_is_gone(catalog, queue, principal):
    kept, gone = [await add_ready(catalog, queue, principal) for _ in range(2)]
    first = await begin(catalog, principal, "kept", "gone", "broken", "unlucky")
    for n, ended in enumerate((
        Ended(state=FileState.READY, document_id=kept.id), Ended(state=FileState.DUPLICATE, document_id=gone.id),
        Ended(state=FileState.FAILED, failure=("encrypted", "Locked.")), Ended(state=FileState.FAILED, failure=("dependency", "Later.")),
    )):  # fmt: skip
        await end(catalog, principal, first, n, ended)
    async with catalog.transaction(principal) as tx:
        await tx.documents.mark_deleting(gone.id)
    second = await begin(catalog, principal, "kept", "gone", "broken", "unlucky", "new")
    assert [uri for _, uri in await waiting(catalog, principal, second)] == ["/pdfs/gone.pdf", "/pdfs/unlucky.pdf", "/pdfs/new.pdf"]
    assert (await now(catalog, principal, second)).known == 2
    changed = await begin(catalog, principal, "kept", etag="2")
    assert len(await waiting(catalog, principal, changed)) == 1


async def test_a_taken_document_is_leased_and_nobody_else_gets_it(catalog, queue, principal, superuser):
    document = await add_document(catalog, principal)
    driver = await begin(catalog, principal, "a")
    async with catalog.transaction(principal) as tx:
        lease = await tx.bulk_runs.take(driver, 0, document.id, 60)
    assert (lease.document_id, lease.state) == (document.id, State.QUEUED)
    assert await queue.lease("worker", 60) is None
    async with catalog.transaction(principal) as tx:  # the run itself takes it again, and the lease before is void
        again = await tx.bulk_runs.take(driver, 0, document.id, 60)
    with pytest.raises(LostLease):
        await queue.heartbeat(lease, 60)
    await take_to(queue, again, State.READY)
    async with catalog.transaction(principal) as tx:
        assert await tx.bulk_runs.take(driver, 0, document.id, 60) is None


async def test_a_worker_takes_up_what_a_run_dropped_and_the_run_is_told(catalog, queue, principal, superuser):
    documents = [await add_document(catalog, principal) for _ in range(3)]
    driver = await begin(catalog, principal, "a", "b", "c")
    for n, document in enumerate(documents):
        async with catalog.transaction(principal) as tx:
            await tx.bulk_runs.take(driver, n, document.id, 60)
    await superuser.execute("UPDATE docray.generations SET lease_until = now() - interval '1 s'")
    await take_to(queue, await queue.lease("worker", 60), State.READY)
    async with catalog.transaction(principal) as tx:
        await tx.documents.mark_deleting(documents[2].id)
    async with catalog.transaction(principal) as tx:
        assert await tx.bulk_runs.settle(driver) == 2
        assert await tx.bulk_runs.settle(driver) == 0
        run = await tx.bulk_runs.get(driver.run_id)
        assert (run.ready, run.failed) == (1, 1)
        assert await tx.bulk_runs.failure_counts(driver.run_id) == {"deleted": 1}


async def test_runs_of_another_tenant_are_absent(catalog, principal, other_principal):
    driver = await begin(catalog, principal, "a")
    async with catalog.transaction(other_principal) as tx:
        with pytest.raises(NotFound):
            await tx.bulk_runs.get(driver.run_id)
        with pytest.raises(NotFound):
            await tx.bulk_runs.drive(driver.run_id, 60)
        assert list((await tx.bulk_runs.list(Paging())).items) == []
        assert await tx.bulk_runs.unfinished("/pdfs", None) is None
    theirs = await begin(catalog, other_principal, "a")
    assert len(await waiting(catalog, other_principal, theirs)) == 1


async def test_runs_are_listed_newest_first(catalog, principal):
    drivers = [await begin(catalog, principal, "a") for _ in range(3)]
    async with catalog.transaction(principal) as tx:
        first = await tx.bulk_runs.list(Paging(limit=2))
        rest = await tx.bulk_runs.list(Paging(limit=2, after=first.next_cursor))
    assert [run.id for run in (*first.items, *rest.items)] == [driver.run_id for driver in reversed(drivers)]


async def test_the_driver_sets_the_pace_and_a_new_one_begins_at_full(catalog, principal):
    driver = await begin(catalog, principal, "a", lease_s=0.0)
    assert (await now(catalog, principal, driver)).pace == 1
    async with catalog.transaction(principal) as tx:
        await tx.bulk_runs.set_pace(driver, 0.25)
    assert (await now(catalog, principal, driver)).pace == 0.25
    async with catalog.transaction(principal) as tx:
        later = await tx.bulk_runs.drive(driver.run_id, 60.0)
    assert (await now(catalog, principal, later)).pace == 1
    with pytest.raises(LostLease):
        async with catalog.transaction(principal) as tx:
            await tx.bulk_runs.set_pace(driver, 0.5)
