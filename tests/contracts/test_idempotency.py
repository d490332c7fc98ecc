"""What every store of idempotency keys promises: one effect, the first answer again, keys of one principal and route."""

import asyncio
import dataclasses
import uuid

import pytest

from docray.domain.errors import IdempotencyInProgress, IdempotencyKeyReused, LostLease
from docray.domain.idempotency import IdempotencyClaim
from docray.domain.ids import new_id
from docray.domain.jobs import StoredResponse
from docray.stores.postgres_idempotency import PostgresIdempotency

ROUTE = "POST /v1/collections"
ANSWER = StoredResponse(status=201, body=b'{"id":"1"}', headers=(("ETag", '"1"'), ("X-More", "é")))


@pytest.fixture
def store(database):
    return PostgresIdempotency(database)


async def abandon(superuser):
    """The process of every claim died more than 60 s ago."""
    await superuser.execute("UPDATE docray.idempotency_keys SET claimed_until = clock_timestamp() - interval '1 s'")


async def test_the_first_answer_comes_again(store, principal):
    claim = await store.claim(principal, ROUTE, "k", b"f")
    assert isinstance(claim, IdempotencyClaim)
    await store.finish(claim, ANSWER)
    assert await store.claim(principal, ROUTE, "k", b"f") == ANSWER


async def test_a_second_request_waits_while_the_first_runs(store, principal):
    await store.claim(principal, ROUTE, "k", b"f")
    with pytest.raises(IdempotencyInProgress) as caught:
        await store.claim(principal, ROUTE, "k", b"f")
    assert caught.value.retry_after_s


@pytest.mark.parametrize("done", [False, True])
async def test_another_request_under_the_same_key_is_refused(store, principal, done):
    claim = await store.claim(principal, ROUTE, "k", b"f")
    if done:
        await store.finish(claim, ANSWER)
    with pytest.raises(IdempotencyKeyReused):
        await store.claim(principal, ROUTE, "k", b"other")


async def test_keys_of_other_tenants_principals_and_routes_are_others(store, principal, other_principal):
    colleague = dataclasses.replace(principal, id=new_id())
    claims = [(principal, ROUTE), (principal, "POST /v1/documents"), (colleague, ROUTE), (other_principal, ROUTE)]
    for who, route in claims:
        await store.finish(await store.claim(who, route, "k", b"f"), dataclasses.replace(ANSWER, body=f"{who.id}{route}".encode()))
    for who, route in claims:
        assert (await store.claim(who, route, "k", b"f")).body == f"{who.id}{route}".encode()


async def test_two_hundred_at_once_have_one_effect(store, catalog, principal):
    async def request():
        try:
            claim = await store.claim(principal, ROUTE, "k", b"f")
        except IdempotencyInProgress:
            return "busy"
        if isinstance(claim, StoredResponse):
            return "again"
        async with catalog.transaction(principal) as tx:
            await tx.collections.insert(new_id(), name=str(uuid.uuid4()), description=None, metadata={})
            await tx.remember(claim, ANSWER)
        return "first"

    results = await asyncio.gather(*(request() for _ in range(200)))
    assert results.count("first") == 1
    assert await request() == "again"


async def test_a_released_key_is_free_again_for_any_request(store, principal):
    await store.release(await store.claim(principal, ROUTE, "k", b"f"))
    claim = await store.claim(principal, ROUTE, "k", b"other")
    await store.finish(claim, ANSWER)
    await store.release(claim)
    assert await store.claim(principal, ROUTE, "k", b"other") == ANSWER


async def test_a_claim_whose_process_died_is_taken_over_and_its_effect_is_refused(store, catalog, principal, superuser):
    dead = await store.claim(principal, ROUTE, "k", b"f")
    await abandon(superuser)
    alive = await store.claim(principal, ROUTE, "k", b"f")

    async def take_effect(claim):
        async with catalog.transaction(principal) as tx:
            await tx.collections.insert(new_id(), name="once", description=None, metadata={})
            await tx.remember(claim, ANSWER)

    with pytest.raises(LostLease):
        await take_effect(dead)
    with pytest.raises(LostLease):
        await store.extend(dead)
    await store.finish(dead, dataclasses.replace(ANSWER, body=b"dead"))
    await store.release(dead)
    await take_effect(alive)
    assert await store.claim(principal, ROUTE, "k", b"f") == ANSWER


async def test_a_long_request_keeps_its_claim(store, principal, superuser):
    claim = await store.claim(principal, ROUTE, "k", b"f")
    await abandon(superuser)
    await store.extend(claim)
    with pytest.raises(IdempotencyInProgress):
        await store.claim(principal, ROUTE, "k", b"f")


async def test_the_answer_is_stored_with_its_effect_or_not_at_all(store, catalog, principal):
    claim = await store.claim(principal, ROUTE, "k", b"f")

    async def break_off():
        async with catalog.transaction(principal) as tx:
            await tx.remember(claim, ANSWER)
            raise RuntimeError

    with pytest.raises(RuntimeError):
        await break_off()
    with pytest.raises(IdempotencyInProgress):
        await store.claim(principal, ROUTE, "k", b"f")


async def test_a_key_is_forgotten_after_its_time(store, principal, superuser):
    await store.finish(await store.claim(principal, ROUTE, "k", b"f"), ANSWER)
    await superuser.execute("UPDATE docray.idempotency_keys SET created_at = now() - interval '24 h 1 s'")
    assert isinstance(await store.claim(principal, ROUTE, "k", b"other"), IdempotencyClaim)
