"""What every catalogue promises: documents, collections, passages and keys of one tenant in one transaction."""

import asyncio
from datetime import UTC, datetime, timedelta

import pytest
from catalog_factories import a_document, add_document, add_ready, chunks_of, purge_all, sha256_of, some_pages, take_to

from docray.domain.catalog import DocumentQuery, Paging
from docray.domain.documents import Failure, FailureCode, Progress, Stage, State
from docray.domain.errors import DuplicateName, InvalidField, NotFailed, NotFound
from docray.domain.ids import blob_key, chunk_id, new_id
from docray.domain.principals import ApiKey, Principal, Tenant
from docray.domain.principals import Scope as Right
from docray.domain.questions import AllOf, AnyOf, Condition, Not, Operator, Scope
from docray.stores.postgres_keys import PostgresCredentials, PostgresTenants

ALL = Scope()


async def every(listing, *arguments, limit):
    """All items of a list, page by page."""
    items, after = [], None
    while True:
        page = await listing(*arguments, Paging(limit=limit, after=after))
        items += page.items
        if page.next_cursor is None:
            return items
        assert len(page.items) == limit
        after = page.next_cursor


# --- documents ------------------------------------------------------------------------------------------------------


async def test_a_new_document_is_queued_and_knows_nothing_yet(catalog, principal):
    given = a_document(metadata={"a": [1, {"b": None}], "ключ": "値"}, title="Tïtle")
    async with catalog.transaction(principal) as tx:
        document = await tx.documents.insert(given)
    assert (document.state, document.generation, document.version) == (State.QUEUED, 1, 1)
    assert document.progress == Progress(Stage.QUEUED, 0, None)
    assert (document.page_count, document.chunk_count, document.ready_at, document.failure, document.replacement) == (None,) * 5
    assert (document.metadata, document.title, document.collection_ids) == ({"a": [1, {"b": None}], "ключ": "値"}, "Tïtle", ())


async def test_an_exception_rolls_everything_back(catalog, principal):
    given = a_document()

    async def break_off():
        async with catalog.transaction(principal) as tx:
            await tx.documents.insert(given)
            raise RuntimeError

    with pytest.raises(RuntimeError):
        await break_off()
    async with catalog.transaction(principal) as tx:
        with pytest.raises(NotFound):
            await tx.documents.get(given.id)


async def test_foreign_and_absent_ids_raise_the_same_everywhere(catalog, queue, principal, other_principal):
    theirs = await add_ready(catalog, queue, other_principal)
    async with catalog.transaction(other_principal) as tx:
        collection = await tx.collections.insert(new_id(), name="theirs", description=None, metadata={})
    for document_id, collection_id in ((theirs.id, collection.id), (new_id(), new_id())):
        calls = [
            lambda tx, d=document_id: tx.documents.get(d), lambda tx, d=document_id: tx.documents.get(d, lock=True),
            lambda tx, d=document_id: tx.documents.patch(d, title="x"), lambda tx, d=document_id: tx.documents.requeue(d),
            lambda tx, d=document_id: tx.documents.mark_deleting(d), lambda tx, d=document_id: tx.documents.content(d),
            lambda tx, d=document_id: tx.documents.page(d, 1),
            lambda tx, d=document_id: tx.documents.insert_generation(d, sha256="0" * 64, size_bytes=1, filename=None),
            lambda tx, c=collection_id: tx.collections.get(c), lambda tx, c=collection_id: tx.collections.patch(c, name="mine"),
            lambda tx, c=collection_id: tx.collections.delete(c, delete_documents=True),
            lambda tx, c=collection_id: tx.collections.members(c, Paging()),
            lambda tx, c=collection_id, d=document_id: tx.collections.add(c, d, {}),
            lambda tx, c=collection_id, d=document_id: tx.collections.remove(c, d),
            lambda tx, c=collection_id: tx.documents.insert(a_document(collection_ids=(c,))),
            lambda tx, d=document_id: tx.api_keys.get(d), lambda tx, d=document_id: tx.api_keys.revoke(d),
        ]  # fmt: skip
        for call in calls:
            with pytest.raises(NotFound):
                async with catalog.transaction(principal) as tx:
                    await call(tx)
    async with catalog.transaction(other_principal) as tx:
        assert (await tx.documents.get(theirs.id)).version == theirs.version


