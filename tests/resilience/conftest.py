"""Fixtures of the kill drills: a real PostgreSQL, and sites on databases of their own."""

import contextlib
import tempfile
import uuid
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from datetime import UTC, datetime
from pathlib import Path

import asyncpg
import pytest
from postgres_fixture import TEMPLATE, as_superuser, postgres_folder, postgres_template  # noqa: F401 - fixtures are used by name

from docray.domain.ids import new_id
from docray.domain.principals import Scope, Tenant
from docray.instance import postgres
from docray.security.api_keys import make_key
from docray.stores.postgres import Database
from docray.stores.postgres_keys import PostgresTenants
from tests.resilience.site import Place, warm_up
from tests.resilience.sizes import FIGURES, NIGHTLY, SEED
from tests.resilience.story import Site

NewSite = Callable[..., AbstractAsyncContextManager[Site]]


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """The seed, so that a failure can be replayed, and the figures."""
    terminalreporter.write_sep("=", "kill drills")
    terminalreporter.write_line(f"DOCRAY_TEST_SEED={SEED} DOCRAY_TEST_SIZE={'nightly' if NIGHTLY else ''}")
    for sentence in FIGURES:
        terminalreporter.write_line(sentence)


async def new_key(app_dsn: str, name: str = "drill") -> tuple[str, object]:
    """A tenant with an admin's key → (its secret, the tenant's id)."""
    database = Database(app_dsn, pool_size=1)
    await database.open()
    made = make_key("admin", [Scope.ADMIN])
    tenant = Tenant(id=new_id(), name=name, created_at=datetime.now(UTC))
    await PostgresTenants(database).create(tenant, made.key, made.secret_hash, operator=False)
    await database.close()
    return made.secret, tenant.id


@contextlib.asynccontextmanager
async def site_on(server: Path, **place: object) -> AsyncIterator[Site]:
    """A site on a fresh database of a server; its processes end with the block. A session in an open transaction is cut after a second."""
    name = f"drill_{uuid.uuid4().hex[:10]}"
    await as_superuser(server, f"CREATE DATABASE {name} TEMPLATE {TEMPLATE}")
    for role in ("docray_app", "docray_worker"):
        await as_superuser(server, f"ALTER ROLE {role} IN DATABASE {name} SET idle_in_transaction_session_timeout = '1s'")
    secret, _ = await new_key(postgres.dsn(server, "docray_app", name))
    superuser = await asyncpg.connect(postgres.dsn(server, postgres.SUPERUSER, name))
    with tempfile.TemporaryDirectory(prefix="docray-drill-", ignore_cleanup_errors=True) as folder:  # short: sockets lie in it
        found = Place(
            app_dsn=postgres.dsn(server, "docray_app", name), worker_dsn=postgres.dsn(server, "docray_worker", name), data_dir=Path(folder), **place,
        )  # type: ignore[arg-type]  # fmt: skip
        site = Site(found, secret, superuser)
        try:
            yield site
        finally:
            await site.close()
            await superuser.close()
            await as_superuser(server, f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture(scope="session")
def drill_server(postgres_template: Path) -> Path:  # noqa: F811 - the fixture
    """The folder of a server for sites, once processes can be forked fast."""
    warm_up()
    return postgres_template


@pytest.fixture
def new_site(drill_server: Path) -> NewSite:
    """`async with new_site() as site`."""
    return lambda **place: site_on(drill_server, **place)
