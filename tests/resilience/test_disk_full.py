"""E1: the disk of the blobs or of PostgreSQL is full. Writers are told to come back, nothing breaks, and it goes on by itself when there is space."""

import contextlib
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from uuid import UUID

import asyncpg
import httpx
import pytest
from postgres_fixture import TEMPLATE, as_superuser

from docray.instance import postgres
from docray.stores.migrate import migrate
from tests import oracle
from tests.resilience.conftest import NewSite, site_on
from tests.resilience.story import Site, a_pdf

PDF = {"Content-Type": "application/pdf"}
MEGABYTE = 1 << 20


@contextlib.contextmanager
def small_disk(folder: Path, size_bytes: int) -> Iterator[Path]:
    """A file system of its own of that size; a skip where this user may not mount one."""
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={size_bytes},mode=0700", "tmpfs", folder]
    mounted = subprocess.run(command, capture_output=True, text=True, check=False)
    if mounted.returncode != 0:
        pytest.skip(f"this user may not mount a small file system: {mounted.stderr.strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", folder], check=True)


def filled(ballast: Path, leave_bytes: int = 0) -> None:
    """Takes all of a disk's space but that much."""
    with ballast.open("ab", buffering=0) as file, contextlib.suppress(OSError):
        while True:
            file.write(b"\0" * 65536)
    with ballast.open("r+b") as file:
        file.truncate(max(0, ballast.stat().st_size - leave_bytes))


async def sent_until_refused(site: Site, word: str, limit: int, padding: int = 0) -> tuple[list[str], httpx.Response]:
    """Uploads one document after the other → (those acknowledged, the first refusal)."""
    made: list[str] = []
    for number in range(limit):
        try:
            response = await site.once(
                site.processes[-1], "POST", "/v1/documents", key=f"{word} {number}", content=a_pdf(f"{word} {number}") + b"%" * padding, headers=PDF
            )
        except httpx.ReadTimeout:
            continue
        if response.status_code == 503:
            return made, response
        assert response.status_code == 202, response.text
        made.append(response.json()["id"])
    raise AssertionError(f"{limit} uploads fitted on a full disk")


def asked_to_come_back(refusal: httpx.Response) -> None:
    assert int(refusal.headers["retry-after"]) >= 1
    assert refusal.json()["error"]["retryable"] is True


async def test_a_full_blob_disk_refuses_uploads_and_recovers(new_site: NewSite, tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", 8 * MEGABYTE) as disk:
        async with new_site(lease_s=30.0, heartbeat_s=5.0, blob_dir=disk / "blobs") as site:
            site.start()
            kept = [str(await site.upload(a_pdf("before")))]
            made, refusal = await sent_until_refused(site, "full", 20, padding=MEGABYTE)
            asked_to_come_back(refusal)
            assert made
            filled(disk / "ballast")
            refusal = (await sent_until_refused(site, "fuller", 1, padding=MEGABYTE // 4))[1]
            asked_to_come_back(refusal)
            assert list((disk / "blobs" / "staging").iterdir()) == []
            assert (await site.call("GET", f"/v1/documents/{kept[0]}")).status_code == 200  # who reads is not concerned
            for document_id in made[1:]:  # a delete frees space, and needs none of this disk
                await site.delete(UUID(document_id))
            await site.purged()
            (disk / "ballast").unlink()
            again = await site.once(site.processes[-1], "POST", "/v1/documents", key=f"full {len(made)}", content=a_pdf("after"), headers=PDF)
            assert again.status_code in (202, 422), again.text  # the key of the refused request is free, or known with its body
            late = await site.upload(a_pdf("late") + b"%" * MEGABYTE)
            kept += [str(late), made[0]]
            for document_id in kept:
                await site.until(UUID(document_id), "ready")
            await judged(site, [*kept, *made], made[1:])


class Keeper:
    """Starts PostgreSQL again whenever it ends, like the supervisor."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._ending = threading.Event()
        self._process: subprocess.Popen[bytes] | None = None
        self._thread = threading.Thread(target=self._run)
        self.starts = 0

    def _run(self) -> None:
        with self._folder.with_name("pg.log").open("ab") as log:
            while not self._ending.is_set():
                with contextlib.suppress(OSError):
                    self._process = subprocess.Popen(postgres.command(self._folder), stdout=log, stderr=log, stdin=subprocess.DEVNULL)
                    self.starts += 1
                    self._process.wait()
                self._ending.wait(0.5)

    def __enter__(self) -> "Keeper":
        self._thread.start()
        postgres.wait_ready(self._folder)
        return self

    def __exit__(self, *_: object) -> None:
        self._ending.set()
        if self._process is not None:
            self._process.send_signal(3)
        self._thread.join(30)


@pytest.mark.slow
async def test_a_full_postgresql_disk_refuses_writes_and_recovers(drill_server: Path, tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", 260 * MEGABYTE) as disk:
        folder = disk / "data"
        postgres.ensure_initialised(folder)
        with Keeper(folder) as keeper:
            await as_superuser(folder, f"CREATE DATABASE {TEMPLATE}")
            await migrate(postgres.dsn(folder, postgres.SUPERUSER, TEMPLATE))
            async with site_on(folder) as site:
                site.start()
                kept = [str(await site.upload(a_pdf("before")))]
                await site.until(UUID(kept[0]), "ready")
                filled(disk / "ballast", leave_bytes=MEGABYTE // 2)
                with contextlib.suppress(asyncpg.PostgresError, OSError):  # takes what space the server has in reserve
                    await site.superuser.execute("CREATE TABLE filler AS SELECT repeat(md5(n::text), 100) FROM generate_series(1, 100000) n")
                made, refusal = await sent_until_refused(site, "full", 500)
                asked_to_come_back(refusal)
                (disk / "ballast").unlink()
                freed = time.monotonic()
                late = await site.upload(a_pdf("late"))
                recovered_s = time.monotonic() - freed
                assert recovered_s < 60  # the catalogue's bound, not a figure of ours
                site.superuser = await asyncpg.connect(site.place.worker_dsn.replace("docray_worker", postgres.SUPERUSER))
                for document_id in (*kept, *made, str(late)):
                    await site.until(UUID(document_id), "ready", "failed")
                await site.purged()
                await judged(site, [*kept, *made, str(late)], [])
            assert keeper.starts >= 1


async def judged(site: Site, acknowledged: list[str], deleted: list[str]) -> None:
    """The oracle is clean."""
    tenant_id = await site.superuser.fetchval("SELECT tenant_id FROM docray.tenants")
    ids = ({UUID(each) for each in acknowledged}, {UUID(each) for each in deleted})
    assert await oracle.problems(site.superuser, tenant_id, site.place.settings().blobs, acknowledged=ids[0], deleted=ids[1]) == []