async def test_the_bytes_find_the_oldest_document_that_is_not_being_deleted(catalog, principal, other_principal):
    same = sha256_of("the same")
    first = await add_document(catalog, principal, sha256=same)
    second = await add_document(catalog, principal, sha256=same)
    async with catalog.transaction(other_principal) as tx:
        assert await tx.documents.find_content(same) is None
    async with catalog.transaction(principal) as tx:
        assert (await tx.documents.find_content(same)).id == first.id
        await tx.documents.mark_deleting(first.id)
        assert (await tx.documents.find_content(same)).id == second.id


async def test_fifty_uploads_of_the_same_bytes_at_once_make_one_document(catalog, principal):
    same = sha256_of("raced")

    async def upload():
        async with catalog.transaction(principal) as tx:
            await tx.documents.lock_content(same)
            found = await tx.documents.find_content(same)
            return (found or await tx.documents.insert(a_document(sha256=same))).id

    assert len(set(await asyncio.gather(*(upload() for _ in range(50))))) == 1


async def test_the_list_is_newest_first_and_its_cursors_are_stable_under_inserts(catalog, principal, other_principal):
    made = [(await add_document(catalog, principal)).id for _ in range(7)]
    await add_document(catalog, other_principal)
    seen, after = [], None
    async with catalog.transaction(principal) as tx:
        while True:
            page = await tx.documents.list(DocumentQuery(), Paging(limit=2, after=after))
            seen += [document.id for document in page.items]
            await add_document(catalog, principal)
            if page.next_cursor is None:
                break
            after = page.next_cursor
    assert seen == made[::-1]


@pytest.mark.parametrize("cursor", ["not-a-cursor", "", "AAAA", "é", "Z" * 34, "=" * 34, "\0", "a" * 5000])
async def test_what_is_no_cursor_names_its_parameter(catalog, principal, cursor):
    async with catalog.transaction(principal) as tx:
        paging = Paging(after=cursor)
        for call in (tx.documents.list(DocumentQuery(), paging), tx.collections.list(paging), tx.api_keys.list(paging)):
            with pytest.raises(InvalidField) as caught:
                await call
            assert caught.value.param == "after"


async def test_a_cursor_of_another_list_is_none(catalog, principal):
    for _ in range(2):
        await add_document(catalog, principal)
    async with catalog.transaction(principal) as tx:
        cursor = (await tx.documents.list(DocumentQuery(), Paging(limit=1))).next_cursor
        with pytest.raises(InvalidField):
            await tx.collections.list(Paging(after=cursor))


async def test_list_filters(catalog, queue, principal):
    names = ["annual summary_2021.pdf", "b.pdf", "C-Résumé.pdf"]
    titles, colours = ["Walnut harvest", "Copper mines", None], ["red", "green", "red"]
    made = [
        await add_ready(catalog, queue, principal, filename=names[n], title=titles[n], metadata={"colour": colours[n], "n": n, "flag": n == 1})
        for n in range(3)
    ]
    waiting = await add_document(catalog, principal, filename="waiting.pdf")
    async with catalog.transaction(principal) as tx:
        collection = await tx.collections.insert(new_id(), name="c", description=None, metadata={})
        await tx.collections.add(collection.id, made[1].id, None)

    cases = [
        ({}, {0, 1, 2, 3}), ({"state": State.READY}, {0, 1, 2}), ({"state": State.QUEUED}, {3}), ({"state": State.FAILED}, set()),
        ({"filename": "b.pdf"}, {1}), ({"filename": "b"}, set()), ({"filename": "b.pdf\0"}, set()), ({"filename": "\ud800"}, set()),
        ({"q": "Walnut"}, {0}), ({"q": "copper mines"}, {1}), ({"q": "mines COPPER"}, {1}), ({"q": "summary"}, {0}), ({"q": "2021"}, {0}),
        ({"q": "pdf"}, {0, 1, 2, 3}), ({"q": "résumé"}, {2}), ({"q": "platypus"}, set()), ({"q": "--- !"}, set()), ({"q": "a & | !"}, set()),
        ({"metadata": {"colour": "red"}}, {0, 2}), ({"metadata": {"n": "1"}}, {1}), ({"metadata": {"flag": "true"}}, {1}),
        ({"metadata": {"colour": "red", "n": "2"}}, {2}), ({"metadata": {"absent": "x"}}, set()), ({"metadata": {"a\0": "x"}}, set()),
        ({"collection_id": collection.id}, {1}), ({"collection_id": new_id()}, set()),
        ({"created_after": made[1].created_at}, {1, 2, 3}), ({"created_before": made[1].created_at}, {0}),
        ({"created_after": made[1].created_at, "created_before": made[2].created_at}, {1}),
        ({"created_after": datetime(2999, 1, 1, tzinfo=UTC)}, set()),
        ({"q": "pdf", "state": State.READY, "metadata": {"colour": "red"}}, {0, 2}),
    ]  # fmt: skip
    ids = [*(document.id for document in made), waiting.id]
    async with catalog.transaction(principal) as tx:
        for query, wanted in cases:
            found = await every(tx.documents.list, DocumentQuery(**query), limit=2)
            assert [d.id for d in found] == [ids[i] for i in sorted(wanted, reverse=True)], query


