"""A reindex on the real queue, index and catalogue, with two models: nothing of a search is lost, and every way back leads back."""

import asyncio
from dataclasses import replace

import pytest
from reindex_bench import NEW, OLD, Bench

from docray.answering.retrieval import SearchService
from docray.domain.documents import State
from docray.domain.errors import InvalidField, NotFound, ReindexEnded, ReindexNotBuilt, ReindexNotSwitched, ReindexUnderWay, Unavailable
from docray.domain.ids import new_id
from docray.domain.questions import SearchMode, SearchRequest
from docray.domain.reindexes import ReindexState, Switch
from docray.ingestion.chunking import chunker_name
from docray.stores.pgvector_index import PgVectorIndex
from tests import oracle

TEXTS = (
    "The committee approved the purchase of zinc roofing for the north library.\nThe roof was finished in spring.",
    "A violin maker in the harbour district repairs instruments on Thursdays.",
    "Glaciers in the valley lost four metres of ice during the warm summer.",
)
QUERIES = ("zinc roofing for the library", "violin maker repairs instruments", "glaciers lost ice", "the harbour in spring")


@pytest.fixture
def bench(catalog, queue, database, worker_database, superuser, principal, tmp_path) -> Bench:
    return Bench(
        catalog=catalog, queue=queue, database=database, worker_database=worker_database, superuser=superuser, principal=principal,
        folder=tmp_path / "blobs",
    )  # fmt: skip


@pytest.fixture
async def documents(bench):
    return [await bench.add(text) for text in TEXTS]


async def seen(bench) -> dict[tuple[str, SearchMode], list]:
    """What every query shows in every mode; by meaning with scores. How much a word tells is counted over both forms while there are two, so
    the scores of the others move a little."""
    found = {(query, mode): await bench.shown(query, mode) for query in QUERIES for mode in SearchMode}
    return {(query, mode): hits if mode is SearchMode.DENSE else [hit[:3] for hit in hits] for (query, mode), hits in found.items()}


def generations(found: dict[tuple[str, SearchMode], list]) -> set[int]:
    """Which generations are shown."""
    return {hit[1] for hits in found.values() for hit in hits}


async def counts(bench, reindex) -> tuple[int, ...]:
    found = (await bench.do("get", reindex)).counts
    return found.total, found.done, found.built, found.failed, found.waiting


async def test_from_start_to_finish_searches_use_the_old_model_then_the_new_one(bench, documents):
    before = await seen(bench)
    read, usage, listed = bench.parser.read, await bench.rows("usage"), [await bench.now(document.id) for document in documents]
    reindex = await bench.start()
    assert await counts(bench, reindex) == (3, 0, 0, 0, 3)
    await bench.build()
    assert await counts(bench, reindex) == (3, 0, 3, 0, 0)
    assert await seen(bench) == before
    assert [await bench.now(document.id) for document in documents] == listed  # not even a version
    assert bench.parser.read == read
    assert await bench.rows("usage") == usage
    assert len(await bench.keys()) == 3

    switched = await bench.do("switch", reindex)
    assert (switched.state, switched.counts.done) == (ReindexState.SWITCHED, 3)
    after = await seen(bench)
    assert generations(after) == {2}
    for query, document in zip(QUERIES, documents, strict=False):
        results = await bench.search(query)
        assert (results.hits[0].document.id, results.degraded) == (document.id, ())
        want = (await bench.new.embed_queries([query])) @ (await bench.new.embed_passages([f"{document.filename[:-4]}\n{results.hits[0].text}"])).T
        assert results.hits[0].dense == pytest.approx(float(want[0, 0]), abs=2e-3)
    assert {await bench.superuser.fetchval("SELECT embedding_model FROM docray.tenants WHERE tenant_id = $1", bench.principal.tenant_id)} == {NEW}

    await bench.do("finish", reindex)
    await bench.purge()
    assert set(await bench.vectors()) == {(document.id, 2) for document in documents}
    assert {row["generation"] for row in await bench.superuser.fetch("SELECT generation FROM docray.generations")} == {2}
    assert {row["generation"] for row in await bench.superuser.fetch("SELECT generation FROM docray.pages")} == {2}
    assert await seen(bench) == after
    assert len(await bench.keys()) == 3  # the blobs of what was uploaded, though its first generation is gone
    async with bench.catalog.transaction(bench.principal) as tx:
        content = await tx.documents.content(documents[0].id)
        assert (await tx.documents.page(documents[0].id, 2)).text == "The roof was finished in spring."
    assert (await bench.blobs.open(content.blob_key)).read_text() == TEXTS[0]


