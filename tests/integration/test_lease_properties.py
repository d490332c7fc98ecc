"""Leases and fences against a model: workers, takeovers, deletes, replacements and purges in any order, on the real SQL.

Time is virtual: a lease runs out because its row is moved into the past, never because a test waits. Every lease that was ever handed
out may be used again at any later moment, as a worker that slept would.
"""

import asyncio
import contextlib
import uuid
from collections.abc import Coroutine
from dataclasses import dataclass, field
from typing import Any

import asyncpg
import pytest
from catalog_factories import a_document, chunks_of, sha256_of, some_pages, take_to
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test
from postgres_fixture import TEMPLATE, as_superuser

from docray.domain.catalog import DocumentQuery, Paging
from docray.domain.documents import Failure, FailureCode, Stage, State
from docray.domain.errors import LostLease, NotFailed, NotFound
from docray.domain.ids import new_id
from docray.domain.jobs import ACTIVE, Lease, Purge
from docray.domain.principals import ApiKey, Principal, Scope, Tenant
from docray.instance import postgres
from docray.stores.postgres import Database
from docray.stores.postgres_catalog import PostgresCatalog
from docray.stores.postgres_jobs import PostgresJobQueue
from docray.stores.postgres_keys import PostgresTenants

PAGES = some_pages(1, words=2)
MAX_TAKEOVERS = 5
NEXT = {State.QUEUED: State.PARSED, State.PARSED: State.EMBEDDED, State.EMBEDDED: State.INDEXED, State.INDEXED: State.READY}


@dataclass
class Generation:
    """What the model knows of a generation."""

    state: State = State.QUEUED
    fence: int = 0
    leased: bool = False
    expired: bool = False
    takeovers: int = 0


@dataclass
class Paper:
    """What the model knows of a document."""

    live: int | None = None
    deleted: bool = False
    version: int = 0
    generations: dict[int, Generation] = field(default_factory=dict)

    @property
    def newest(self) -> int:
        return max(self.generations)

    @property
    def state(self) -> State:
        return State.READY if self.live else self.generations[self.newest].state


class World:
    """The database under test, emptied before each run."""

    def __init__(self, folder, name: str, runner: asyncio.Runner) -> None:
        self._folder, self._name, self._runner = folder, name, runner

    def do(self, work: Coroutine[Any, Any, Any]) -> Any:
        return self._runner.run(work)

    async def open(self) -> None:
        self.database = Database(postgres.dsn(self._folder, "docray_app", self._name), pool_size=2)
        self.workers = Database(postgres.dsn(self._folder, "docray_worker", self._name), pool_size=2)
        self.superuser = await asyncpg.connect(postgres.dsn(self._folder, postgres.SUPERUSER, self._name))
        await self.database.open()
        await self.workers.open()
        self.catalog, self.queue = PostgresCatalog(self.database), PostgresJobQueue(self.workers)

    async def close(self) -> None:
        await self.database.close()
        await self.workers.close()
        await self.superuser.close()

    async def start_over(self) -> Principal:
        await self.superuser.execute("TRUNCATE docray.tenants CASCADE")
        tenant = Tenant(id=new_id(), name=str(uuid.uuid4()), created_at=await self.superuser.fetchval("SELECT now()"))
        key = ApiKey(id=new_id(), name="k", scopes=frozenset({Scope.ADMIN}), prefix="", created_at=tenant.created_at)
        await PostgresTenants(self.database).create(tenant, key, uuid.uuid4().bytes, operator=False)
        return Principal(kind="api_key", id=key.id, name="k", tenant_id=tenant.id, tenant_name=tenant.name, scopes=key.scopes)