async def test_a_patch_sets_whole_fields_and_raises_version_and_epoch(catalog, principal):
    document = await add_document(catalog, principal, title="old", metadata={"a": 1})
    async with catalog.transaction(principal) as tx:
        before = await tx.corpus_epoch()
    async with catalog.transaction(principal) as tx:
        patched = await tx.documents.patch(document.id, title=None)
    assert (patched.title, patched.metadata, patched.version) == (None, {"a": 1}, document.version + 1)
    assert patched.updated_at > document.updated_at
    async with catalog.transaction(principal) as tx:
        patched = await tx.documents.patch(document.id, metadata={"b": 2})
        assert (patched.title, patched.metadata) == (None, {"b": 2})
        assert await tx.corpus_epoch() == before + 2


@pytest.mark.parametrize("metadata", [{"a": "\0"}, {"a\0": 1}, {"a": ["\ud800"]}, {"\udfff": 1}])
async def test_text_that_cannot_be_stored_is_an_invalid_field_and_not_an_error_of_ours(catalog, principal, metadata):
    with pytest.raises(InvalidField):
        await add_document(catalog, principal, metadata=metadata)
    with pytest.raises(InvalidField):
        await add_document(catalog, principal, title=str(metadata) if "\0" in str(metadata) else "\ud800\0")


async def test_whole_numbers_of_any_size_are_kept(catalog, principal):
    assert (await add_document(catalog, principal, metadata={"n": 10**30, "m": 2**63})).metadata["m"] == 2**63


async def test_a_replacement_runs_beside_the_live_generation(catalog, queue, principal):
    document = await add_ready(catalog, queue, principal, filename="old.pdf")
    assert document.progress == Progress(Stage.DONE, 2, 2)
    async with catalog.transaction(principal) as tx:
        replaced, generation = await tx.documents.insert_generation(document.id, sha256=sha256_of("new"), size_bytes=7, filename="new.pdf")
        assert (await tx.documents.content(document.id)).generation == 1
    assert generation == 2
    assert (replaced.state, replaced.generation, replaced.sha256, replaced.filename) == (State.READY, 1, document.sha256, "old.pdf")
    assert (replaced.replacement.generation, replaced.replacement.state, replaced.replacement.failure) == (2, State.QUEUED, None)
    lease = await queue.lease("w", 60)
    assert (lease.generation, lease.filename, lease.blob_key) == (2, "new.pdf", blob_key(principal.tenant_id, document.id, 2))
    await take_to(queue, lease, State.INDEXED, some_pages(3))
    async with catalog.transaction(principal) as tx:
        assert (await tx.documents.get(document.id)).replacement.state is State.INDEXED
        assert len((await tx.documents.page(document.id, 2)).words) == 6
        with pytest.raises(NotFound):
            await tx.documents.page(document.id, 3)
    await queue.publish(lease)
    async with catalog.transaction(principal) as tx:
        now = await tx.documents.get(document.id)
        assert (await tx.documents.content(document.id)).sha256 == sha256_of("new")
        assert (await tx.documents.page(document.id, 3)).number == 3
    assert (now.generation, now.replacement, now.filename, now.sha256, now.page_count) == (2, None, "new.pdf", sha256_of("new"), 3)
    assert now.ready_at > document.ready_at


async def test_a_failed_replacement_is_shown_until_it_is_retried(catalog, queue, principal):
    document = await add_ready(catalog, queue, principal)
    async with catalog.transaction(principal) as tx:
        await tx.documents.insert_generation(document.id, sha256="1" * 64, size_bytes=7, filename=None)
    await queue.fail(await queue.lease("w", 60), Failure.of(FailureCode.DAMAGED))
    async with catalog.transaction(principal) as tx:
        failed = await tx.documents.get(document.id)
        assert (failed.state, failed.generation, failed.failure) == (State.READY, 1, None)
        assert (failed.replacement.state, failed.replacement.failure) == (State.FAILED, Failure.of(FailureCode.DAMAGED))
        again = await tx.documents.requeue(document.id)
        assert (again.state, again.replacement.state, again.replacement.failure) == (State.READY, State.QUEUED, None)
        with pytest.raises(NotFailed):
            await tx.documents.requeue(document.id)