async def test_a_rollback_before_and_after_the_switch_shows_what_was_shown_before(bench, documents):
    before = await seen(bench)
    for switches in (False, True):
        reindex = await bench.start()
        await bench.build()
        if switches:
            await bench.do("switch", reindex)
            assert await seen(bench) != before
        rolled = await bench.do("rollback", reindex)
        assert (rolled.state, rolled.counts) == (ReindexState.ROLLED_BACK, None)
        assert await seen(bench) == before
        await bench.purge()
        assert await seen(bench) == before
        assert set(await bench.vectors()) == {(document.id, 1) for document in documents}
    assert await bench.rows("generations") == 3
    with pytest.raises(ReindexEnded):
        await bench.do("switch", reindex)


async def test_a_switch_waits_until_everything_is_built_and_a_finish_until_it_is_switched(bench, documents):
    reindex = await bench.start()
    await bench.worker.plan_once()
    await bench.worker.work_once()
    with pytest.raises(ReindexNotBuilt, match="2 of 3"):
        await bench.do("switch", reindex)
    with pytest.raises(ReindexNotSwitched):
        await bench.do("finish", reindex)
    with pytest.raises(ReindexUnderWay):
        await bench.start()
    await bench.build()
    await bench.superuser.execute("UPDATE docray.reindexes SET created_at = clock_timestamp()")
    with pytest.raises(ReindexNotBuilt, match="a moment ago"):
        await bench.do("switch", reindex)


async def test_uploads_go_before_what_a_reindex_builds_and_are_in_the_new_form_too(bench, documents):
    reindex = await bench.start()
    await bench.worker.plan_once()
    late = await bench.add("The tram line will be closed until the bridge has been repaired.")
    assert (late.state, late.generation) == (State.READY, 1)
    assert (await bench.shown("tram line closed bridge"))[0][0] == late.id  # at once, by the model in use
    await bench.build()
    assert await counts(bench, reindex) == (4, 1, 3, 0, 0)
    await bench.do("switch", reindex)
    assert (await bench.shown("tram line closed bridge"))[0][:2] == (late.id, 1)
    assert (await bench.search("tram line closed bridge")).hits[0].dense > 0.5
    after = await bench.add("Telescopes on the island recorded a comet with two tails.")
    await bench.do("rollback", reindex)
    for query, document in (("tram line closed bridge", late), ("telescopes recorded a comet", after)):
        found = (await bench.search(query)).hits[0]
        assert found.document.id == document.id
        assert found.dense > 0.5  # by the old model again, for what came meanwhile has both
    await bench.purge()
    assert (await bench.vectors())[(after.id, 1)] == 1  # the vectors of the model that went are gone
    assert await bench.superuser.fetchval("SELECT models FROM docray.generations WHERE document_id = $1", after.id) == [OLD]


async def test_a_document_that_is_replaced_meanwhile_is_built_anew_from_its_new_content(bench, documents):
    reindex = await bench.start()
    await bench.build()
    assert (documents[0].id, 2) in await bench.vectors()
    await bench.replace(documents[0].id, "The bakery received an award for its rye bread.")
    assert (await bench.now(documents[0].id)).replacement.generation == 3
    await bench.build(bench.a_worker(models=1))  # which knows nothing of the new model: the reindex has to do it again
    assert (await bench.now(documents[0].id)).generation == 3
    assert await counts(bench, reindex) == (3, 0, 2, 0, 1)
    await bench.build()
    await bench.purge()
    assert set(await bench.vectors()) == {(documents[0].id, 3), (documents[0].id, 4)} | {(one.id, n) for one in documents[1:] for n in (1, 2)}
    await bench.do("switch", reindex)
    assert (await bench.shown("bakery award rye bread"))[0][:2] == (documents[0].id, 4)
    assert all(hit[0] != documents[0].id or "bakery" in hit[2] for hit in await bench.shown("zinc roofing library"))


