"""Tenants full of canaries: 128 bits of chance in every text of theirs, and who owns each of them and each id.

Rows come through the catalogue and the index as a worker writes them, with vectors of a fake embedder. Half of the tenants attack, the
others only lie there, so that nothing of theirs may change.
"""

import random
import re
import secrets
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID

import asyncpg
import numpy as np
from answering_library import page_of
from catalog_factories import a_document, chunks_of, take_to
from fastapi import FastAPI

from docray.answering.retrieval import SearchService
from docray.answering.service import AnswerService
from docray.api.app import create_app
from docray.api.services import Services
from docray.domain.bulk import Ended, FileState, SourceFile
from docray.domain.documents import State
from docray.domain.ids import blob_key, chunk_id, new_id
from docray.domain.jobs import StoredResponse
from docray.domain.ports import Vectors
from docray.domain.principals import Principal, Scope, Tenant
from docray.domain.reindexes import IndexForm, NewReindex, Switch
from docray.security.api_keys import make_key
from docray.settings import Settings
from docray.stores import cursors
from docray.stores.filesystem_blobs import FilesystemBlobs
from docray.stores.pgvector_index import PgVectorIndex
from docray.stores.postgres import Database
from docray.stores.postgres_catalog import PostgresCatalog
from docray.stores.postgres_idempotency import PostgresIdempotency
from docray.stores.postgres_jobs import PostgresJobQueue
from docray.stores.postgres_keys import PostgresCredentials, PostgresTenants
from models.fakes import FakeLlm, obedient
from tests.integration.api_harness import ScriptedPictures, a_pdf, sha256_of

TOKEN = re.compile(
    r"canary[bcdfghjklmnpqrtv]{32}|[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}|(?<![0-9a-f])[0-9a-f]{64}(?![0-9a-f])|dr_[0-9a-f]{12}"
)
"""What may have an owner: canaries, ids, hashes and secrets, beginnings of secrets."""

_ASKED = re.compile(r'"(query|conversation_id)":"[^"]*"')

BREAKING = "unspeakable"
"""A question with this word breaks the embedder, with the question in the message of the exception."""

_VOCABULARY = ("valve", "harbour", "opened", "bridge", "repaired", "committee", "library", "glacier", "violin", "tram")
USERS = (frozenset({Scope.ADMIN}), frozenset({Scope.INGEST}), frozenset({Scope.SEARCH, Scope.ASK}))


def canary() -> str:
    """128 bits that stand nowhere else, in letters of which no number, ending or word can come: answers go by the form of words too."""
    return "canary" + "".join(secrets.choice("bcdfghjklmnpqrtv") for _ in range(32))


class WordVectors:
    """An Embedder: a direction for each word that it knows. Two texts that differ in a canary have the same vector."""

    model_id, dimension, max_tokens = "words", len(_VOCABULARY) + 1, 256

    async def embed_queries(self, texts: Sequence[str]) -> Vectors:
        """Counts words. RuntimeError, telling the text, for one with BREAKING in it."""
        for text in texts:
            if BREAKING in text:
                raise RuntimeError(f"cannot embed {text}")
        return self._vectors(texts)

    async def embed_passages(self, texts: Sequence[str]) -> Vectors:
        """Counts words."""
        return self._vectors(texts)

    async def count_tokens(self, texts: Sequence[str]) -> list[int]:
        """Words."""
        return [len(text.split()) for text in texts]

    def _vectors(self, texts: Sequence[str]) -> Vectors:
        counts = np.ones((len(texts), self.dimension), np.float32)
        for row, text in enumerate(texts):
            counts[row, :-1] = [text.lower().count(word) for word in _VOCABULARY]
        return counts / np.linalg.norm(counts, axis=1, keepdims=True)


@dataclass(kw_only=True)
class Doc:
    """A document and the canaries in it. `chunks` are its passages' ids."""

    id: UUID
    created_at: datetime
    filename: str
    title: str
    metadata: str
    text: str
    data: bytes
    chunks: list[UUID] = field(default_factory=list)


@dataclass(kw_only=True)
class Place:
    """A collection or key: something with an id, a time and a name."""

    id: UUID
    created_at: datetime
    name: str