class LeaseMachine(RuleBasedStateMachine):
    """Compares every outcome with what the model says it must be."""

    world: World  # set on the class by the test

    def __init__(self) -> None:
        super().__init__()
        self.principal = self.world.do(self.world.start_over())
        self.papers: dict[uuid.UUID, Paper] = {}
        self.leases: list[Lease] = []
        self.purges: list[Purge] = []
        self.steps = 0

    # --- what callers do ------------------------------------------------------------------------------------------------

    @precondition(lambda self: sum(not paper.deleted for paper in self.papers.values()) < 2)  # few, so that events meet
    @rule()
    def upload(self) -> None:
        document = self._in_transaction(lambda tx: tx.documents.insert(a_document()))
        self.papers[document.id] = Paper(generations={1: Generation()})

    @precondition(lambda self: self.papers)
    @rule(data=st.data())
    def replace(self, data) -> None:
        document_id, paper = self._pick(data)
        self.steps += 1
        make = lambda tx: tx.documents.insert_generation(document_id, sha256=sha256_of(str(self.steps)), size_bytes=1, filename=None)  # noqa: E731
        if paper.deleted:
            self._refused(NotFound, make)
            return
        document, number = self._in_transaction(make)
        assert number == paper.newest + 1
        for one, generation in paper.generations.items():
            if one != paper.live:
                generation.state = State.DELETING
        paper.generations[number] = Generation()
        assert document.state is paper.state
        assert document.generation == (paper.live or number)

    @precondition(lambda self: self.papers)
    @rule(data=st.data())
    def delete(self, data) -> None:
        document_id, paper = self._pick(data)
        if paper.deleted:
            self._refused(NotFound, lambda tx: tx.documents.mark_deleting(document_id))
            return
        self._in_transaction(lambda tx: tx.documents.mark_deleting(document_id))
        paper.deleted, paper.live = True, None
        for generation in paper.generations.values():
            generation.state = State.DELETING

    @precondition(lambda self: self.papers)
    @rule(data=st.data())
    def retry(self, data) -> None:
        document_id, paper = self._pick(data)
        newest = paper.generations[paper.newest]
        if paper.deleted:
            self._refused(NotFound, lambda tx: tx.documents.requeue(document_id))
        elif newest.state is not State.FAILED:
            self._refused(NotFailed, lambda tx: tx.documents.requeue(document_id))
        else:
            self._in_transaction(lambda tx: tx.documents.requeue(document_id))
            newest.state, newest.leased, newest.takeovers = State.QUEUED, False, 0

    # --- what workers do ------------------------------------------------------------------------------------------------

    @rule(worker=st.sampled_from(["one", "two"]))
    def lease(self, worker) -> None:
        every = {(d, n) for d, paper in self.papers.items() for n in paper.generations}
        waiting = self.world.do(self._waits_for_a_purge(every))
        given = self.world.do(self.world.queue.lease(worker, 3600.0))
        self._fail_those_taken_over_too_often()
        free = {(d, n) for d, paper in self.papers.items() for n, g in paper.generations.items() if g.state in ACTIVE and (not g.leased or g.expired)}
        if given is None:
            assert free <= waiting, "a free job was not given"
            return
        assert (given.document_id, given.generation) in free - waiting
        generation = self.papers[given.document_id].generations[given.generation]
        assert given.fence > generation.fence
        assert given.state is generation.state
        generation.takeovers += generation.leased
        generation.fence, generation.leased, generation.expired = given.fence, True, False
        self.leases.append(given)

    @precondition(lambda self: self.leases)
    @rule(data=st.data())
    def time_passes_over_a_lease(self, data) -> None:
        lease = data.draw(st.sampled_from(self.leases[-4:]))
        generation = self._of(lease)
        self.world.do(self._expire(lease))
        if generation and generation.fence == lease.fence:
            generation.expired = True

    @precondition(lambda self: self.leases)
    @rule(data=st.data())
    def work_on(self, data) -> None:
        """The next step of the state that the worker believes its job to be in."""
        lease = data.draw(st.sampled_from(self.leases[-4:]))
        believed = data.draw(st.sampled_from(list(NEXT)))
        holds = self._holds(lease) and self._of(lease).state is believed
        assert self._outcome(_step(self.world.queue, lease, believed)) is holds, f"{lease} in {believed}"
        if holds:
            self._reached(lease, NEXT[believed])

    @precondition(lambda self: self.leases)
    @rule(data=st.data(), goal=st.sampled_from([State.PARSED, State.INDEXED, State.INDEXED, State.READY]))
    def work_as_far_as(self, data, goal) -> None:
        """A worker that knows where its job stands, whether or not it still holds it."""
        lease = data.draw(st.sampled_from(self.leases[-4:]))
        generation = self._of(lease)
        while generation.state in ACTIVE and generation.state is not goal:
            state, holds = generation.state, self._holds(lease)
            assert self._outcome(_step(self.world.queue, lease, state)) is holds, f"{lease} in {state}"
            if not holds:
                return
            self._reached(lease, NEXT[state])

    @precondition(lambda self: self.leases)
    @rule(data=st.data(), what=st.sampled_from(["heartbeat", "progress", "fail", "retry_later", "release"]))
    def record(self, data, what) -> None:
        lease = data.draw(st.sampled_from(self.leases[-4:]))
        queue, holds = self.world.queue, self._holds(lease)
        call = {
            "heartbeat": lambda: queue.heartbeat(lease, 3600.0),
            "progress": lambda: queue.progress(lease, Stage.EXTRACT, 1, 2),
            "fail": lambda: queue.fail(lease, Failure.of(FailureCode.DAMAGED)),
            "retry_later": lambda: queue.retry_later(lease, 0.0),
            "release": lambda: queue.release(lease),
        }[what]()
        succeeded = self._outcome(call)
        assert succeeded is (holds or what == "release")
        generation = self._of(lease)
        if generation and generation.fence == lease.fence and what == "release":
            generation.leased = generation.expired = False
        elif holds and what == "heartbeat":
            generation.expired = False
        elif holds and what == "retry_later":
            generation.leased = generation.expired = False
        elif holds and what == "fail":
            generation.state, generation.leased, generation.fence = State.FAILED, False, generation.fence + 1

    @precondition(lambda self: any(self._holds(lease) for lease in self.leases))
    @rule(data=st.data(), goal=st.sampled_from([State.PARSED, State.INDEXED]))
    def fail_late_and_retry(self, data, goal) -> None:
        """The retry must not start before what the failed try wrote is purged."""
        lease = data.draw(st.sampled_from([lease for lease in self.leases if self._holds(lease)]))
        generation = self._of(lease)
        while generation.state is not goal and generation.state is not State.INDEXED:
            assert self._outcome(_step(self.world.queue, lease, generation.state))
            self._reached(lease, NEXT[generation.state])
        assert self._outcome(self.world.queue.fail(lease, Failure.of(FailureCode.DAMAGED)))
        self._in_transaction(lambda tx: tx.documents.requeue(lease.document_id))
        generation.state, generation.leased, generation.expired, generation.takeovers = State.QUEUED, False, False, 0
        generation.fence += 1

    @rule()
    def lease_a_purge(self) -> None:
        purge = self.world.do(self.world.queue.lease_purge("purger", 3600.0))
        if purge is None:
            return
        paper = self.papers[purge.document_id]
        assert purge.generation is None or purge.generation != paper.live
        for number, generation in paper.generations.items():
            if purge.generation in (None, number):
                assert not generation.leased or generation.expired, "a purge beside a running lease"
        self.purges.append(purge)

    @precondition(lambda self: self.purges)
    @rule(data=st.data())
    def finish_a_purge(self, data) -> None:
        self._outcome(self.world.queue.finish_purge(data.draw(st.sampled_from(self.purges))))

    @rule()
    def time_passes_over_purges(self) -> None:
        self.world.do(self.world.superuser.execute("UPDATE docray.purges SET lease_until = now() - interval '1 s' WHERE lease_until IS NOT NULL"))

    # --- what must hold at any moment -----------------------------------------------------------------------------------

    @invariant()
    def what_callers_see_is_what_the_model_says(self) -> None:
        seen = {document.id: document for document in self._visible()}
        assert set(seen) == {d for d, paper in self.papers.items() if not paper.deleted}
        for document_id, document in seen.items():
            paper = self.papers[document_id]
            assert document.state is paper.state
            assert document.generation == (paper.live or paper.newest)
            assert document.version >= paper.version
            paper.version = document.version

    @invariant()
    def a_live_generation_has_its_passages_and_no_purge(self) -> None:
        broken = self.world.do(
            self.world.superuser.fetch(
                "SELECT d.id FROM docray.documents d WHERE d.live_generation IS NOT NULL AND d.deleted_at IS NULL AND ("
                " NOT EXISTS (SELECT FROM docray.chunks c WHERE c.document_id = d.id AND c.generation = d.live_generation)"
                " OR EXISTS (SELECT FROM docray.purges p WHERE p.document_id = d.id AND p.generation = d.live_generation))"
            )
        )
        assert broken == []

    def teardown(self) -> None:
        """Whatever happened, healthy workers bring it to an end in which nothing is left over."""
        self.world.do(self._drain())
        for document in self._visible():
            assert document.state in (State.READY, State.FAILED)
        left = self.world.do(
            self.world.superuser.fetchrow(
                "SELECT (SELECT count(*) FROM docray.purges) AS purges,"
                " (SELECT count(*) FROM docray.documents WHERE deleted_at IS NOT NULL) AS deleted,"
                " (SELECT count(*) FROM docray.chunks c JOIN docray.documents d ON d.id = c.document_id"
                "  WHERE c.generation IS DISTINCT FROM d.live_generation) AS orphans"
            )
        )
        assert tuple(left) == (0, 0, 0)

    # --- helpers --------------------------------------------------------------------------------------------------------

    def _in_transaction(self, step) -> Any:
        async def run():
            async with self.world.catalog.transaction(self.principal) as tx:
                return await step(tx)

        return self.world.do(run())

    def _refused(self, error: type[Exception], step) -> None:
        with pytest.raises(error):
            self._in_transaction(step)

    def _outcome(self, call: Coroutine[Any, Any, None]) -> bool:
        """Whether the database let the worker do it."""
        try:
            self.world.do(call)
        except LostLease:
            return False
        return True

    def _pick(self, data) -> tuple[uuid.UUID, Paper]:
        document_id = data.draw(st.sampled_from(list(self.papers)[-3:]))
        return document_id, self.papers[document_id]

    def _of(self, lease: Lease) -> Generation | None:
        return self.papers[lease.document_id].generations.get(lease.generation)

    def _holds(self, lease: Lease) -> bool:
        generation = self._of(lease)
        return generation is not None and generation.fence == lease.fence and generation.state in ACTIVE

    def _reached(self, lease: Lease, state: State) -> None:
        paper, generation = self.papers[lease.document_id], self._of(lease)
        generation.state = state
        if state is State.READY:
            if paper.live:
                paper.generations[paper.live].state = State.DELETING
            paper.live, generation.leased = lease.generation, False

    def _fail_those_taken_over_too_often(self) -> None:
        """`lease` fails them on its way; which ones it came by is read from the rows, that it was right is checked."""
        crashed = "SELECT document_id, generation, fence FROM docray.generations WHERE failure_code = 'parser_crash'"
        rows = self.world.do(self.world.superuser.fetch(crashed))
        for row in rows:
            generation = self.papers[row["document_id"]].generations[row["generation"]]
            if generation.state in ACTIVE:
                assert generation.leased
                assert generation.expired
                assert generation.takeovers >= MAX_TAKEOVERS
                generation.state, generation.leased, generation.fence = State.FAILED, False, row["fence"]

    def _visible(self) -> list[Any]:
        return list(self._in_transaction(lambda tx: tx.documents.list(DocumentQuery(), Paging(limit=200))).items)

    async def _waits_for_a_purge(self, jobs: set[tuple[uuid.UUID, int]]) -> set[tuple[uuid.UUID, int]]:
        rows = await self.world.superuser.fetch("SELECT document_id, generation FROM docray.purges")
        return jobs & {(row["document_id"], row["generation"]) for row in rows}

    async def _expire(self, lease: Lease) -> None:
        await self.world.superuser.execute(
            "UPDATE docray.generations SET lease_until = now() - interval '1 s' WHERE document_id = $1 AND generation = $2 AND fence = $3"
            " AND lease_until IS NOT NULL", lease.document_id, lease.generation, lease.fence,
        )  # fmt: skip

    async def _drain(self) -> None:
        queue = self.world.queue
        for table in ("generations", "purges"):
            await self.world.superuser.execute(f"UPDATE docray.{table} SET lease_until = now() - interval '1 s' WHERE lease_until IS NOT NULL")
        for _ in range(3):
            while purge := await queue.lease_purge("drain", 3600.0):
                await queue.finish_purge(purge)
            while lease := await queue.lease("drain", 3600.0):
                state = lease.state
                while state is not State.READY:
                    await _step(queue, lease, state)
                    state = NEXT[state]