async def test_a_failed_document_may_be_tried_again_or_replaced(catalog, queue, principal):
    document = await add_document(catalog, principal, filename="a.pdf")
    with pytest.raises(NotFailed):
        async with catalog.transaction(principal) as tx:
            await tx.documents.requeue(document.id)
    await queue.fail(await queue.lease("w", 60), Failure.of(FailureCode.ENCRYPTED))
    async with catalog.transaction(principal) as tx:
        failed = await tx.documents.get(document.id)
        assert (failed.state, failed.failure.code, failed.generation) == (State.FAILED, FailureCode.ENCRYPTED, 1)
        assert (await tx.documents.find_content(document.sha256)).state is State.FAILED
        again = await tx.documents.requeue(document.id)
        assert (again.state, again.failure, again.progress) == (State.QUEUED, None, Progress(Stage.QUEUED, 0, None))
    await queue.fail(await queue.lease("w", 60), Failure.of(FailureCode.ENCRYPTED))
    async with catalog.transaction(principal) as tx:
        replaced, generation = await tx.documents.insert_generation(document.id, sha256="2" * 64, size_bytes=9, filename="b.pdf")
        assert (await tx.documents.content(document.id)).generation == 2
    assert generation == replaced.generation == 2
    assert (replaced.state, replaced.failure, replaced.replacement) == (State.QUEUED, None, None)
    assert (replaced.sha256, replaced.size_bytes, replaced.filename) == ("2" * 64, 9, "b.pdf")


async def test_delete_hides_at_once_and_the_purge_removes_the_last_row(catalog, queue, principal, superuser):
    document = await add_ready(catalog, queue, principal)
    ids = [chunk_id(principal.tenant_id, document.id, 1, n) for n in range(2)]
    async with catalog.transaction(principal) as tx:
        collection = await tx.collections.insert(new_id(), name="c", description=None, metadata={})
        await tx.collections.add(collection.id, document.id, None)
        epoch = await tx.corpus_epoch()
        assert len(await tx.passages.read(ids, ALL)) == 2
    async with catalog.transaction(principal) as tx:
        await tx.documents.mark_deleting(document.id)
    async with catalog.transaction(principal) as tx:
        assert await tx.corpus_epoch() > epoch
        assert await tx.passages.read(ids, ALL) == {}
        assert await tx.passages.neighbours(document.id, 1, [0]) == {}
        assert await tx.passages.pages(document.id, 1, [1]) == {}
        assert not await tx.passages.any_in_scope(ALL)
        assert (await tx.documents.list(DocumentQuery(), Paging())).items == []
        assert (await tx.collections.get(collection.id)).document_count == 0
        assert (await tx.collections.members(collection.id, Paging())).items == []
        assert await tx.documents.count_by_state() == {}
        assert (await tx.documents.version(document.id))[1] is True
        with pytest.raises(NotFound):
            await tx.documents.mark_deleting(document.id)
    purge = await queue.lease_purge("p", 60)
    assert list(await queue.blob_keys_of(purge)) == [blob_key(principal.tenant_id, document.id, 1)]
    await queue.finish_purge(purge)
    async with catalog.transaction(principal) as tx:
        assert await tx.documents.version(document.id) is None
    for table in ("documents", "generations", "pages", "chunks", "purges", "collection_documents"):
        assert await superuser.fetchval(f"SELECT count(*) FROM docray.{table}") == 0, table


async def test_pages_come_back_as_they_were_parsed(catalog, queue, principal):
    pages = some_pages(2)
    document = await add_ready(catalog, queue, principal, pages=pages)
    async with catalog.transaction(principal) as tx:
        assert await tx.documents.page(document.id, 1) == pages[0]
        assert await tx.passages.pages(document.id, 1, [2, 3]) == {2: pages[1]}
        for number in (0, -1, 3, 2**31, 10**20):
            with pytest.raises(NotFound):
                await tx.documents.page(document.id, number)


async def test_documents_are_counted_by_state(catalog, queue, principal):
    await add_ready(catalog, queue, principal)
    await add_document(catalog, principal)
    async with catalog.transaction(principal) as tx:
        assert await tx.documents.count_by_state() == {"ready": 1, "queued": 1}


# --- collections ----------------------------------------------------------------------------------------------------


