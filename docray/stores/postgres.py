"""The only door to PostgreSQL: a pool whose connections are handed out inside a transaction of one tenant.

Owns connecting, the transaction's tenant, cleaning a connection after use and the translation of driver errors. Nobody else acquires
a connection. Leaves statements to the adapters beside it, schema and roles (with their time-outs) to the migrations.
"""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Mapping, Sequence
from contextvars import ContextVar
from typing import Any, cast
from uuid import UUID

import asyncpg
import orjson
from asyncpg.pool import PoolConnectionProxy

from docray.domain.errors import DocrayError, Unavailable
from docray.stores.postgres_errors import RETRY_AFTER_S, connecting, translating

Connection = PoolConnectionProxy  # what a block gets; it works like asyncpg.Connection and dies with the block

# Held cursors go first: they keep rows of the tenant who opened them. Prepared statements stay, they hold none.
_CLEAN = "CLOSE ALL; RESET ROLE; RESET ALL; DISCARD TEMP; UNLISTEN *; SELECT pg_advisory_unlock_all()"
_READ = "BEGIN READ ONLY"
_CONNECT_TIMEOUT_S = 5.0
_COMMAND_TIMEOUT_S = 15.0  # the server stops a statement after 5 s; this is for a server that does not answer at all
_ACQUIRE_TIMEOUT_S = 5.0
_CLOSE_TIMEOUT_S = 5.0
_NO_SETTINGS: Mapping[str, str] = {}


class _PooledConnection(asyncpg.Connection):
    """A connection that remembers whether its session was cleaned with the last COMMIT, which saves the pool a round trip."""

    __slots__ = ("clean",)

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self.clean = True

    def note_clean(self, clean: bool) -> None:
        """Whether nothing of a user is left in the session; a method, because the pool's proxy passes calls on but no assignments."""
        self.clean = clean


def _to_json(value: Any) -> str:
    try:
        return orjson.dumps(value).decode()
    except TypeError:  # whole numbers above 64 bits, which orjson does not write
        return json.dumps(value, ensure_ascii=False, allow_nan=False)


async def _introduce(connection: asyncpg.Connection) -> None:
    for name in ("json", "jsonb"):
        await connection.set_type_codec(name, schema="pg_catalog", encoder=_to_json, decoder=orjson.loads)


async def _clean(connection: asyncpg.Connection) -> None:
    """Leaves no role, setting, temporary table, cursor, channel or lock to the next user. When it fails the pool closes the connection."""
    pooled = cast(_PooledConnection, connection)
    if not pooled.clean:
        await connection.execute(_CLEAN)
        pooled.clean = True


class _Sharing:
    """One reading transaction for whatever a task reads of a tenant; its connection comes with the first who asks."""

    def __init__(self, database: "Database", tenant_id: UUID) -> None:
        self.database = database
        self.tenant_id = tenant_id
        self.stack = contextlib.AsyncExitStack()
        self.connection: Connection | None = None
        self.settings: Mapping[str, str] = _NO_SETTINGS


_sharing: ContextVar[_Sharing | None] = ContextVar("docray_shared_transaction", default=None)