async def test_a_replacement_that_fails_leaves_the_reindexed_content_and_is_still_told(bench, documents):
    reindex = await bench.start()
    await bench.replace(documents[0].id, "")
    await bench.build()
    assert (await bench.now(documents[0].id)).replacement.state is State.FAILED
    await bench.do("switch", reindex)
    now = await bench.now(documents[0].id)
    assert (now.generation, now.replacement.generation, now.replacement.state, now.sha256) == (3, 2, State.FAILED, documents[0].sha256)
    async with bench.catalog.transaction(bench.principal) as tx:
        await tx.documents.requeue(documents[0].id)
    assert (await bench.now(documents[0].id)).replacement.state is State.QUEUED


@pytest.mark.parametrize("when", ["queued", "built", "switched"])
async def test_delete_wins_and_takes_both_generations(bench, documents, when):
    reindex = await bench.start()
    await bench.worker.plan_once()
    if when != "queued":
        await bench.build()
    if when == "switched":
        await bench.do("switch", reindex)
    await bench.delete(documents[0].id)
    await bench.build()
    assert await counts(bench, reindex) == ((2, 2, 0, 0, 0) if when == "switched" else (2, 0, 2, 0, 0))
    if when != "switched":
        await bench.do("switch", reindex)
    await bench.purge()
    assert documents[0].id not in {document for document, _ in await bench.vectors()}
    await bench.do("rollback", reindex)
    with pytest.raises(NotFound):
        await bench.now(documents[0].id)
    await bench.purge()
    assert await bench.rows("documents") == 2
    assert len(await bench.keys()) == 2


async def test_workers_that_are_killed_at_any_step_lose_nothing(bench, documents, superuser):
    before = await seen(bench)
    reindex = await bench.start()
    await bench.worker.plan_once()
    reached = set()
    for step in ("record_parsed", "record_state", "progress", "publish"):
        victim, real = bench.a_worker("victim"), getattr(bench.queue, step)

        async def dies(*arguments, real=real, **options):
            await real(*arguments, **options)
            raise asyncio.CancelledError

        setattr(bench.queue, step, dies)
        bench.queue.release, kept = lambda lease: asyncio.sleep(0), bench.queue.release
        with pytest.raises(asyncio.CancelledError):
            await victim.work_once()
        setattr(bench.queue, step, real)
        bench.queue.release = kept
        reached |= {row["state"] for row in await superuser.fetch("SELECT state FROM docray.generations WHERE lease_owner = 'victim'")}
        await superuser.execute("UPDATE docray.generations SET lease_until = now() - interval '1 s' WHERE lease_owner = 'victim'")
        assert await seen(bench) == before
    assert reached >= {"parsed", "embedded"}
    await bench.build()
    assert await counts(bench, reindex) == (3, 0, 3, 0, 0)
    await bench.do("switch", reindex)
    assert generations(await seen(bench)) == {2}


async def test_documents_that_cannot_be_built_stay_as_they_are_and_can_be_tried_again(bench, documents, superuser):
    bench.new.failures, bench.new.error = 4, Unavailable
    reindex = await bench.start()
    await bench.worker.plan_once()
    for _ in range(4):  # the first one in each time, whatever delay it has
        await superuser.execute("UPDATE docray.generations SET next_try_at = now() - interval '1 h' WHERE document_id = $1", documents[0].id)
        assert await bench.worker.work_once()
    await bench.build()
    assert await counts(bench, reindex) == (3, 0, 2, 1, 0)
    assert (await bench.now(documents[0].id)).replacement is None
    with pytest.raises(ReindexNotBuilt, match="could not be built"):
        await bench.do("switch", reindex)
    await bench.do("switch", reindex, accept_failures=True)
    for mode, finds in ((SearchMode.DENSE, False), (SearchMode.HYBRID, True), (SearchMode.KEYWORD, True)):  # by its words only
        found = {hit.document.id for hit in (await bench.search("zinc roofing library", mode)).hits}
        assert (documents[0].id in found) is finds
    await bench.do("retry", reindex)
    await bench.purge()
    await bench.build()
    assert await counts(bench, reindex) == (3, 3, 0, 0, 0)
    assert (await bench.shown("zinc roofing library"))[0][:2] == (documents[0].id, 3)