@dataclass(kw_only=True)
class Owner:
    """A tenant. `documents[0]` and `collections[0]` are its baits: what others may copy from, and so own themselves afterwards."""

    number: int
    principal: Principal
    secrets: dict[frozenset[Scope], str] = field(default_factory=dict)
    dead: list[str] = field(default_factory=list)  # an expired and a revoked key
    documents: list[Doc] = field(default_factory=list)
    collections: list[Place] = field(default_factory=list)
    keys: list[Place] = field(default_factory=list)
    jobs: list[Place] = field(default_factory=list)
    reindexes: list[Place] = field(default_factory=list)
    idempotency_key: str = ""
    scratch: dict[str, list[str]] = field(default_factory=lambda: {"document": [], "collection": [], "key": [], "job": [], "reindex": []})
    cursors: dict[str, list[str]] = field(default_factory=dict)
    copied: set[str] = field(default_factory=set)
    spent: set[str] = field(default_factory=set)

    @property
    def tenant_id(self) -> UUID:
        """The tenant's id."""
        return self.principal.tenant_id


@dataclass(kw_only=True)
class World:
    """Every tenant, the app over all of them, and whose each token is."""

    app: FastAPI
    index: PgVectorIndex  # as a worker has it
    llm: FakeLlm
    blobs: Path
    superuser: asyncpg.Connection
    owners: list[Owner]
    attackers: list[Owner]
    victims: list[Owner]
    owner_of: dict[str, int] = field(default_factory=dict)

    def own(self, owner: Owner, *tokens: object) -> None:
        """Notes whose these are."""
        for token in tokens:
            for found in TOKEN.findall(str(token)):
                self.owner_of.setdefault(found, owner.number)

    def foreign_in(self, text: str, owner: Owner, known: set[str] | frozenset[str] = frozenset()) -> set[str]:
        """Others' tokens in a text that this owner got, but for those it copied or has just sent."""
        found = set(TOKEN.findall(text))
        return {one for one in found if self.owner_of.get(one, owner.number) != owner.number and one not in owner.copied and one not in known}

    async def fingerprints(self, owners: Sequence[Owner]) -> dict[str, dict[UUID, str]]:
        """A hash over every row of every table, and over the files, of these tenants."""
        wanted = [owner.tenant_id for owner in owners]
        found: dict[str, dict[UUID, str]] = {}
        for table in await tables(self.superuser):
            rows = await self.superuser.fetch(
                f"SELECT tenant_id, md5(string_agg(t::text, ' ' ORDER BY t::text)) AS hash FROM docray.{table} t"
                " WHERE tenant_id = ANY ($1) GROUP BY tenant_id", wanted,
            )  # fmt: skip
            found[table] = {row["tenant_id"]: row["hash"] for row in rows}
        found["blobs"] = {
            owner.tenant_id: sha256_of(b"".join(sorted(file.read_bytes() for file in self.blobs.rglob(f"{owner.tenant_id}/**/*.pdf"))))
            for owner in owners
        }
        return found

    async def foreign_rows(self, but: Sequence[str] = ()) -> list[str]:
        """Rows that hold a token of another tenant than their own, in all tables but some."""
        by_tenant = {owner.tenant_id: owner for owner in self.owners}
        found = []
        for table in set(await tables(self.superuser)) - set(but):
            body = " || coalesce(encode(t.body, 'escape'), '')" if table == "idempotency_keys" else ""
            for tenant_id, text in await self.superuser.fetch(f"SELECT tenant_id, t::text{body} FROM docray.{table} t"):
                text = _ASKED.sub("", text)  # an answer that is kept repeats what was asked
                if tenant_id in by_tenant and (foreign := self.foreign_in(text, by_tenant[tenant_id])):
                    found.append(f"{table}: {foreign}")
        return found

    def foreign_prompts(self) -> list[str]:
        """What the language model was given to read that is of no one tenant alone."""
        found = []
        for call in self.llm.calls:
            given = "".join(text for message in call.messages for text in re.findall(r"<passage .*?</passage>", message.content, re.DOTALL))
            if given and all(self.foreign_in(given, owner) for owner in self.attackers):
                found.append(given)
        return found


async def tables(superuser: asyncpg.Connection) -> list[str]:
    """Every table of docray with rows of tenants; partitions by their parent."""
    rows = await superuser.fetch(
        "SELECT c.relname FROM pg_class c WHERE c.relnamespace = 'docray'::regnamespace AND c.relkind IN ('r', 'p') AND NOT c.relispartition"
    )
    return [row["relname"] for row in rows]


