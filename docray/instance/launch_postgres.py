"""Becomes the `postgres` process of an instance; run as a script, by path, with the standard library only.

    python -I launch_postgres.py DATA_FOLDER PROGRAM [ARGUMENT…]

Does two things before it hands its process over to PROGRAM (`postgres`, or `initdb`):

* PostgreSQL refuses to run as root. As root it enters a user namespace in which its user has another number: the files stay root's,
  nothing else can read them, no user is made and no folder is opened to others. Where the kernel or the container forbids that, it
  becomes an unprivileged user who keeps only the right to pass the folders above the data (CAP_DAC_OVERRIDE).
* After a crash of the machine `postmaster.pid` and the socket's lock may hold the number of a process that now is something else, and
  PostgreSQL would refuse to start. They get this process's own number instead, which PostgreSQL takes as left over from a crash; it still checks
  for itself that no orphan of the old server has the shared memory.
"""

import contextlib
import ctypes
import os
import pwd
import sys
from pathlib import Path

_CLONE_NEWUSER = 0x10000000
_PR_SET_KEEPCAPS, _PR_CAP_AMBIENT, _PR_CAP_AMBIENT_RAISE = 8, 47, 2
_CAP_DAC_OVERRIDE = 1
_CAPABILITY_VERSION_3 = 0x20080522
_SERVICE_USERS = ("postgres", "daemon", "nobody")  # the first that the machine has; its name is needed, nothing else of it


def service_user() -> pwd.struct_passwd:
    """The unprivileged user to be, or to look like, when started as root."""
    for name in _SERVICE_USERS:
        with contextlib.suppress(KeyError):
            return pwd.getpwnam(name)
    raise SystemExit("started as root, and this machine has no unprivileged user: run docray as an ordinary user")


def enter_namespace(user: pwd.struct_passwd) -> bool:
    """Looks like that user from here on, while the files stay root's. False where that is not allowed."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(_CLONE_NEWUSER) != 0:
        return False
    try:
        Path("/proc/self/setgroups").write_text("deny")
        Path("/proc/self/uid_map").write_text(f"{user.pw_uid} 0 1")
        Path("/proc/self/gid_map").write_text(f"{user.pw_gid} 0 1")
    except OSError as error:
        raise SystemExit(f"a user namespace was made but not filled ({error}): run docray as an ordinary user") from error
    return True


def namespaces_work(user: pwd.struct_passwd) -> bool:
    """Tries it in a child, because there is no way back out of a namespace."""
    child = os.fork()
    if child == 0:
        code = 1
        with contextlib.suppress(SystemExit):
            code = 0 if enter_namespace(user) else 1
        os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def become(user: pwd.struct_passwd, folder: Path) -> None:
    """Is that user from here on, as the owner of the data, and may still pass the folders above it."""
    for path in [folder, *folder.rglob("*")]:
        os.chown(path, user.pw_uid, user.pw_gid, follow_symlinks=False)
    libc = ctypes.CDLL(None, use_errno=True)
    _check(libc, libc.prctl(_PR_SET_KEEPCAPS, 1, 0, 0, 0))
    os.setgroups([])
    os.setresgid(user.pw_gid, user.pw_gid, user.pw_gid)
    os.setresuid(user.pw_uid, user.pw_uid, user.pw_uid)
    kept = 1 << _CAP_DAC_OVERRIDE
    header = (ctypes.c_uint32 * 2)(_CAPABILITY_VERSION_3, 0)
    sets = (ctypes.c_uint32 * 6)(kept, kept, kept, 0, 0, 0)  # effective, permitted, inheritable; then their upper halves
    _check(libc, libc.capset(header, sets))
    _check(libc, libc.prctl(_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_RAISE, _CAP_DAC_OVERRIDE, 0, 0))


def _check(libc: ctypes.CDLL, result: int) -> None:
    if result != 0:
        raise SystemExit(f"could not give up root ({os.strerror(ctypes.get_errno())}): run docray as an ordinary user")


def disown_stale_pid(file: Path, folder: Path) -> None:
    """Puts this process's number into a lock file where a process stands that is no server of this data folder."""
    try:
        lines = file.read_text().splitlines()
        noted = int(lines[0])
    except (OSError, ValueError, IndexError):
        return
    if noted != os.getpid() and not _serves(noted, folder):
        replaced = file.with_name(f"{file.name}.new")
        replaced.write_text("\n".join([str(os.getpid()), *lines[1:]]) + "\n")
        os.chmod(replaced, 0o600)
        os.replace(replaced, file)


def _serves(pid: int, folder: Path) -> bool:
    """Whether that process is a PostgreSQL server of this data folder."""
    try:
        arguments = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except OSError:
        return False
    real = os.path.realpath(os.fsencode(folder))
    return os.path.basename(arguments[0]) == b"postgres" and any(argument and os.path.realpath(argument) == real for argument in arguments[1:])


def main(folder: Path, words: list[str]) -> None:
    """Prepares, then is the program that `words` begin with."""
    disown_stale_pid(folder / "postmaster.pid", folder)
    if "-k" in words:
        disown_stale_pid(Path(words[words.index("-k") + 1]) / ".s.PGSQL.5432.lock", folder)
    if os.geteuid() == 0:
        user = service_user()
        if namespaces_work(user):
            enter_namespace(user)
        else:
            become(user, folder)
    os.execv(words[0], words)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