async def test_document_by_document_searches_stay_whole_and_go_over_when_the_last_is_built(bench, documents):
    before = {query: [(hit[0], hit[3]) for hit in await bench.shown(query)] for query in QUERIES}
    reindex = await bench.start(switch=Switch.DOCUMENT)
    await bench.worker.plan_once()
    for built in range(1, 4):
        assert await bench.worker.work_once()
        assert await counts(bench, reindex) == (3, built, 0, 0, 3 - built)
        now = {query: await bench.shown(query) for query in QUERIES}
        assert {query: [(hit[0], hit[3]) for hit in hits] for query, hits in now.items()} == before  # one model, all documents, the same scores
        assert {generation for hits in now.values() for _, generation, _, _ in hits} == ({1, 2} if built < 3 else {2})
    await bench.build()
    assert (await bench.do("get", reindex)).state is ReindexState.SWITCHED
    assert {query: [(hit[0], hit[3]) for hit in await bench.shown(query)] for query in QUERIES} != before
    await bench.do("rollback", reindex)
    assert {query: [(hit[0], hit[3]) for hit in await bench.shown(query)] for query in QUERIES} == before
    await bench.purge()
    assert set((await bench.vectors()).values()) == {1, 2}
    assert set(await bench.vectors()) == {(document.id, 1) for document in documents}


async def test_after_a_finish_by_documents_the_vectors_of_the_old_model_are_gone(bench, documents):
    reindex = await bench.start(switch=Switch.DOCUMENT)
    await bench.build()
    assert (await bench.vectors())[(documents[1].id, 2)] == 2
    await bench.do("finish", reindex)
    await bench.purge()
    assert await bench.vectors() == {(documents[0].id, 2): 2, (documents[1].id, 2): 1, (documents[2].id, 2): 1}
    assert (await bench.shown("violin maker repairs"))[0][:2] == (documents[1].id, 2)


async def test_another_cut_of_the_same_model_shows_the_same_until_the_switch(bench, documents):
    before = await seen(bench)
    bench.max_tokens = 8
    bench.worker = bench.a_worker()
    reindex = await bench.start(model=OLD)
    await bench.build()
    assert await counts(bench, reindex) == (3, 0, 3, 0, 0)
    assert await seen(bench) == before
    await bench.do("switch", reindex)
    now = await bench.now(documents[1].id)
    assert now.chunk_count > 1
    assert generations(await seen(bench)) == {2}


async def test_what_is_in_the_wanted_form_already_is_left_alone(bench, documents):
    reindex = await bench.start(model=OLD)
    assert not await bench.worker.plan_once()
    assert await counts(bench, reindex) == (3, 3, 0, 0, 0)
    assert (await bench.do("switch", reindex)).state is ReindexState.SWITCHED


async def test_a_collection_alone_may_be_cut_anew(bench, documents, catalog, principal):
    async with catalog.transaction(principal) as tx:
        collection = await tx.collections.insert(new_id(), name="c", description=None, metadata={})
        await tx.collections.add(collection.id, documents[1].id, None)
    with pytest.raises(InvalidField, match="A collection alone"):
        await bench.start(collection_id=collection.id)
    with pytest.raises(NotFound):
        await bench.start(model=OLD, collection_id=new_id())
    reindex = await bench.start(model=OLD, rules="another", collection_id=collection.id)
    await bench.build()
    assert await counts(bench, reindex) == (1, 0, 1, 0, 0)
    await bench.do("switch", reindex)
    assert [(await bench.now(document.id)).generation for document in documents] == [1, 2, 1]