async def test_a_collections_name_is_unique_within_its_tenant(catalog, principal, other_principal):
    async def make(who, name):
        async with catalog.transaction(who) as tx:
            return await tx.collections.insert(new_id(), name=name, description="d", metadata={"k": 1})

    made = await make(principal, "n")
    assert (made.name, made.description, made.metadata, made.document_count) == ("n", "d", {"k": 1}, 0)
    await make(other_principal, "n")
    with pytest.raises(DuplicateName):
        await make(principal, "n")
    second = await make(principal, "m")
    with pytest.raises(DuplicateName):
        async with catalog.transaction(principal) as tx:
            await tx.collections.patch(second.id, name="n")
    async with catalog.transaction(principal) as tx:
        patched = await tx.collections.patch(second.id, description=None, metadata={})
        assert (patched.name, patched.description, patched.metadata) == ("m", None, {})


async def test_collections_page_newest_first(catalog, principal):
    made = []
    for i in range(5):
        async with catalog.transaction(principal) as tx:
            made.append((await tx.collections.insert(new_id(), name=str(i), description=None, metadata={})).id)
    async with catalog.transaction(principal) as tx:
        assert [c.id for c in await every(tx.collections.list, limit=2)] == made[::-1]


async def test_a_document_has_attributes_of_its_own_in_each_collection(catalog, principal):
    document = await add_document(catalog, principal)
    async with catalog.transaction(principal) as tx:
        one, two = [await tx.collections.insert(new_id(), name=n, description=None, metadata={}) for n in "ab"]
        before = await tx.corpus_epoch()
    async with catalog.transaction(principal) as tx:
        assert (await tx.collections.add(one.id, document.id, {"colour": "red"})).attributes == {"colour": "red"}
        assert (await tx.collections.add(two.id, document.id, None)).attributes == {}
    async with catalog.transaction(principal) as tx:
        assert (await tx.collections.add(one.id, document.id, None)).attributes == {"colour": "red"}
        assert (await tx.collections.add(one.id, document.id, {})).attributes == {}
        now = await tx.documents.get(document.id)
        assert set(now.collection_ids) == {one.id, two.id}
        assert now.version > document.version
        assert [m.document_id for m in (await tx.collections.members(one.id, Paging())).items] == [document.id]
        assert (await tx.collections.get(one.id)).document_count == 1
        await tx.collections.remove(one.id, document.id)
        with pytest.raises(NotFound):
            await tx.collections.remove(one.id, document.id)
        assert (await tx.documents.get(document.id)).collection_ids == (two.id,)
        assert await tx.corpus_epoch() >= before + 2


async def test_a_large_collection_goes_in_batches(catalog, principal, monkeypatch):
    monkeypatch.setattr("docray.stores.postgres_collections._BATCH", 2)
    documents = [await add_document(catalog, principal) for _ in range(5)]
    async with catalog.transaction(principal) as tx:
        collection = await tx.collections.insert(new_id(), name="large", description=None, metadata={})
        for document in documents:
            await tx.collections.add(collection.id, document.id, None)
    async with catalog.transaction(principal) as tx:
        assert set(await tx.collections.delete(collection.id, delete_documents=True)) == {document.id for document in documents}
        assert (await tx.documents.list(DocumentQuery(), Paging())).items == []
    async with catalog.transaction(principal) as tx:
        with pytest.raises(NotFound):
            await tx.collections.get(collection.id)


@pytest.mark.parametrize("delete_documents", [False, True])
async def test_deleting_a_collection_spares_what_is_in_another(catalog, principal, delete_documents):
    alone, both = [await add_document(catalog, principal) for _ in range(2)]
    async with catalog.transaction(principal) as tx:
        one, two = [await tx.collections.insert(new_id(), name=n, description=None, metadata={}) for n in "ab"]
        for collection, document in ((one, alone), (one, both), (two, both)):
            await tx.collections.add(collection.id, document.id, None)
    async with catalog.transaction(principal) as tx:
        gone = await tx.collections.delete(one.id, delete_documents=delete_documents)
    assert list(gone) == ([alone.id] if delete_documents else [])
    async with catalog.transaction(principal) as tx:
        assert (await tx.documents.get(both.id)).collection_ids == (two.id,)
        assert (await tx.documents.version(alone.id))[1] is delete_documents


# --- passages -------------------------------------------------------------------------------------------------------


