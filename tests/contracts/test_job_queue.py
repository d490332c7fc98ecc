"""What every job queue promises: leases with fences, fair turns, compare-and-set records, purges that wait."""

import asyncio
from collections import Counter

import pytest
from catalog_factories import a_document, add_document, add_ready, chunks_of, holds, purge_all, some_pages, take_to

from docray.domain.documents import Failure, FailureCode, Progress, Stage, State
from docray.domain.errors import LostLease, NotFound
from docray.domain.ids import blob_key
from docray.stores.postgres_idempotency import PostgresIdempotency

CRASH = Failure.of(FailureCode.PARSER_CRASH)


async def expire(superuser, table="generations"):
    """Every lease has run out: the clock is the database's, so its rows are moved instead of waiting."""
    await superuser.execute(f"UPDATE docray.{table} SET lease_until = clock_timestamp() - interval '1 s' WHERE lease_until IS NOT NULL")


async def now_of(catalog, principal, document):
    async with catalog.transaction(principal) as tx:
        return await tx.documents.get(document.id)


async def delete(catalog, principal, document):
    async with catalog.transaction(principal) as tx:
        await tx.documents.mark_deleting(document.id)


async def test_a_job_has_one_holder_at_a_time(catalog, queue, principal):
    made = {(await add_document(catalog, principal)).id for _ in range(10)}
    leases = await asyncio.gather(*(queue.lease(f"w{i}", 60) for i in range(14)))
    held = [lease.document_id for lease in leases if lease]
    assert sorted(held) == sorted(made)
    assert await queue.lease("late", 60) is None


async def test_a_lease_says_what_to_do(catalog, queue, principal):
    document = await add_document(catalog, principal, filename="a.pdf", title="T", size_bytes=12)
    lease = await queue.lease("w", 60)
    assert (lease.tenant_id, lease.document_id, lease.generation, lease.state) == (principal.tenant_id, document.id, 1, State.QUEUED)
    assert (lease.fence, lease.attempt, lease.filename, lease.title, lease.size_bytes) == (1, 1, "a.pdf", "T", 12)
    assert lease.blob_key == blob_key(principal.tenant_id, document.id, 1)


async def test_tenants_take_turns(catalog, queue, new_tenant):
    many, few = await new_tenant(), await new_tenant()
    for _ in range(20):
        await add_document(catalog, many)
    for _ in range(3):
        await add_document(catalog, few)
    order = [(await queue.lease("w", 60)).tenant_id for _ in range(8)]
    assert Counter(order[:6]) == {many.tenant_id: 3, few.tenant_id: 3}
    assert order[6:] == [many.tenant_id] * 2


async def test_jobs_of_a_tenant_come_in_order(catalog, queue, principal):
    made = [(await add_document(catalog, principal)).id for _ in range(4)]
    assert [(await queue.lease("w", 60)).document_id for _ in range(4)] == made


async def test_an_expired_lease_is_taken_over_and_its_former_holder_records_nothing(catalog, queue, principal, superuser):
    await add_document(catalog, principal)
    first = await queue.lease("w1", 60)
    assert await queue.lease("w2", 60) is None
    await expire(superuser)
    second = await queue.lease("w2", 60)
    assert second.fence > first.fence
    pages = some_pages()
    calls = [
        queue.heartbeat(first, 60), queue.progress(first, Stage.EXTRACT, 1, 2), queue.record_parsed(first, pages, chunks_of(pages), None),
        queue.record_state(first, State.PARSED, State.EMBEDDED), queue.publish(first), queue.fail(first, CRASH), queue.retry_later(first, 0),
    ]  # fmt: skip
    for call in calls:
        with pytest.raises(LostLease):
            await call
    await queue.release(first)
    assert await holds(queue, second)


async def test_a_heartbeat_keeps_the_lease(catalog, queue, principal, superuser):
    await add_document(catalog, principal)
    lease = await queue.lease("w", 60)
    await expire(superuser)
    await queue.heartbeat(lease, 60)
    assert await queue.lease("other", 60) is None


async def test_the_sixth_takeover_fails_the_generation_as_a_parser_crash(catalog, queue, principal, superuser):
    document = await add_document(catalog, principal)
    after = await add_document(catalog, principal)
    for _ in range(6):
        assert (await queue.lease("w", 60)).document_id == document.id
        await expire(superuser)
    assert (await queue.lease("w", 60)).document_id == after.id
    failed = await now_of(catalog, principal, document)
    assert (failed.state, failed.failure) == (State.FAILED, CRASH)
    assert failed.version > document.version
    async with catalog.transaction(principal) as tx:
        await tx.documents.requeue(document.id)
    assert (await queue.lease("w", 60)).document_id == document.id


