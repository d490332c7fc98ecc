"""A1: tenants full of canaries, every route by every credential, others' ids and words in every place: nothing of theirs comes back."""

import time
from statistics import median

import httpx

from docray.domain.errors import Unavailable
from docray.domain.ids import new_id
from tests.isolation.fuzz import fuzz, places
from tests.isolation.sizes import FIGURES, SIZES, dice
from tests.isolation.world import BREAKING, TOKEN, USERS, canary, made


async def test_nobody_sees_or_changes_anything_of_another_tenant(database, worker_database, superuser, tmp_path, log_text):
    chance = dice("fuzz")
    world = await made(
        tenants=SIZES.tenants, documents=SIZES.documents, database=database, worker_database=worker_database, superuser=superuser,
        folder=tmp_path, dice=chance,
    )  # fmt: skip
    before = await world.fingerprints(world.victims)
    report = await fuzz(world, SIZES.requests, chance)
    FIGURES.append(f"A1 {report.figure()}")

    assert report.leaks[:3] == []
    assert report.differences[:3] == []
    assert await world.fingerprints(world.victims) == before
    assert await world.foreign_rows() == []
    assert world.foreign_prompts() == []
    assert set(TOKEN.findall(log_text())) & {token for token in world.owner_of if token.startswith(("canary", "dr_")) or len(token) == 64} == set()

    # What was sent is what was meant: every place of every route, answers that do show one's own, prompts for the model. That each route
    # answers those who may is the matrix' business.
    assert places(world) - report.positions == set()
    assert {status for counts in report.statuses.values() for status in counts} >= {200, 201, 202, 401, 403, 404, 422}
    assert report.own_tokens > report.sent // 20
    assert world.llm.calls


async def test_logs_of_what_breaks_say_nothing_of_what_was_asked(database, worker_database, superuser, tmp_path, log_text):
    """The embedder fails with the question in its message, the model with a passage in its own, before and within an answer."""
    world = await made(
        tenants=2, documents=1, database=database, worker_database=worker_database, superuser=superuser, folder=tmp_path, dice=dice("logs")
    )
    owner, asked = world.attackers[0], canary()
    headers = {"Authorization": f"Bearer {owner.secrets[USERS[0]]}", "X-Request-Id": "known"}
    document = owner.documents[0]
    world.llm.faults.error = lambda: Unavailable(f"cannot say {document.text}")
    async with httpx.AsyncClient(transport=httpx.ASGITransport(world.app, False), base_url="http://docray", headers=headers) as client:
        for path, name in (("/v1/search", "query"), ("/v1/ask", "question")):
            assert (await client.post(path, json={name: f"{BREAKING} {asked}"})).status_code == 500
        for faults in ({"before_first": 1}, {"after_pieces": 3}):
            for name, value in faults.items():
                setattr(world.llm.faults, name, value)
            for stream in (False, True):
                await client.post("/v1/ask", json={"question": f"Which valve of the harbour {asked}?", "stream": stream})
        await client.post("/v1/documents", params={"filename": f"{asked}.pdf", "title": asked}, content=b"%PDF-1.7 " + asked.encode(),
                          headers={"Content-Type": "application/pdf", "Idempotency-Key": asked})  # fmt: skip
        await client.post("/v1/collections", json={"name": owner.collections[0].name})
        await client.get("/v1/documents", params={"q": asked, "after": asked, asked: asked})
        await client.get(f"/v1/{asked}/{document.title}", headers={"Authorization": f"Bearer {asked}"})
    told = log_text()
    assert told.count("request_broke") >= 2
    assert told.count('"action":"request"') >= 9
    assert [word for word in (asked, "cannot", *TOKEN.findall(str(document) + str(owner.secrets))) if word in told and not _is_id(word)] == []


def _is_id(token: str) -> bool:
    """Ids may stand in logs."""
    return token.count("-") == 4


async def test_the_time_of_a_refusal_is_measured(database, worker_database, superuser, tmp_path):
    """A figure, not a bar: one caller alone, foreign and absent ids by turns."""
    chance = dice("times")
    world = await made(
        tenants=2, documents=1, database=database, worker_database=worker_database, superuser=superuser, folder=tmp_path, dice=chance
    )
    victim, attacker = world.owners
    times: dict[str, list[float]] = {"foreign": [], "absent": []}
    headers = {"Authorization": f"Bearer {attacker.secrets[USERS[0]]}"}
    async with httpx.AsyncClient(transport=httpx.ASGITransport(world.app), base_url="http://docray", headers=headers) as client:
        for _ in range(SIZES.timed_pairs):
            for which in chance.sample(("foreign", "absent"), 2):
                begun = time.perf_counter()
                response = await client.get(f"/v1/documents/{victim.documents[0].id if which == 'foreign' else new_id()}")
                times[which].append(time.perf_counter() - begun)
                assert response.status_code == 404
    foreign, absent = (median(times[which]) * 1000 for which in ("foreign", "absent"))
    apart = median([one - other for one, other in zip(times["foreign"], times["absent"], strict=True)]) * 1000
    FIGURES.append(f"A1 {SIZES.timed_pairs} pairs by one caller: foreign {foreign:.2f} ms, absent {absent:.2f} ms, median difference {apart:+.3f} ms")