async def test_passages_are_read_only_from_the_live_generation(catalog, queue, principal, other_principal):
    pages = some_pages(2)
    document = await add_ready(catalog, queue, principal, pages=pages, metadata={"y": 1})
    chunks = chunks_of(pages)
    async with catalog.transaction(principal) as tx:
        await tx.documents.insert_generation(document.id, sha256="3" * 64, size_bytes=1, filename=None)
    await take_to(queue, await queue.lease("w", 60), State.INDEXED)
    mine = {(g, n): chunk_id(principal.tenant_id, document.id, g, n) for g in (1, 2) for n in (0, 1)}
    async with catalog.transaction(principal) as tx:
        found = await tx.passages.read([*mine.values(), new_id()], ALL)
        assert set(found) == {mine[1, 0], mine[1, 1]}
        passage = found[mine[1, 1]]
        assert (passage.n, passage.generation, passage.text, passage.spans, passage.pages) == (1, 1, chunks[1].text, chunks[1].spans, chunks[1].pages)
        assert (passage.heading_path, passage.after) == (chunks[1].heading_path, pages[1].words[-1].after)
        assert (passage.document.id, passage.document.filename, passage.document.metadata) == (document.id, document.filename, {"y": 1})
        assert set(await tx.passages.neighbours(document.id, 1, [0, 1, 2, -1])) == {0, 1}
        assert await tx.passages.neighbours(document.id, 2, [0]) == {}
        assert await tx.passages.pages(document.id, 2, [1]) == {}
    async with catalog.transaction(other_principal) as tx:
        assert await tx.passages.read(list(mine.values()), ALL) == {}
        assert await tx.passages.neighbours(document.id, 1, [0]) == {}
        assert not await tx.passages.any_in_scope(ALL)


def _when(operator, value):
    return Condition("created_at", operator, value)


FILTERS = [
    (Condition("metadata.year", Operator.EQ, 2021), True), (Condition("metadata.year", Operator.EQ, 2021.0), True),
    (Condition("metadata.year", Operator.EQ, "2021"), False), (Condition("metadata.year", Operator.EQ, True), False),
    (Condition("metadata.year", Operator.GTE, 2021), True), (Condition("metadata.year", Operator.GT, 2020.5), True),
    (Condition("metadata.year", Operator.LT, 2021), False), (Condition("metadata.year", Operator.LTE, 10**40), True),
    (Condition("metadata.year", Operator.GT, "2020"), False), (Condition("metadata.year", Operator.GT, float("nan")), False),
    (Condition("metadata.year", Operator.LT, True), False), (Condition("metadata.year", Operator.LT, None), False),
    (Condition("metadata.year", Operator.IN, (1, "x", 2021)), True), (Condition("metadata.year", Operator.IN, ()), False),
    (Condition("metadata.year", Operator.NIN, (2021,)), False), (Condition("metadata.year", Operator.NIN, ()), True),
    (Condition("metadata.team", Operator.EQ, "blue"), True), (Condition("metadata.team", Operator.NE, "blue"), False),
    (Condition("metadata.team", Operator.GT, "Blue"), True), (Condition("metadata.team", Operator.LT, "blue"), False),
    (Condition("metadata.team", Operator.GT, 1), False), (Condition("metadata.team", Operator.EQ, "bl\0ue"), False),
    (Condition("metadata.team", Operator.NE, "\ud800"), True), (Condition("metadata.team", Operator.GTE, "\0"), False),
    (Condition("metadata.flag", Operator.EQ, True), True), (Condition("metadata.flag", Operator.EQ, 1), False),
    (Condition("metadata.flag", Operator.GT, False), False), (Condition("metadata.list", Operator.EQ, "a"), False),
    (Condition("metadata.null", Operator.EQ, None), True), (Condition("metadata.none", Operator.EQ, None), False),
    (Condition("metadata.none", Operator.NE, "blue"), True), (Condition("metadata.none", Operator.NIN, ("blue",)), True),
    (Condition("metadata.none", Operator.GT, 1), False), (Condition("metadata.none", Operator.EXISTS, False), True),
    (Condition("metadata.team", Operator.EXISTS, True), True), (Condition("metadata.none", Operator.EXISTS, True), False),
    (Condition("metadata.a.b", Operator.EQ, 1), True), (Condition("metadata.x\0", Operator.EQ, 1), False),
    (Condition("metadata.'; DROP TABLE docray.chunks; --", Operator.NE, "'; DROP TABLE docray.chunks; --"), True),
    (Condition("filename", Operator.EQ, "scope.pdf"), True), (Condition("filename", Operator.EQ, 1), False),
    (Condition("filename", Operator.IN, ("x", 1, "scope.pdf")), True), (Condition("filename", Operator.LT, "t"), True),
    (Condition("title", Operator.EQ, "x"), False), (Condition("title", Operator.NE, "x"), True),
    (Condition("title", Operator.EXISTS, False), True), (Condition("title", Operator.LT, "z"), False),
    (_when(Operator.GTE, datetime(2020, 1, 1, tzinfo=UTC)), True), (_when(Operator.LT, datetime(2020, 1, 1, tzinfo=UTC)), False),
    (_when(Operator.EXISTS, True), True), (_when(Operator.NE, datetime(2020, 1, 1, tzinfo=UTC)), True),
    (Condition("page", Operator.EQ, 1), True), (Condition("page", Operator.GT, 1), False), (Condition("page", Operator.IN, (9, 1)), True),
    (Condition("page", Operator.NE, 1), False), (Condition("page", Operator.NIN, (2,)), True), (Condition("page", Operator.LTE, 10**30), True),
    (Condition("page", Operator.EQ, "1"), False), (Condition("page", Operator.EXISTS, True), True),
    (Condition("page", Operator.EXISTS, False), False),
    (Condition("attributes.colour", Operator.EQ, "red"), True), (Condition("attributes.colour", Operator.NE, "red"), False),
    (Condition("attributes.shape", Operator.NE, "red"), True), (Condition("attributes.n", Operator.GTE, 3), True),
    (Condition("attributes.colour", Operator.EXISTS, True), True), (Condition("attributes.shape", Operator.EXISTS, False), True),
    (AllOf((Condition("metadata.year", Operator.EQ, 2021), Condition("page", Operator.EQ, 1))), True), (AllOf(()), True), (AnyOf(()), False),
    (AnyOf((Condition("metadata.year", Operator.EQ, 1), Condition("page", Operator.EQ, 1))), True),
    (Not(Condition("metadata.none", Operator.EQ, 1)), True), (Not(Condition("metadata.none", Operator.GT, 1)), True),
    (Not(Not(Condition("metadata.team", Operator.EQ, "blue"))), True),
]  # fmt: skip