async def made(
    *, tenants: int, documents: int, database: Database, worker_database: Database, superuser: asyncpg.Connection, folder: Path, dice: random.Random
) -> World:
    """A world. The first half of its tenants are victims."""
    blobs = FilesystemBlobs(folder / "blobs")
    blobs.prepare()
    catalog, index, queue = PostgresCatalog(database), PgVectorIndex(worker_database), PostgresJobQueue(worker_database)
    llm = FakeLlm(says=obedient, models=("obedient",))
    embedder = WordVectors()
    search = SearchService(catalog=catalog, index=PgVectorIndex(database), embedder=embedder)
    idempotency = PostgresIdempotency(database)
    services = Services(
        settings=Settings(data_dir=folder, max_document_bytes=200_000), catalog=catalog, credentials=PostgresCredentials(database),
        tenants=PostgresTenants(database), idempotency=idempotency, blobs=blobs, search=search,
        answers=AnswerService(search=search, catalog=catalog, embedder=embedder, generator=llm), pages=ScriptedPictures(),
        index_form=IndexForm(embedder.model_id, "another cut"), present_model=embedder.model_id,
    )  # fmt: skip
    owners = [await _owner(number, database, superuser) for number in range(tenants)]
    half = tenants // 2
    world = World(
        app=create_app(services), index=index, llm=llm, blobs=folder / "blobs", superuser=superuser, owners=owners, victims=owners[:half],
        attackers=owners[half:],
    )  # fmt: skip
    for owner in owners:
        world.own(owner, owner.tenant_id, owner.principal.tenant_name, owner.principal.id, owner.principal.user_id, *owner.secrets.values())
        world.own(owner, *(f"{key.id} {key.name}" for key in owner.keys))
        for _ in range(documents):
            await _add_document(world, owner, catalog, queue, index, embedder, blobs, dice)
        await _add_collections(world, owner, catalog)
        await _add_jobs(world, owner, catalog)
        await _add_reindexes(world, owner, catalog)
        owner.idempotency_key = canary()
        world.own(owner, owner.idempotency_key)
        claim = await idempotency.claim(owner.principal, "/v1/collections", owner.idempotency_key, b"f")
        secret = canary()
        world.own(owner, secret)
        await idempotency.finish(claim, StoredResponse(status=201, body=f'{{"id":"{secret}"}}'.encode()))  # type: ignore[arg-type]
    for table in ("users", "generations", "purges", "bulk_files"):
        for row in await superuser.fetch(f"SELECT * FROM docray.{table}"):
            world.own(next(owner for owner in owners if owner.tenant_id == row["tenant_id"]), *row.values())
    return world


async def _owner(number: int, database: Database, superuser: asyncpg.Connection) -> Owner:
    """A tenant with three users, a key each, and two keys that are of no use any more."""
    name = canary()
    credentials = PostgresCredentials(database)
    first = make_key(name, USERS[0])
    tenant = Tenant(id=new_id(), name=name, created_at=datetime.now(UTC))
    await PostgresTenants(database).create(tenant, first.key, first.secret_hash, operator=False)
    principal = await credentials.find(first.secret_hash)
    assert principal is not None
    owner = Owner(number=number, principal=principal, secrets={USERS[0]: first.secret})
    async with PostgresCatalog(database).transaction(principal) as tx:
        for scopes in USERS[1:]:
            key, user = make_key(canary(), scopes), new_id()
            await superuser.execute("INSERT INTO docray.users (tenant_id, id, name) VALUES ($1, $2, $3)", tenant.id, user, canary())
            await tx.api_keys.insert(key.key, key.secret_hash, user_id=user)
            owner.secrets[scopes] = key.secret
        expired, revoked = make_key(canary(), USERS[0], datetime(2020, 1, 1, tzinfo=UTC)), make_key(canary(), USERS[0])
        for key in (expired, revoked):
            await tx.api_keys.insert(key.key, key.secret_hash, user_id=principal.user_id)
            owner.dead.append(key.secret)
        await tx.api_keys.revoke(revoked.key.id)
    rows = await superuser.fetch("SELECT id, created_at, name FROM docray.api_keys WHERE tenant_id = $1", tenant.id)
    owner.keys = [Place(**row) for row in rows]
    return owner


