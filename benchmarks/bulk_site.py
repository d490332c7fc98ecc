"""Where bulk runs are measured: a whole instance, or a bare PostgreSQL; with an environment that finds no other Ray or docray.

Everything lies in the folder given, and ends with the block.
"""

import asyncio
import contextlib
import json
import os
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import asyncpg

from benchmarks.instance import Instance
from docray.domain.ids import new_id
from docray.domain.principals import ApiKey, Scope, Tenant
from docray.instance import postgres
from docray.instance.files import InstanceFiles
from docray.instance.ports import any_free
from docray.stores.migrate import migrate
from docray.stores.postgres import Database
from docray.stores.postgres_keys import PostgresTenants

ROOT = Path(__file__).resolve().parents[1]
DOCRAY = Path(sys.executable).with_name("docray")


def environment(data_dir: Path, **more: str) -> dict[str, str]:
    """Ours without what would steer the product or find another Ray."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("DOCRAY_", "RAY_"))}
    folder = data_dir / "postgres"
    return kept | {
        "DOCRAY_DATA_DIR": str(data_dir), "PYTHONPATH": str(ROOT), "HF_HUB_OFFLINE": "1", "RAY_USAGE_STATS_ENABLED": "0",
        "DOCRAY_DATABASE_DSN": postgres.dsn(folder, "docray_app"), "DOCRAY_DATABASE_WORKER_DSN": postgres.dsn(folder, "docray_worker"),
    } | more  # fmt: skip


@contextlib.contextmanager
def ray_apart() -> Iterator[dict[str, str]]:
    """The environment of commands that start a Ray of their own: in a folder of its own, short, for sockets lie in it."""
    with tempfile.TemporaryDirectory(prefix="docray-ray-", ignore_cleanup_errors=True) as folder:
        yield {"RAY_TMPDIR": folder, "RAY_ADDRESS": "local"}


class OwnInstance:
    """A docray of the benchmark's own: `up` and `down` as often as wanted, over one data folder."""

    def __init__(self, folder: Path) -> None:
        self.data_dir = folder / "instance"
        self._environment = environment(self.data_dir)

    @contextlib.contextmanager
    def up(self) -> Iterator[Instance]:
        """Running while the block does."""
        words = [DOCRAY, "up", "--data-dir", str(self.data_dir), "--port", str(any_free(1)[0]), "--json"]
        plain = {name: value for name, value in self._environment.items() if not name.startswith("DOCRAY_")}
        try:
            told = json.loads(subprocess.check_output(words, cwd=ROOT, env=plain, text=True, stdin=subprocess.DEVNULL, timeout=400))
            yield Instance(told["url"], told["api_key"])
        finally:
            words = [DOCRAY, "down", "--data-dir", str(self.data_dir)]
            subprocess.run(words, cwd=ROOT, env=plain, check=True, stdout=subprocess.DEVNULL, timeout=200)

    def clear(self) -> None:
        """Removes what lies outside the data folder."""
        shutil.rmtree(InstanceFiles.of(self.data_dir).run, ignore_errors=True)

    def postgres_pid(self) -> int:
        """Of its running PostgreSQL."""
        return server_pid(self.data_dir / "postgres")

    def environment(self, **more: str) -> dict[str, str]:
        """For a bulk run into it."""
        return self._environment | more


@dataclass(frozen=True)
class BareSite:
    """A migrated PostgreSQL, and no API."""

    data_dir: Path

    @property
    def folder(self) -> Path:
        """PostgreSQL's."""
        return self.data_dir / "postgres"

    def environment(self, **more: str) -> dict[str, str]:
        """For a bulk run into it."""
        return environment(self.data_dir, **more)

    def postgres_pid(self) -> int:
        """Of PostgreSQL."""
        return server_pid(self.folder)

    def new_tenant(self) -> str:
        """The name of a tenant made now."""
        return asyncio.run(_made_tenant(postgres.dsn(self.folder, "docray_app"))).name


@contextlib.contextmanager
def bare_site(folder: Path, *settings: str) -> Iterator[BareSite]:
    """PostgreSQL as the supervisor runs it, while the block runs. `settings`: more of its command's words."""
    site = BareSite(folder / "site")
    with running_postgres(site.folder, *settings):
        asyncio.run(migrate(postgres.dsn(site.folder, postgres.SUPERUSER)))
        yield site


@contextlib.contextmanager
def running_postgres(folder: Path, *settings: str) -> Iterator[int]:
    """An embedded PostgreSQL; its process id."""
    postgres.ensure_initialised(folder)
    with folder.with_name("postgres.log").open("ab") as log:
        process = subprocess.Popen([*postgres.command(folder), *settings], stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        try:
            postgres.wait_ready(folder)
            yield process.pid
        finally:
            process.send_signal(signal.SIGINT)
            process.wait(120)


def server_pid(folder: Path) -> int:
    """The process id of a running server, as its data folder tells it."""
    return int((folder / "postmaster.pid").read_text().split()[0])


async def _made_tenant(dsn: str) -> Tenant:
    database = Database(dsn, pool_size=1)
    await database.open()
    tenant = Tenant(id=new_id(), name=f"benchmark {secrets.token_hex(6)}", created_at=datetime.now(UTC))
    key = ApiKey(id=new_id(), name="first", scopes=frozenset({Scope.ADMIN}), prefix="dr_bench", created_at=tenant.created_at)
    await PostgresTenants(database).create(tenant, key, secrets.token_bytes(16), operator=False)
    await database.close()
    return tenant


async def chunk_texts(folder: Path, tenant: str) -> list[str]:
    """What was embedded of a tenant's documents."""
    connection = await asyncpg.connect(postgres.dsn(folder, postgres.SUPERUSER))
    try:
        rows = await connection.fetch(
            "SELECT c.context, c.text FROM docray.chunks c JOIN docray.tenants t USING (tenant_id) WHERE t.name = $1"
            " ORDER BY c.document_id, c.generation, c.n", tenant,
        )  # fmt: skip
    finally:
        await connection.close()
    return [f"{context}\n{text}" if context else text for context, text in rows]