class Database:
    """A pool of connections to one database as one role. `open` before use, in the event loop that uses it."""

    def __init__(self, dsn: str, *, pool_size: int = 8) -> None:
        self._dsn = dsn
        self._pool_size = pool_size
        self._turns = asyncio.Semaphore(pool_size)
        self._pool: asyncpg.Pool | None = None

    async def open(self) -> None:
        """Connects once, to know that it can. Unavailable when it cannot."""
        with connecting():
            self._pool = await asyncpg.create_pool(
                self._dsn, min_size=0, max_size=self._pool_size, connection_class=_PooledConnection, init=_introduce, reset=_clean,
                timeout=_CONNECT_TIMEOUT_S, command_timeout=_COMMAND_TIMEOUT_S,
            )  # fmt: skip
        try:
            await self.call("SELECT")
        except DocrayError:
            await self.close()
            raise

    async def close(self) -> None:
        """Closes every connection; what still runs is cut off after 5 s."""
        pool, self._pool = self._pool, None
        if pool is None:
            return
        try:
            async with asyncio.timeout(_CLOSE_TIMEOUT_S):
                await pool.close()
        except TimeoutError:
            pool.terminate()

    @contextlib.asynccontextmanager
    async def tenant_tx(self, tenant_id: UUID) -> AsyncIterator[Connection]:
        """A transaction that sees this tenant's rows and no others. Leaving the block commits, an exception rolls back."""
        async with self._transaction(_begin("BEGIN", tenant_id, _NO_SETTINGS)) as connection:
            yield connection

    @contextlib.asynccontextmanager
    async def reading_tx(self, tenant_id: UUID, settings: Mapping[str, str] = _NO_SETTINGS) -> AsyncIterator[Connection]:
        """The same for reading only, under settings of ours. Inside a block of `shared` it is that block's transaction, which goes on."""
        sharing = _sharing.get()
        if sharing is None or sharing.database is not self or sharing.tenant_id != tenant_id:
            async with self._transaction(_begin(_READ, tenant_id, settings)) as connection:
                yield connection
            return
        if sharing.connection is None:
            sharing.connection = await sharing.stack.enter_async_context(self._transaction(_begin(_READ, tenant_id, settings)))
            sharing.settings = settings
        elif settings and settings != sharing.settings:
            await sharing.connection.execute(f"SELECT {_set(settings)}")
            sharing.settings = settings
        yield sharing.connection

    @contextlib.asynccontextmanager
    async def shared(self, tenant_id: UUID) -> AsyncIterator[None]:
        """What `reading_tx` reads of this tenant inside the block is read in one transaction, begun by the first: one at a time, in one task.

        A write inside is a transaction of its own: it is committed when its own block ends. A block inside another one is part of it.
        """
        outer = _sharing.get()
        if outer is not None and outer.database is self and outer.tenant_id == tenant_id:
            yield
            return
        sharing = _Sharing(self, tenant_id)
        async with sharing.stack:
            token = _sharing.set(sharing)
            try:
                yield
            finally:
                _sharing.reset(token)

    @contextlib.asynccontextmanager
    async def system_tx(self) -> AsyncIterator[Connection]:
        """A transaction of no tenant: it sees no rows, and may call the functions that its role is granted."""
        async with self._transaction("BEGIN") as connection:
            yield connection

    async def call(self, query: str, *arguments: Any) -> list[asyncpg.Record]:
        """Rows of one statement of no tenant, in a transaction of its own: one round trip, for a function call."""
        async with self._acquired() as connection:
            return await connection.fetch(query, *arguments)

    @contextlib.asynccontextmanager
    async def _acquired(self) -> AsyncIterator[Connection]:
        if self._pool is None:
            raise Unavailable(retry_after_s=RETRY_AFTER_S)
        pool = self._pool
        with connecting():
            async with asyncio.timeout(_ACQUIRE_TIMEOUT_S):  # the pool's own time-out costs a task
                await self._turns.acquire()  # the pool itself lets whoever comes when a connection is given back go ahead of those who wait
                try:
                    connection = await pool.acquire()
                except BaseException:
                    self._turns.release()
                    raise
        try:
            with translating():
                yield connection
        finally:
            try:
                with translating():
                    await pool.release(connection)
            finally:
                self._turns.release()

    @contextlib.asynccontextmanager
    async def _transaction(self, begin: str) -> AsyncIterator[Connection]:
        async with self._acquired() as connection:
            session = cast(_PooledConnection, connection)
            session.note_clean(False)
            try:
                await connection.execute(begin)
                yield connection
                # Cleaning within the transaction also fails where the block swallowed an error and the transaction is lost.
                await connection.execute(f"{_CLEAN}; COMMIT")
            except BaseException:
                await _roll_back(connection)
                raise
            session.note_clean(True)


def array_text(numbers: Sequence[int]) -> str:
    """Whole numbers as the text of an array. As an array the driver would look at each of them several times."""
    return f"{{{str(numbers)[1:-1]}}}"


def _begin(begin: str, tenant_id: UUID, settings: Mapping[str, str]) -> str:
    if not isinstance(tenant_id, UUID):
        raise TypeError("a tenant's id is a UUID")
    return f"{begin}; SELECT {_set({'app.tenant_id': str(tenant_id), **settings})}"


def _set(settings: Mapping[str, str]) -> str:
    """Settings of a transaction: names and values are our own, never a caller's."""
    return ", ".join(f"set_config('{name}', '{value}', true)" for name, value in settings.items())


async def _roll_back(connection: Connection) -> None:
    """Ends the transaction; a connection that cannot is closed, so that nobody gets it with the transaction open.

    Rolls back even where the driver knows of no transaction: a BEGIN that was cancelled may have reached the server.
    """
    try:
        if not connection.is_closed():
            await connection.execute("ROLLBACK")
    except BaseException as error:
        with contextlib.suppress(asyncpg.InterfaceError):  # the pool has taken a lost one back already
            connection.terminate()
        if not isinstance(error, Exception):
            raise