async def _add_document(
    world: World, owner: Owner, catalog: PostgresCatalog, queue: PostgresJobQueue, index: PgVectorIndex, embedder: WordVectors,
    blobs: FilesystemBlobs, dice: random.Random,
) -> None:  # fmt: skip
    """A ready document of two pages, as a worker would have made it."""
    one, two = dice.sample(_VOCABULARY, 2)
    text = canary()
    data = a_pdf(canary())
    name, title, about = f"{canary()}.pdf", canary(), canary()
    pages = [page_of(n, f"The {text} {one} of the {two} was opened in 19{n}3. It is the pride of the {canary()} town.") for n in (1, 2)]
    async with catalog.transaction(owner.principal) as tx:
        new = a_document(filename=name, title=title, metadata={"about": about, "year": 2021}, sha256=sha256_of(data), size_bytes=len(data))
        document = await tx.documents.insert(new)
    staged = blobs.staging() / str(document.id)
    staged.write_bytes(data)
    await blobs.put_file(blob_key(owner.tenant_id, document.id, 1), staged)
    lease = await queue.lease("world", 60.0)
    assert lease is not None
    assert lease.document_id == document.id
    chunks = chunks_of(pages)
    ids = [chunk_id(owner.tenant_id, document.id, 1, chunk.n) for chunk in chunks]
    vectors = await embedder.embed_passages([chunk.indexed_text for chunk in chunks])
    await index.upsert(owner.tenant_id, document.id, 1, list(zip(ids, chunks, strict=True)), vectors, embedder.model_id)
    await take_to(queue, lease, State.READY, pages, model=embedder.model_id)
    owner.documents.append(
        Doc(id=document.id, created_at=document.created_at, filename=name, title=title, metadata=about, text=text, data=data, chunks=ids)
    )
    world.own(owner, document.id, sha256_of(data), name, title, about, data.decode(), *ids, *(page.text for page in pages))


async def _add_jobs(world: World, owner: Owner, catalog: PostgresCatalog) -> None:
    """Two bulk runs that have ended, with a file each."""
    for _ in range(2):
        async with catalog.transaction(owner.principal) as tx:
            run_id, name = new_id(), canary()
            await tx.bulk_runs.insert(run_id, f"/in/{name}", None)
            driver = await tx.bulk_runs.drive(run_id, 60)
            await tx.bulk_runs.add_files(driver, [SourceFile(uri=f"/in/{name}/{canary()}.pdf", size_bytes=1, etag="1")])
            await tx.bulk_runs.end(driver, 0, Ended(state=FileState.FAILED, failure=("damaged", canary())))
            await tx.bulk_runs.finish(driver)
            found = await tx.bulk_runs.get(run_id)
        owner.jobs.append(Place(id=run_id, created_at=found.created_at, name=name))
        world.own(owner, run_id, name)


async def _add_reindexes(world: World, owner: Owner, catalog: PostgresCatalog) -> None:
    """One that was rolled back, and one that nobody builds."""
    for ends in (True, False):
        model, chunker = canary(), canary()
        async with catalog.transaction(owner.principal) as tx:
            wanted = NewReindex(id=new_id(), form=IndexForm(model, chunker), model_before="words", switch=Switch.TENANT)
            found = await tx.reindexes.start(wanted)
            if ends:
                await tx.reindexes.rollback(found.id)
        owner.reindexes.append(Place(id=found.id, created_at=found.created_at, name=model))
        world.own(owner, found.id, model, chunker)


async def _add_collections(world: World, owner: Owner, catalog: PostgresCatalog) -> None:
    """Two collections; the second holds every document but the bait."""
    for place in range(2):
        name, description, attribute = canary(), canary(), canary()
        async with catalog.transaction(owner.principal) as tx:
            found = await tx.collections.insert(new_id(), name=name, description=description, metadata={"about": canary()})
            for document in owner.documents[1:] if place else owner.documents[:1]:
                await tx.collections.add(found.id, document.id, {"about": attribute})
        owner.collections.append(Place(id=found.id, created_at=found.created_at, name=name))
        world.own(owner, found.id, name, description, attribute, found.metadata)


def cursor_of(kind: str, place: Any, identity: UUID | None = None) -> str:
    """The cursor behind a row, or behind another id of the same time."""
    return cursors.encode(kind, (place.created_at, identity or place.id))