async def test_a_second_reindex_finishes_the_first_and_blobs_stay(bench, documents):
    first = await bench.start()
    await bench.build()
    await bench.do("switch", first)
    second = await bench.start(model=OLD)
    assert (await bench.do("get", first)).state is ReindexState.FINISHED
    await bench.purge()
    await bench.build()
    await bench.do("switch", second)
    await bench.do("finish", second)
    await bench.purge()
    assert generations(await seen(bench)) == {3}
    assert set(await bench.vectors()) == {(document.id, 3) for document in documents}
    assert len(await bench.keys()) == 3


async def test_a_worker_without_the_new_model_builds_nothing_and_takes_uploads_all_the_same(bench, documents):
    reindex = await bench.start()
    poor = bench.a_worker("poor", models=1)
    assert await poor.plan_once()
    assert not await poor.work_once()
    await bench.upload("The tram line will be closed.")
    assert await poor.work_once()
    assert await counts(bench, reindex) == (4, 0, 0, 0, 4)


async def test_a_gateway_that_has_not_the_tenants_model_finds_by_words_and_says_so(bench, documents):
    lame = SearchService(catalog=bench.catalog, index=PgVectorIndex(bench.database), embedder=bench.new)
    found = await lame.search(bench.principal, SearchRequest(query="zinc roofing library"))
    assert (found.hits[0].document.id, found.hits[0].dense, found.degraded) == (documents[0].id, None, ("dense",))


async def test_a_switch_under_a_search_is_noticed(bench, documents, monkeypatch):
    reindex = await bench.start()
    await bench.build()
    search, switched = bench.service._index.search_dense, []

    async def is_overtaken(*arguments):
        found = await search(*arguments)
        if not switched:
            switched.append(await bench.do("switch", reindex))
        return found

    monkeypatch.setattr(bench.service._index, "search_dense", is_overtaken)
    assert (await bench.shown("violin maker repairs instruments"))[0][:2] == (documents[1].id, 2)


async def test_two_tenants_do_not_touch_each_other(bench, documents, other_principal):
    other = replace(bench, principal=other_principal)
    theirs = await other.add(TEXTS[1])
    before = await other.shown("violin maker repairs")
    reindex = await bench.start()
    await bench.build()
    await bench.do("switch", reindex)
    for what in ("get", "switch", "rollback", "finish", "retry"):
        with pytest.raises(NotFound):
            await other.do(what, reindex)
    assert await other.shown("violin maker repairs") == before
    assert (await other.now(theirs.id)).generation == 1
    mine = await other.start()
    await other.build()
    assert await counts(other, mine) == (1, 0, 1, 0, 0)
    await bench.do("finish", reindex)
    await bench.purge()
    assert await other.shown("violin maker repairs") == before
    assert chunker_name(64, NEW) == mine.form.chunker


async def test_the_invariants_hold_while_it_is_open_and_after_it_ended(bench, documents, superuser):
    async def problems() -> list[oracle.Finding]:
        found = await oracle.problems(superuser, bench.principal.tenant_id, bench.folder)
        return [each for each in found if "document.create" not in each.what]  # the bench's documents come without the service that audits

    for end in ("rollback", "finish"):
        for way in Switch:
            reindex = await bench.start(switch=way, model=NEW if end == "rollback" or way is Switch.DOCUMENT else OLD)
            await bench.build()
            assert await problems() == []
            if way is Switch.TENANT:
                await bench.do("switch", reindex)
            late = await bench.add(f"Something new that came during {way} and {end}.")
            assert await problems() == []
            await bench.do(end, reindex)
            await bench.purge()
            assert await problems() == []
            assert (await bench.shown("something new that came during"))[0][0]
            await bench.delete(late.id)
            await bench.purge()
            await superuser.execute("DELETE FROM docray.usage WHERE document_id = $1", late.id)  # the oracle knows of no deletes
            await superuser.execute("DELETE FROM docray.audit_log WHERE object_id = $1", late.id)