async def test_a_scope_filters_what_is_read(catalog, queue, principal):
    metadata = {"year": 2021, "team": "blue", "flag": True, "null": None, "list": ["a"], "a.b": 1}
    document = await add_ready(catalog, queue, principal, filename="scope.pdf", metadata=metadata, pages=some_pages(1))
    async with catalog.transaction(principal) as tx:
        one, two = [await tx.collections.insert(new_id(), name=n, description=None, metadata={}) for n in "ab"]
        await tx.collections.add(one.id, document.id, {"colour": "red", "n": 3})
        await tx.collections.add(two.id, document.id, {"colour": "green"})
    wanted = chunk_id(principal.tenant_id, document.id, 1, 0)
    async with catalog.transaction(principal) as tx:
        for condition, holds in FILTERS:
            scope = Scope(collection_ids=(one.id,), filter=condition)
            assert (wanted in await tx.passages.read([wanted], scope)) is holds, condition
            assert await tx.passages.any_in_scope(scope) is holds, condition
        scopes = [
            (Scope(document_ids=(document.id,)), True), (Scope(document_ids=(new_id(),)), False), (Scope(collection_ids=(two.id, new_id())), True),
            (Scope(collection_ids=(new_id(),)), False),
            (Scope(collection_ids=(two.id,), filter=Condition("attributes.colour", Operator.EQ, "red")), False),
            (Scope(filter=Condition("attributes.colour", Operator.EQ, "green")), True),
        ]  # fmt: skip
        for scope, holds in scopes:
            assert (wanted in await tx.passages.read([wanted], scope)) is holds, scope
            assert await tx.passages.any_in_scope(scope) is holds, scope


async def test_a_filter_on_an_unknown_field_is_our_mistake(catalog, principal):
    async with catalog.transaction(principal) as tx:
        with pytest.raises(ValueError, match="no such field"):
            await tx.passages.any_in_scope(Scope(filter=Condition("colour", Operator.EQ, 1)))


# --- keys and tenants -----------------------------------------------------------------------------------------------


def a_key(**changes) -> ApiKey:
    fields = {"id": new_id(), "name": "k", "scopes": frozenset({Right.SEARCH}), "prefix": "dr_abc", "created_at": datetime.now(UTC)}
    return ApiKey(**{**fields, **changes})


