"""Looks at the database's own catalogue for anything that would let one tenant see another; refuses to serve where it finds some.

Each rule is one query that returns a sentence per violation. Any role may run them; run as the one that serves, they judge that one too.
"""

from docray.stores.postgres import Connection, Database
from docray.stores.sql import load

_SQL = load("lint")
_FIRST = "no_schema"
_POLICY = "(tenant_id = (NULLIF(current_setting('app.tenant_id'::text, true), ''::text))::uuid)"  # as PostgreSQL writes it


class UnsafeCatalogue(RuntimeError):
    """The database does not keep tenants apart: a process that finds this does not serve. The message tells the operator what to mend."""


async def violations(connection: Connection) -> list[str]:
    """A sentence for each thing that is wrong; empty when all is well."""
    found: list[str] = [row[0] for row in await connection.fetch(_SQL[_FIRST])]
    if found:
        return found
    for query in _SQL.values():
        rows = await connection.fetch(query, *((_POLICY,) if "$1" in query else ()))
        found += [row[0] for row in rows]
    return found


async def refuse(database: Database) -> None:
    """Raises UnsafeCatalogue, naming every violation, unless there is none."""
    async with database.system_tx() as connection:
        found = await violations(connection)
    if found:
        raise UnsafeCatalogue("The database does not keep tenants apart: " + "; ".join(found))