async def test_jobs_given_back_are_no_takeovers(catalog, queue, principal):
    document = await add_document(catalog, principal)
    for _ in range(10):
        lease = await queue.lease("w", 60)
        await queue.release(lease)
    assert (await queue.lease("w", 60)).attempt == 1
    assert (await now_of(catalog, principal, document)).state is State.QUEUED


async def test_a_transient_error_is_tried_again_after_its_delay(catalog, queue, principal, superuser):
    await add_document(catalog, principal)
    await queue.retry_later(await queue.lease("w", 60), 30.0)
    assert await queue.lease("w", 60) is None
    await superuser.execute("UPDATE docray.generations SET next_try_at = next_try_at - interval '30 s'")
    again = await queue.lease("w", 60)
    assert again.attempt == 2
    await take_to(queue, again, State.PARSED)
    await queue.release(again)
    assert (await queue.lease("w", 60)).attempt == 1


async def test_progress_is_seen_by_readers_and_never_goes_back(catalog, queue, principal):
    document = await add_document(catalog, principal)
    lease = await queue.lease("w", 60)
    await queue.progress(lease, Stage.EXTRACT, 3, 12)
    seen = await now_of(catalog, principal, document)
    assert seen.progress == Progress(Stage.EXTRACT, 3, 12)
    assert seen.version == document.version + 1
    await queue.progress(lease, Stage.EXTRACT, 3, 12)
    assert (await now_of(catalog, principal, document)).version == seen.version
    await queue.progress(lease, Stage.EMBED, 0, None)
    assert (await now_of(catalog, principal, document)).progress == Progress(Stage.EMBED, 3, 12)


async def test_a_document_goes_through_its_states_to_ready(catalog, queue, principal, superuser):
    document = await add_document(catalog, principal)
    lease = await queue.lease("w", 60)
    pages = some_pages(3)
    versions = [document.version]
    for state in (State.PARSED, State.EMBEDDED, State.INDEXED, State.READY):
        match state:
            case State.PARSED:
                await queue.record_parsed(lease, pages, chunks_of(pages), "Found title")
                assert list(await queue.chunks(lease)) == chunks_of(pages)
            case State.EMBEDDED:
                await queue.record_state(lease, State.PARSED, state, embedding_model="mini", dimension=384)
            case State.INDEXED:
                await queue.record_state(lease, State.EMBEDDED, state)
            case State.READY:
                await queue.publish(lease)
        now = await now_of(catalog, principal, document)
        assert now.state is state
        versions.append(now.version)
    assert versions == sorted(set(versions))
    assert (now.page_count, now.chunk_count, now.title, now.progress) == (3, 3, "Found title", Progress(Stage.DONE, 3, 3))
    assert now.ready_at >= now.created_at
    row = await superuser.fetchrow("SELECT embedding_model, dimension, lease_until FROM docray.generations")
    assert tuple(row) == ("mini", 384, None)
    assert await superuser.fetchval("SELECT pages FROM docray.usage") == 3
    assert [r["action"] for r in await superuser.fetch("SELECT action FROM docray.audit_log")] == ["document.published"]
    assert await queue.lease("w", 60) is None


async def test_an_own_title_is_kept(catalog, queue, principal):
    document = await add_document(catalog, principal, title="Mine")
    lease = await queue.lease("w", 60)
    await queue.record_parsed(lease, some_pages(), chunks_of(some_pages()), "Found")
    await queue.record_state(lease, State.PARSED, State.EMBEDDED)
    await queue.record_state(lease, State.EMBEDDED, State.INDEXED)
    await queue.publish(lease)
    assert (await now_of(catalog, principal, document)).title == "Mine"


async def test_states_are_compared_before_they_are_set(catalog, queue, principal):
    await add_document(catalog, principal)
    lease = await queue.lease("w", 60)
    for before, after in ((State.PARSED, State.EMBEDDED), (State.EMBEDDED, State.INDEXED)):
        with pytest.raises(LostLease):
            await queue.record_state(lease, before, after)
    with pytest.raises(LostLease):
        await queue.publish(lease)
    with pytest.raises(ValueError, match="never followed"):
        await queue.record_state(lease, State.QUEUED, State.READY)
    await take_to(queue, lease, State.PARSED)
    with pytest.raises(LostLease):
        await take_to(queue, lease, State.PARSED)