async def _step(queue: PostgresJobQueue, lease: Lease, state: State) -> None:
    match state:
        case State.QUEUED:
            await queue.record_parsed(lease, PAGES, chunks_of(PAGES), None)
        case State.INDEXED:
            await queue.publish(lease)
        case _:
            await queue.record_state(lease, state, NEXT[state])


@pytest.fixture
def world(postgres_template):
    name = f"leases_{uuid.uuid4().hex[:8]}"
    with asyncio.Runner() as runner:
        made = World(postgres_template, name, runner)
        made.do(as_superuser(postgres_template, f"CREATE DATABASE {name} TEMPLATE {TEMPLATE}"))
        made.do(made.open())
        yield made
        made.do(made.close())
        made.do(as_superuser(postgres_template, f"DROP DATABASE {name} WITH (FORCE)"))


def test_leases_and_fences_hold_in_any_order_of_events(world):
    machine = type("BoundLeaseMachine", (LeaseMachine,), {"world": world})
    chosen = settings(max_examples=30, stateful_step_count=50, deadline=None, suppress_health_check=list(HealthCheck), print_blob=True)
    run_state_machine_as_test(machine, settings=chosen)


@pytest.mark.parametrize("meanwhile", ["delete", "replace"])
async def test_a_race_with_every_step_of_a_worker_has_one_winner(catalog, queue, principal, meanwhile):
    """The race is real: both run at once, repeatedly, and whoever wins, nothing deleted or superseded is ever published."""

    async def interfere(document_id):
        async with catalog.transaction(principal) as tx:
            if meanwhile == "delete":
                await tx.documents.mark_deleting(document_id)
            else:
                await tx.documents.insert_generation(document_id, sha256=sha256_of("other"), size_bytes=1, filename=None)

    async def work(lease):
        with contextlib.suppress(LostLease):
            await take_to(queue, lease, State.READY, PAGES)

    for delay in range(24):
        async with catalog.transaction(principal) as tx:
            document = await tx.documents.insert(a_document())
        lease = await queue.lease("w", 60.0)
        assert lease is not None
        worker = asyncio.create_task(work(lease))
        for _ in range(delay * 4):
            await asyncio.sleep(0)
        await interfere(document.id)
        await worker
        await queue.release(lease)
        async with catalog.transaction(principal) as tx:
            if meanwhile == "delete":
                with pytest.raises(NotFound):
                    await tx.documents.get(document.id)
            else:
                now = await tx.documents.get(document.id)
                assert (now.generation, now.state) in ((1, State.READY), (2, State.QUEUED))
                assert now.generation == 2 or now.replacement.generation == 2
                await tx.documents.mark_deleting(document.id)
    while purge := await queue.lease_purge("p", 60.0):
        await queue.finish_purge(purge)
