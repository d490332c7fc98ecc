"""The embedded PostgreSQL: made once, whole; survives being killed and a crash of the machine; reachable by its owner only."""

import asyncio
import contextlib
import os
import socket
import stat
import subprocess
import sys
from pathlib import Path

import asyncpg
import psutil
import pytest
from postgres_fixture import running_server

from docray.instance import launch_postgres, postgres


@pytest.fixture(scope="module")
def initialised(tmp_path_factory):
    folder = tmp_path_factory.mktemp("made") / "postgres"
    postgres.ensure_initialised(folder)
    return folder


@pytest.fixture
def folder(initialised, tmp_path):
    """A copy of a new data folder, for this test to break."""
    copied = tmp_path / "pg"
    subprocess.run(["cp", "-a", str(initialised), str(copied)], check=True)
    return copied


async def run(folder: Path, statement: str):
    connection = await asyncpg.connect(postgres.dsn(folder, postgres.SUPERUSER))
    try:
        return await connection.fetchval(statement)
    finally:
        await connection.close()


def kill(process: subprocess.Popen[bytes]) -> None:
    """SIGKILL to the server, as the machine or a careless hand would."""
    children = psutil.Process(process.pid).children(recursive=True)
    process.kill()
    process.wait(10)
    psutil.wait_procs(children, timeout=30)


async def test_settings_keep_what_was_committed(folder):
    with running_server(folder):
        kept = dict.fromkeys(("fsync", "synchronous_commit", "full_page_writes", "data_checksums"), "on")
        for name, value in {**kept, "listen_addresses": "", "server_encoding": "UTF8", "max_connections": "60", "jit": "off"}.items():
            assert await run(folder, f"SHOW {name}") == value
        assert await run(folder, "SELECT lower('ÀÉ')") == "àé"


async def test_a_killed_server_starts_again_with_its_data(folder):
    with running_server(folder) as first:
        await run(folder, "CREATE TABLE kept AS SELECT 42 AS answer")
        kill(first)
        assert not postgres.is_ready(folder)
        with running_server(folder):
            assert await run(folder, "SELECT answer FROM kept") == 42


async def test_it_starts_although_a_stranger_has_its_old_process_number(folder):
    """After a crash of the machine the number in postmaster.pid may be anybody's, here this test's own."""
    with running_server(folder) as first:
        kill(first)
    lock_files = [folder / "postmaster.pid", folder / ".s.PGSQL.5432.lock"]
    for file in lock_files:
        lines = file.read_text().splitlines()
        file.write_text("\n".join([str(os.getpid()), *lines[1:]]) + "\n")
    with running_server(folder):
        assert await run(folder, "SELECT 1") == 1


def test_a_second_server_of_the_same_folder_is_refused(folder):
    with running_server(folder):
        second = subprocess.run(postgres.command(folder), capture_output=True, text=True, timeout=30, check=False)
        assert second.returncode != 0
        assert "lock file" in second.stderr
        assert asyncio.run(run(folder, "SELECT 1")) == 1


async def test_only_its_owner_reaches_it_and_no_port_is_open(folder):
    with running_server(folder) as server:
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
        assert stat.S_IMODE((folder / ".s.PGSQL.5432").stat().st_mode) == 0o700
        assert not [c for c in psutil.Process(server.pid).net_connections(kind="inet") if c.status == psutil.CONN_LISTEN]


async def test_it_never_runs_as_root(folder):
    with running_server(folder):
        if os.geteuid() == 0:
            assert (folder / "PG_VERSION").stat().st_uid == 0
        connection = await asyncpg.connect(postgres.dsn(folder, postgres.SUPERUSER))
        try:
            await connection.execute("CREATE TEMP TABLE identity (line text); COPY identity FROM PROGRAM 'id -u'")
            assert await connection.fetchval("SELECT line FROM identity") != "0"
        finally:
            await connection.close()


def test_an_unfinished_data_folder_is_never_seen(tmp_path):
    folder = tmp_path / "pg"
    half = tmp_path / "pg.making"
    half.mkdir()
    (half / "rest").write_text("of a first start that was killed")
    postgres.ensure_initialised(folder)
    assert (folder / "PG_VERSION").read_text().strip() == "18"
    assert not half.exists()
    before = (folder / "global" / "pg_control").read_bytes()
    postgres.ensure_initialised(folder)
    assert (folder / "global" / "pg_control").read_bytes() == before


def test_another_versions_folder_is_left_alone(tmp_path):
    (tmp_path / "PG_VERSION").write_text("16\n")
    with pytest.raises(postgres.CannotRunPostgres, match="16"):
        postgres.ensure_initialised(tmp_path)


def test_a_long_path_gets_its_socket_in_a_private_folder(folder, tmp_path):
    folder = folder.rename(tmp_path / ("long" * 30))
    sockets = postgres.socket_folder(folder)
    assert sockets != folder
    assert stat.S_IMODE(sockets.stat().st_mode) == 0o700
    with running_server(folder):
        assert asyncio.run(run(folder, "SELECT 1")) == 1
    sockets.chmod(0o755)
    with pytest.raises(postgres.CannotRunPostgres, match="open to others"):
        postgres.socket_folder(folder)
    sockets.rmdir()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives up rights")
def test_root_without_user_namespaces_becomes_an_unprivileged_user(folder, tmp_path):
    """The way for containers that forbid namespaces, taken by a launcher that is told they do not work."""
    tmp_path.chmod(0o700)
    script = (
        "import sys; from pathlib import Path\n"
        f"sys.path.insert(0, {str(Path(launch_postgres.__file__).parent)!r}); import launch_postgres as launch\n"
        "folder = Path(sys.argv[1]); launch.become(launch.service_user(), folder)\n"
        "import os; os.execv(sys.argv[2], sys.argv[2:])"
    )
    words = postgres.command(folder)
    at = words.index(str(folder))
    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen([sys.executable, "-c", script, *words[at:]], stdout=log, stderr=log)
    try:
        postgres.wait_ready(folder)
        assert psutil.Process(process.pid).uids().effective == launch_postgres.service_user().pw_uid != 0
        assert asyncio.run(run(folder, "SELECT 1")) == 1
    finally:
        process.terminate()
        process.wait(30)


def test_a_server_that_does_not_come_is_not_waited_for_forever(folder):
    with pytest.raises(TimeoutError):
        postgres.wait_ready(folder, timeout_s=0.0)
    with contextlib.closing(socket.socket(socket.AF_UNIX)) as probe, pytest.raises(OSError, match="No such file"):
        probe.connect(str(folder / ".s.PGSQL.5432"))