async def test_publishing_raises_the_epoch_and_purges_the_generation_before(catalog, queue, principal, superuser):
    document = await add_ready(catalog, queue, principal)
    assert await queue.lease_purge("p", 60) is None
    async with catalog.transaction(principal) as tx:
        epoch = await tx.corpus_epoch()
        await tx.documents.insert_generation(document.id, sha256="1" * 64, size_bytes=1, filename=None)
    await take_to(queue, await queue.lease("w", 60), State.READY)
    async with catalog.transaction(principal) as tx:
        assert await tx.corpus_epoch() == epoch + 1
    purge = await queue.lease_purge("p", 60)
    assert (purge.document_id, purge.generation) == (document.id, 1)
    assert list(await queue.blob_keys_of(purge)) == [blob_key(principal.tenant_id, document.id, 1)]
    await queue.finish_purge(purge)
    assert [tuple(r) for r in await superuser.fetch("SELECT DISTINCT generation FROM docray.chunks")] == [(2,)]
    assert [tuple(r) for r in await superuser.fetch("SELECT generation FROM docray.generations")] == [(2,)]
    assert (await now_of(catalog, principal, document)).state is State.READY


async def test_delete_wins_over_every_record_of_a_worker(catalog, queue, principal):
    for reached in (None, State.PARSED, State.EMBEDDED, State.INDEXED):
        document = await add_document(catalog, principal)
        lease = await queue.lease("w", 60)
        if reached:
            await take_to(queue, lease, reached)
        await delete(catalog, principal, document)
        assert not await holds(queue, lease)
        for call in (queue.heartbeat(lease, 60), queue.publish(lease), queue.fail(lease, CRASH), queue.retry_later(lease, 1)):
            with pytest.raises(LostLease):
                await call
        with pytest.raises(LostLease):
            await take_to(queue, lease, State.PARSED)
        with pytest.raises(NotFound):
            await now_of(catalog, principal, document)


async def test_a_purge_waits_until_the_ingest_lease_has_run_out_or_is_given_back(catalog, queue, principal, superuser):
    first, second = [await add_document(catalog, principal) for _ in range(2)]
    leases = [await queue.lease("w", 60), await queue.lease("w", 60)]
    for document in (first, second):
        await delete(catalog, principal, document)
    assert await queue.lease_purge("p", 60) is None
    await queue.release(leases[0])
    assert (await queue.lease_purge("p", 60)).document_id == first.id
    assert await queue.lease_purge("p", 60) is None
    await superuser.execute("UPDATE docray.generations SET lease_until = clock_timestamp() - interval '1 s'")
    assert (await queue.lease_purge("p", 60)).document_id == second.id


async def test_a_purge_has_one_holder_and_an_expired_one_is_taken_over(catalog, queue, principal, superuser):
    await delete(catalog, principal, await add_document(catalog, principal))
    first = await queue.lease_purge("p1", 60)
    assert await queue.lease_purge("p2", 60) is None
    await expire(superuser, "purges")
    second = await queue.lease_purge("p2", 60)
    with pytest.raises(LostLease):
        await queue.finish_purge(first)
    await queue.finish_purge(second)
    with pytest.raises(LostLease):
        await queue.finish_purge(second)


async def test_a_failed_generation_keeps_its_blob_and_loses_the_rest(catalog, queue, principal, superuser):
    document = await add_document(catalog, principal)
    lease = await queue.lease("w", 60)
    await take_to(queue, lease, State.PARSED)
    await queue.fail(lease, Failure.of(FailureCode.DEPENDENCY))
    assert (await now_of(catalog, principal, document)).failure.retryable
    async with catalog.transaction(principal) as tx:
        await tx.documents.requeue(document.id)
    assert await queue.lease("w", 60) is None  # not before what the failed try wrote is gone
    purge = await queue.lease_purge("p", 60)
    assert (purge.generation, list(await queue.blob_keys_of(purge))) == (1, [])
    await queue.finish_purge(purge)
    assert await superuser.fetchval("SELECT count(*) FROM docray.chunks") == 0
    assert await queue.known_blobs([blob_key(principal.tenant_id, document.id, 1)]) == {blob_key(principal.tenant_id, document.id, 1)}
    await take_to(queue, await queue.lease("w", 60), State.READY)