async def test_a_key_finds_its_principal_until_it_is_revoked_or_expires(catalog, database, principal):
    credentials = PostgresCredentials(database)
    async with catalog.transaction(principal) as tx:
        live = await tx.api_keys.insert(a_key(scopes=frozenset({Right.SEARCH, Right.INGEST})), b"live", operator=True)
        await tx.api_keys.insert(a_key(expires_at=datetime.now(UTC) - timedelta(seconds=1)), b"expired")
        later = await tx.api_keys.insert(a_key(expires_at=datetime.now(UTC) + timedelta(hours=1)), b"later")
    found = await credentials.find(b"live")
    assert found == Principal(
        kind="api_key", id=live.id, name="k", tenant_id=principal.tenant_id, tenant_name=principal.tenant_name,
        scopes=frozenset({Right.SEARCH, Right.INGEST}), operator=True,
    )  # fmt: skip
    assert (await credentials.find(b"later")).id == later.id
    assert await credentials.find(b"expired") is None
    assert await credentials.find(b"unknown") is None
    async with catalog.transaction(principal) as tx:
        assert (await tx.api_keys.get(live.id)).last_used_at is not None
        revoked = await tx.api_keys.revoke(live.id)
        assert revoked.revoked_at is not None
        assert (await tx.api_keys.revoke(live.id)).revoked_at == revoked.revoked_at
    assert await credentials.find(b"live") is None


async def test_the_use_of_a_key_is_noted_once_a_minute(catalog, database, principal, superuser):
    async with catalog.transaction(principal) as tx:
        key = await tx.api_keys.insert(a_key(), b"used")
    credentials = PostgresCredentials(database)

    async def used():
        await asyncio.gather(*(credentials.find(b"used") for _ in range(5)))
        async with catalog.transaction(principal) as tx:
            return (await tx.api_keys.get(key.id)).last_used_at

    first = await used()
    assert await used() == first
    await superuser.execute("UPDATE docray.api_keys SET last_used_at = last_used_at - interval '2 minutes'")
    assert await used() > first


async def test_keys_page_newest_first_and_only_ones_own(catalog, principal, other_principal):
    made = []
    for i in range(3):
        async with catalog.transaction(principal) as tx:
            made.append((await tx.api_keys.insert(a_key(), bytes([i]))).id)
    async with catalog.transaction(principal) as tx:
        assert [key.id for key in await every(tx.api_keys.list, limit=1)] == [*made[::-1], principal.id]
    async with catalog.transaction(other_principal) as tx:
        assert [key.id for key in await every(tx.api_keys.list, limit=1)] == [other_principal.id]


async def test_tenants_have_names_of_their_own(database):
    tenants = PostgresTenants(database)

    async def create(name):
        tenant = Tenant(id=new_id(), name=name, created_at=datetime.now(UTC))
        return await tenants.create(tenant, a_key(), new_id().bytes, operator=False)

    results = await asyncio.gather(*(create("acme") for _ in range(5)), return_exceptions=True)
    assert sum(isinstance(result, Tenant) for result in results) == 1
    assert sum(isinstance(result, DuplicateName) for result in results) == 4
    made = next(result for result in results if isinstance(result, Tenant))
    assert await tenants.find_by_name("acme") == made
    assert await tenants.find_by_name("nobody") is None
    assert (await PostgresCredentials(database).find(b"")) is None


async def test_audit_rows_are_written_and_cannot_be_read_back(catalog, database, principal, superuser):
    async with catalog.transaction(principal) as tx:
        await tx.audit("document.deleted", "document", principal.id, {"why": "test"})
    row = await superuser.fetchrow("SELECT * FROM docray.audit_log")
    assert (row["tenant_id"], row["principal_id"], row["action"]) == (principal.tenant_id, principal.id, "document.deleted")
    for statement in ("SELECT 1 FROM docray.audit_log", "DELETE FROM docray.audit_log", "UPDATE docray.audit_log SET action = ''"):
        with pytest.raises(Exception) as caught:  # noqa: PT011 - the cause is what is checked
            async with database.tenant_tx(principal.tenant_id) as connection:
                await connection.execute(statement)
        assert "permission denied" in str(caught.value.__cause__)


async def test_replacing_twice_supersedes_the_one_in_work(catalog, queue, principal):
    document = await add_ready(catalog, queue, principal)
    async with catalog.transaction(principal) as tx:
        await tx.documents.insert_generation(document.id, sha256="4" * 64, size_bytes=1, filename=None)
    async with catalog.transaction(principal) as tx:
        now, generation = await tx.documents.insert_generation(document.id, sha256="5" * 64, size_bytes=1, filename=None)
    assert (generation, now.replacement.generation) == (3, 3)
    assert (await queue.lease("w", 60)).generation == 3
    assert await purge_all(queue) == 1
    async with catalog.transaction(principal) as tx:
        assert (await tx.documents.get(document.id)).replacement.generation == 3
