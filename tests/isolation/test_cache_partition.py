"""A8: what is kept for one tenant never answers another: the store of idempotent answers, epochs, what the index and the door remember.

The cache of question vectors is shared on purpose: a vector is a function of the text and the model, and holds nothing of who asked.
"""

import asyncio
import dataclasses
import uuid

import httpx
from catalog_factories import add_document
from hypothesis import HealthCheck, given, seed, settings
from hypothesis import strategies as st

from docray.domain.idempotency import IdempotencyClaim
from docray.domain.ids import new_id
from docray.domain.jobs import StoredResponse
from docray.domain.questions import Scope
from docray.stores.postgres_idempotency import PostgresIdempotency
from tests.isolation.sizes import FIGURES, SEED, SIZES, dice
from tests.isolation.world import TOKEN, USERS, made

_PROPERTY = settings(max_examples=SIZES.cache_examples, deadline=None, database=None, suppress_health_check=list(HealthCheck))
_SLOTS = st.tuples(st.integers(0, 2), st.integers(0, 1), st.sampled_from(["/v1/search", "/v1/ask"]), st.sampled_from(["k", "K", "k "]))


async def test_stored_answers_are_told_apart_by_tenant_principal_path_and_key(database, new_tenant):
    store, principals = PostgresIdempotency(database), [await new_tenant() for _ in range(3)]
    people = [[principal, dataclasses.replace(principal, id=new_id())] for principal in principals]

    @seed(SEED)
    @_PROPERTY
    @given(uses=st.lists(_SLOTS, min_size=2, max_size=12))
    def stays_apart(uses: list[tuple[int, int, str, str]]) -> None:
        asyncio.run_coroutine_threadsafe(used(uses), loop).result(60)

    async def used(uses: list[tuple[int, int, str, str]]) -> None:
        run = uuid.uuid4().hex
        for place, person, route, key in uses:
            who = people[place][person]
            mine = f"{who.tenant_id}/{who.id}/{route}/{key}".encode()
            found = await store.claim(who, route, key + run, b"the same request")
            if isinstance(found, IdempotencyClaim):
                await store.finish(found, StoredResponse(status=200, body=mine))
            else:
                assert found.body == mine

    loop = asyncio.get_running_loop()  # Hypothesis is not asynchronous: it runs in a thread, its examples here
    await asyncio.to_thread(stays_apart)


async def test_an_epoch_counts_the_changes_of_its_own_tenant_only(catalog, queue, new_tenant):
    chance, principals = dice("epochs"), [await new_tenant() for _ in range(3)]
    counted = dict.fromkeys(principals, 0)

    async def epoch_of(who: object) -> int:
        async with catalog.transaction(who) as tx:
            return await tx.corpus_epoch()

    documents = {who: await add_document(catalog, who) for who in principals}
    for _ in range(SIZES.cache_examples):
        who = chance.choice(principals)
        async with catalog.transaction(who) as tx:
            if chance.random() < 0.5:
                await tx.documents.patch(documents[who].id, title=str(new_id()))
            else:
                collection = await tx.collections.insert(new_id(), name=str(new_id()), description=None, metadata={})
                await tx.collections.add(collection.id, documents[who].id, None)
        counted[who] += 1
        assert {each: await epoch_of(each) for each in principals} == counted


async def test_the_same_question_and_key_of_two_tenants_get_their_own_answers(database, worker_database, superuser, tmp_path):
    world = await made(
        tenants=2, documents=2, database=database, worker_database=worker_database, superuser=superuser, folder=tmp_path, dice=dice("questions")
    )
    chance, hits, replays = dice("asked"), 0, 0
    transport = httpx.ASGITransport(world.app)
    async with httpx.AsyncClient(transport=transport, base_url="http://docray") as client:
        for number in range(SIZES.cache_examples):
            question = chance.choice(("Which valve was opened?", "harbour bridge repaired", "the pride of the town"))
            path, body = chance.choice((("/v1/search", {"query": question}), ("/v1/ask", {"question": question, "stream": chance.random() < 0.3})))
            key = f"{path} {number if chance.random() < 0.7 else 'again'} {body}"
            headers = [{"Authorization": f"Bearer {owner.secrets[USERS[0]]}", "Idempotency-Key": key} for owner in world.owners]
            answers = await asyncio.gather(*(client.post(path, json=body, headers=one) for one in headers))
            for owner, answer in zip(world.owners, answers, strict=True):
                assert answer.status_code == 200
                hits += len(world.foreign_in(answer.text, owner))
                replays += "idempotent-replayed" in answer.headers
                assert any(world.owner_of.get(token) == owner.number for token in TOKEN.findall(answer.text))
    FIGURES.append(f"A8 {2 * SIZES.cache_examples} identical questions of 2 tenants, {replays} replayed: {hits} cross hits")
    assert hits == 0
    assert replays


async def test_that_a_tenant_has_text_of_another_script_is_remembered_for_it_alone(database, worker_database, superuser, tmp_path):
    """The index remembers by tenant whether to look for n-grams; the question is the same, the tenants are not."""
    world = await made(
        tenants=2, documents=1, database=database, worker_database=worker_database, superuser=superuser, folder=tmp_path, dice=dice("script")
    )
    one, other = world.owners
    world.index._with_grams[one.tenant_id] = True
    await world.index.search_keyword(other.tenant_id, "harbour", 5, Scope())
    assert other.tenant_id not in world.index._with_grams