async def test_a_file_that_was_never_read_needs_no_purge(catalog, queue, principal):
    await add_document(catalog, principal)
    await queue.fail(await queue.lease("w", 60), CRASH)
    assert await queue.lease_purge("p", 60) is None


async def test_replacing_a_failed_file_purges_its_blob_even_when_a_purge_was_under_way(catalog, queue, principal):
    document = await add_document(catalog, principal)
    lease = await queue.lease("w", 60)
    await take_to(queue, lease, State.PARSED)
    await queue.fail(lease, CRASH)
    early = await queue.lease_purge("p1", 60)
    assert list(await queue.blob_keys_of(early)) == []
    async with catalog.transaction(principal) as tx:
        await tx.documents.insert_generation(document.id, sha256="1" * 64, size_bytes=1, filename=None)
    with pytest.raises(LostLease):
        await queue.finish_purge(early)
    late = await queue.lease_purge("p2", 60)
    assert list(await queue.blob_keys_of(late)) == [blob_key(principal.tenant_id, document.id, 1)]
    await queue.finish_purge(late)
    assert (await now_of(catalog, principal, document)).generation == 2


async def test_a_superseded_generation_is_purged_and_its_worker_loses_the_lease(catalog, queue, principal):
    document = await add_ready(catalog, queue, principal)
    for digit in "12":
        async with catalog.transaction(principal) as tx:
            await tx.documents.insert_generation(document.id, sha256=digit * 64, size_bytes=1, filename=None)
        if digit == "1":
            lease = await queue.lease("w", 60)
            await take_to(queue, lease, State.INDEXED)
    with pytest.raises(LostLease):
        await queue.publish(lease)
    await queue.release(lease)
    assert await purge_all(queue) == 1
    await take_to(queue, await queue.lease("w", 60), State.READY)
    assert (await now_of(catalog, principal, document)).generation == 3


async def test_blobs_of_every_tenant_are_known_by_their_rows(catalog, queue, principal, other_principal):
    mine, theirs = await add_document(catalog, principal), await add_document(catalog, other_principal)
    keys = {blob_key(principal.tenant_id, mine.id, 1), blob_key(other_principal.tenant_id, theirs.id, 1)}
    assert await queue.known_blobs([*keys, "nobody/1.pdf"]) == keys


async def test_upkeep_makes_partitions_and_forgets_old_keys(catalog, queue, database, principal, superuser):
    store = PostgresIdempotency(database)
    await store.claim(principal, "/v1/x", "old", b"f")
    await superuser.execute("UPDATE docray.idempotency_keys SET created_at = now() - interval '25 h'")
    await store.claim(principal, "/v1/x", "new", b"f")
    await superuser.execute("DROP TABLE docray.usage_" + (await superuser.fetchval("SELECT to_char(now() AT TIME ZONE 'UTC', 'YYYY_MM')")))
    await queue.maintain()
    await queue.maintain()
    assert [r["key"] for r in await superuser.fetch("SELECT key FROM docray.idempotency_keys")] == ["new"]
    partitions = await superuser.fetchval(
        "SELECT count(*) FROM pg_inherits WHERE inhparent IN ('docray.usage'::regclass, 'docray.audit_log'::regclass)"
    )
    assert partitions == 2 * 5


async def test_a_long_document_is_recorded_in_one_piece(catalog, queue, principal):
    document = await add_document(catalog, principal)
    lease = await queue.lease("w", 60)
    pages = some_pages(1200, words=40)
    await queue.record_parsed(lease, pages, chunks_of(pages), None)
    stored = await queue.chunks(lease)
    assert [chunk.n for chunk in stored] == list(range(1200))
    assert stored[777] == chunks_of(pages)[777]
    assert (await now_of(catalog, principal, document)).state is State.PARSED


async def test_many_workers_publish_many_documents_once_each(catalog, queue, new_tenant, superuser):
    principals = [await new_tenant() for _ in range(3)]
    for principal in principals:
        async with catalog.transaction(principal) as tx:
            for _ in range(5):
                await tx.documents.insert(a_document())

    async def work(name):
        while lease := await queue.lease(name, 60):
            await take_to(queue, lease, State.READY, some_pages(1))

    await asyncio.gather(*(work(f"w{i}") for i in range(4)))
    assert await superuser.fetchval("SELECT count(*) FROM docray.audit_log WHERE action = 'document.published'") == 15
    epochs = [row["corpus_epoch"] for row in await superuser.fetch("SELECT corpus_epoch FROM docray.tenants")]
    assert epochs == [5, 5, 5]
