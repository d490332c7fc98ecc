"""Brings a database to the newest schema: roles first, then the plain SQL of `migrations/versions` as alembic orders it.

Everything happens in one transaction under an advisory lock: several processes may start at once, and a failure leaves nothing.
"""

import io
import re
from importlib.resources import files
from pathlib import Path

import asyncpg
from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory

from docray.domain.errors import Unavailable
from docray.stores.postgres_errors import connecting
from docray.stores.sql import load

_SQL = load("roles")
_LOCK = 0x646F63726179  # "docray" in ASCII
_CONNECT_TIMEOUT_S = 10.0


class NotAllowedToMigrate(RuntimeError):
    """The migrating role lacks rights; the message tells the operator which."""

    def __init__(self) -> None:
        super().__init__(
            "The migrating role lacks rights: it must be a superuser, or have CREATEROLE and BYPASSRLS and be allowed to create in the"
            " database. Set DOCRAY_DATABASE_ADMIN_DSN to such a role; docray uses it for migrations only."
        )


async def migrate(admin_dsn: str) -> str:
    """Makes roles and schema, or changes nothing; returns the version that the database then has.

    `admin_dsn` names a superuser, or a role with CREATEROLE and BYPASSRLS. The roles `docray_app` and `docray_worker` are made
    without a password: on a server that asks for one the operator sets it (`ALTER ROLE docray_app PASSWORD …`).

    Raises:
        NotAllowedToMigrate: the role lacks rights.
        Unavailable: the server does not answer.
    """
    with connecting():
        connection = await asyncpg.connect(admin_dsn, timeout=_CONNECT_TIMEOUT_S)
    try:
        async with connection.transaction():
            await connection.execute(_SQL["lock_migrations"], _LOCK)
            return await _upgrade(connection)
    except asyncpg.InsufficientPrivilegeError as error:
        raise NotAllowedToMigrate from error
    except (OSError, asyncpg.InterfaceError, asyncpg.PostgresConnectionError) as error:
        raise Unavailable from error
    finally:
        await connection.close()


async def _upgrade(connection: asyncpg.Connection) -> str:
    config = _configuration()
    newest = ScriptDirectory.from_config(config).get_current_head() or ""
    present = await _present_version(connection)
    if present == newest:
        return newest
    await connection.execute(_SQL["make_roles"])
    await connection.execute(_SQL["make_schemas"])
    await connection.execute(_script(config, present, newest))
    return newest


async def _present_version(connection: asyncpg.Connection) -> str | None:
    if await connection.fetchval(_SQL["version_table"]) is None:
        return None
    version: str | None = await connection.fetchval(_SQL["present_version"])
    return version


def _configuration() -> Config:
    config = Config(output_buffer=io.StringIO())
    folder = Path(str(files("docray.stores") / "migrations"))
    config.set_main_option("script_location", re.sub("%", "%%", str(folder)))
    config.set_main_option("path_separator", "os")
    return config


def _script(config: Config, present: str | None, newest: str) -> str:
    """The statements from one version to the other, as alembic's offline mode writes them."""
    command.upgrade(config, f"{present}:{newest}" if present else newest, sql=True)
    buffer = config.output_buffer
    assert isinstance(buffer, io.StringIO)
    return buffer.getvalue()
