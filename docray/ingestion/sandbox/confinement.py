"""Takes rights away from the calling process, for good: limits, user, new privileges, file system, system calls.

Owns the calls to the kernel (by ctypes: none of them is in the standard library). Each step that a kernel lacks is reported, not hidden.
Leaves deciding whether that is enough to the caller.
"""

import contextlib
import ctypes
import os
import platform
import resource
import struct
from dataclasses import dataclass

from docray.ingestion.sandbox.bpf import programme
from docray.ingestion.sandbox.syscalls import allowlist

_PR_SET_PDEATHSIG, _PR_SET_DUMPABLE, _PR_SET_NO_NEW_PRIVS, _PR_SET_SECCOMP = 1, 4, 38, 22
_SECCOMP_MODE_FILTER = 2
_LANDLOCK_CREATE_RULESET, _LANDLOCK_RESTRICT_SELF = 444, 446  # the same numbers on every processor
_LANDLOCK_VERSION = 1
# Access rights that each Landlock version knows (13 file rights in the first, then refer, truncate, ioctl); unknown bits are an error.
_FILE_RIGHTS = {1: 13, 2: 14, 3: 15, 4: 15, 5: 16}
_NOBODY = 65534
_SIGKILL = 9
_OPEN_FILES = 32  # input, output, and what liteparse's runtime opens for itself


@dataclass(frozen=True, slots=True, kw_only=True)
class Confinement:
    """What holds in a child: the Landlock version (0: none) and whether the system call filter is on."""

    landlock: int
    seccomp: bool

    @property
    def complete(self) -> bool:
        """Whether nothing is missing."""
        return self.landlock > 0 and self.seccomp


_libc = ctypes.CDLL(None, use_errno=True)
_libc.syscall.restype = ctypes.c_long


def confine(memory_bytes: int, cpu_s: float, parent: int) -> Confinement:
    """Takes everything away that parsing does not need; from here on the process also ends with its parent.

    `memory_bytes` come on top of what the process has mapped now.
    """
    _limit(memory_bytes, cpu_s)
    _become_nobody()
    _die_with(parent)  # after the change of user, which clears it
    _libc.prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)
    if _libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0:
        return Confinement(landlock=0, seccomp=False)
    landlock = _close_file_system()
    filtered = _filter_system_calls()
    if not filtered:
        resource.setrlimit(resource.RLIMIT_NPROC, (0, 0))  # weaker: it binds no root, and liteparse then goes without threads
    return Confinement(landlock=landlock, seccomp=filtered)


def _die_with(parent: int) -> None:
    """The kernel kills this process when its parent ends; at once if that has happened already."""
    _libc.prctl(_PR_SET_PDEATHSIG, _SIGKILL, 0, 0, 0)
    if os.getppid() != parent:
        os._exit(1)


def mapped_bytes() -> int:
    """The address space this process has mapped."""
    with open("/proc/self/statm", "rb") as statm:
        return int(statm.read().split()[0]) * resource.getpagesize()


def _limit(memory_bytes: int, cpu_s: float) -> None:
    space = mapped_bytes() + memory_bytes
    seconds = int(cpu_s) + 1
    for which, soft, hard in (
        (resource.RLIMIT_AS, space, space),
        (resource.RLIMIT_CPU, seconds, seconds + 1),  # SIGXCPU, a second later SIGKILL
        (resource.RLIMIT_FSIZE, 0, 0),
        (resource.RLIMIT_NOFILE, _OPEN_FILES, _OPEN_FILES),
        (resource.RLIMIT_CORE, 0, 0),
    ):
        with contextlib.suppress(ValueError):  # a lower hard limit is in force already
            resource.setrlimit(which, (soft, hard))


def _become_nobody() -> None:
    """Where docray runs as root, as in containers: the child is not."""
    if os.geteuid() != 0:
        return
    with contextlib.suppress(OSError):  # a container that maps no such user: the other walls stand
        os.setgroups([])
        os.setresgid(_NOBODY, _NOBODY, _NOBODY)
        os.setresuid(_NOBODY, _NOBODY, _NOBODY)


def _close_file_system() -> int:
    """A Landlock rule set that handles every right and allows none. Returns the version in force, 0 where the kernel has none."""
    version = int(_libc.syscall(_LANDLOCK_CREATE_RULESET, None, 0, _LANDLOCK_VERSION))
    if version < 1:
        return 0
    files = (1 << _FILE_RIGHTS[min(version, 5)]) - 1
    network = 0b11 if version >= 4 else 0  # bind and connect by TCP
    scoped = 0b11 if version >= 6 else 0  # abstract sockets of and signals to processes outside
    attributes = struct.pack("=QQQ", files, network, scoped)[: 8 if version < 4 else 16 if version < 6 else 24]
    ruleset = int(_libc.syscall(_LANDLOCK_CREATE_RULESET, attributes, len(attributes), 0))
    if ruleset < 0:
        return 0
    restricted = _libc.syscall(_LANDLOCK_RESTRICT_SELF, ruleset, 0)
    os.close(ruleset)
    return version if restricted == 0 else 0


def _filter_system_calls() -> bool:
    allowed = allowlist(platform.machine(), os.getpid())
    if allowed is None:
        return False
    code = programme(allowed.architecture, allowed.allowed, allowed.unknown)
    buffer = ctypes.create_string_buffer(code, len(code))
    header = struct.pack("@HP", len(code) // 8, ctypes.addressof(buffer))  # struct sock_fprog
    return int(_libc.prctl(_PR_SET_SECCOMP, _SECCOMP_MODE_FILTER, header, 0, 0)) == 0
