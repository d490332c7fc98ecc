"""A real PostgreSQL for tests: one server a session, from the wheel, in a temporary folder; one database a test, copied from a template.

A `conftest.py` takes what its tests need: `from postgres_fixture import database, …`.
"""

import asyncio
import signal
import subprocess
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import asyncpg
import pytest

from docray.domain.ids import new_id
from docray.domain.principals import ApiKey, Principal, Scope, Tenant
from docray.instance import postgres
from docray.stores.migrate import migrate
from docray.stores.postgres import Database
from docray.stores.postgres_catalog import PostgresCatalog
from docray.stores.postgres_jobs import PostgresJobQueue
from docray.stores.postgres_keys import PostgresTenants

TEMPLATE = "migrated_template"
_ANY_TIME = datetime(2000, 1, 1, tzinfo=UTC)  # the database sets the real one


@contextmanager
def running_server(folder: Path, *settings: str) -> Iterator[subprocess.Popen[bytes]]:
    """The embedded server of a data folder, as the supervisor runs it; stopped in good order at the end."""
    log = folder.with_name(f"{folder.name}.log")
    with log.open("ab") as output:
        process = subprocess.Popen([*postgres.command(folder), *settings], stdout=output, stderr=output, stdin=subprocess.DEVNULL)
    try:
        postgres.wait_ready(folder)
        yield process
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(30)


@pytest.fixture(scope="session")
def postgres_folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The data folder of a running server. Durability is off: no test here crashes this one."""
    folder = tmp_path_factory.mktemp("pg") / "data"
    postgres.ensure_initialised(folder)
    fast = ("-c", "fsync=off", "-c", "synchronous_commit=off", "-c", "full_page_writes=off", "-c", "max_connections=100")
    with running_server(folder, *fast):
        yield folder


async def as_superuser(folder: Path, statement: str, database: str = "postgres") -> None:
    """One statement as the superuser."""
    connection = await asyncpg.connect(postgres.dsn(folder, postgres.SUPERUSER, database))
    try:
        await connection.execute(statement)
    finally:
        await connection.close()


@pytest.fixture(scope="session")
def postgres_template(postgres_folder: Path) -> Path:
    """The server's folder, once it has a migrated database to copy."""
    async def make() -> None:
        await as_superuser(postgres_folder, f"CREATE DATABASE {TEMPLATE}")
        await migrate(postgres.dsn(postgres_folder, postgres.SUPERUSER, TEMPLATE))

    asyncio.run(make())
    return postgres_folder


@dataclass(frozen=True)
class TestDatabase:
    """A migrated database of one test."""

    __test__ = False

    folder: Path
    name: str

    def dsn(self, user: str) -> str:
        """How to connect as `docray_app`, `docray_worker` or `postgres`."""
        return postgres.dsn(self.folder, user, self.name)


@pytest.fixture
async def test_database(postgres_template: Path) -> AsyncIterator[TestDatabase]:
    """A fresh, migrated database."""
    name = f"test_{uuid.uuid4().hex[:12]}"
    await as_superuser(postgres_template, f"CREATE DATABASE {name} TEMPLATE {TEMPLATE}")
    yield TestDatabase(postgres_template, name)
    await as_superuser(postgres_template, f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture
async def database(test_database: TestDatabase) -> AsyncIterator[Database]:
    """The gateway's pool (role docray_app)."""
    opened = Database(test_database.dsn("docray_app"))
    await opened.open()
    yield opened
    await opened.close()


@pytest.fixture
async def worker_database(test_database: TestDatabase) -> AsyncIterator[Database]:
    """An ingest worker's pool (role docray_worker)."""
    opened = Database(test_database.dsn("docray_worker"), pool_size=4)
    await opened.open()
    yield opened
    await opened.close()


@pytest.fixture
async def superuser(test_database: TestDatabase) -> AsyncIterator[asyncpg.Connection]:
    """A superuser's connection: sees every tenant, moves the clock of leases, plants violations."""
    connection = await asyncpg.connect(test_database.dsn(postgres.SUPERUSER))
    yield connection
    await connection.close()


@pytest.fixture
def catalog(database: Database) -> PostgresCatalog:
    """The catalogue as the gateway has it."""
    return PostgresCatalog(database)


@pytest.fixture
def queue(worker_database: Database) -> PostgresJobQueue:
    """The queue as a worker has it."""
    return PostgresJobQueue(worker_database)


NewTenant = Callable[..., Awaitable[Principal]]


@pytest.fixture
def new_tenant(database: Database) -> NewTenant:
    """Makes tenants; each call gives the principal of a new one's first key."""

    async def make(name: str | None = None) -> Principal:
        tenant = Tenant(id=new_id(), name=name or f"tenant {uuid.uuid4()}", created_at=_ANY_TIME)
        key = ApiKey(id=new_id(), name="first", scopes=frozenset({Scope.ADMIN}), prefix="dr_test", created_at=tenant.created_at)
        await PostgresTenants(database).create(tenant, key, uuid.uuid4().bytes, operator=False)
        return Principal(kind="api_key", id=key.id, name=key.name, tenant_id=tenant.id, tenant_name=tenant.name, scopes=key.scopes)

    return make


@pytest.fixture
async def principal(new_tenant: NewTenant) -> Principal:
    """A tenant's principal."""
    return await new_tenant()


@pytest.fixture
async def other_principal(new_tenant: NewTenant) -> Principal:
    """Another tenant's principal."""
    return await new_tenant()
