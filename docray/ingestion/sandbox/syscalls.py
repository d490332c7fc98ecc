"""Which system calls a parsing child may make, per processor.

Found by strace over both engines and liteparse, plus what the C library falls back to. Memory, its own threads, time, and reading and
writing what is open already. Not among them: opening files, sockets, starting programs or processes, signals to others, tracing,
mounting, keys, io_uring, BPF, userfaultfd, other name spaces.
"""

from dataclasses import dataclass

from docray.ingestion.sandbox.bpf import When

_PLAIN = (
    "read", "write", "readv", "writev", "pread64", "pwrite64", "close", "lseek", "fstat", "dup", "mmap", "munmap", "mremap", "madvise",
    "brk", "futex", "clock_gettime", "clock_getres", "clock_nanosleep", "nanosleep", "gettimeofday", "getrandom", "sched_yield",
    "sched_getaffinity", "getpid", "gettid", "getuid", "geteuid", "getgid", "getegid", "getrusage", "sysinfo", "uname", "times",
    "rt_sigaction", "rt_sigprocmask", "rt_sigreturn", "sigaltstack", "restart_syscall", "exit", "exit_group", "set_robust_list",
    "get_robust_list", "rseq", "set_tid_address", "membarrier", "poll", "ppoll", "epoll_create1", "epoll_ctl", "epoll_wait", "epoll_pwait",
    "eventfd2",
)  # fmt: skip
_CLONE_THREAD = 0x00010000
_PROT_EXEC = 0x4
_AT_EMPTY_PATH = 0x1000
_PR_SET_NAME, _PR_SET_VMA = 15, 0x53564D41  # a thread's name; a mapping's name
_AF_UNIX = 1
_FCNTL_COMMANDS = (0, 1, 2, 3, 4, 1030)  # duplicate, get and set flags; not F_SETOWN, which makes the kernel signal another process
_CONDITIONS = {
    "clone": When(0, (_CLONE_THREAD,), _CLONE_THREAD),  # threads, never processes
    "mprotect": When(2, (0,), _PROT_EXEC),
    "fcntl": When(1, _FCNTL_COMMANDS),
    "newfstatat": When(3, (_AT_EMPTY_PATH,), _AT_EMPTY_PATH),  # what is open already, not what lies on the disk
    "prctl": When(0, (_PR_SET_NAME, _PR_SET_VMA)),
    "socketpair": When(0, (_AF_UNIX,)),  # liteparse's runtime wakes itself through one; nobody else can be reached by it
    "prlimit64": When(2, (0,)),  # reading limits, not setting them
}
_X86_64 = {
    "read": 0, "write": 1, "close": 3, "fstat": 5, "poll": 7, "lseek": 8, "mmap": 9, "mprotect": 10, "munmap": 11, "brk": 12,
    "rt_sigaction": 13, "rt_sigprocmask": 14, "rt_sigreturn": 15, "pread64": 17, "pwrite64": 18, "readv": 19, "writev": 20,
    "sched_yield": 24, "mremap": 25, "madvise": 28, "dup": 32, "nanosleep": 35, "getpid": 39, "socketpair": 53, "clone": 56, "exit": 60,
    "uname": 63, "fcntl": 72, "gettimeofday": 96, "getrusage": 98, "sysinfo": 99, "times": 100, "getuid": 102, "getgid": 104,
    "geteuid": 107, "getegid": 108, "sigaltstack": 131, "prctl": 157, "gettid": 186, "futex": 202, "sched_getaffinity": 204,
    "set_tid_address": 218, "restart_syscall": 219, "clock_gettime": 228, "clock_getres": 229, "clock_nanosleep": 230, "exit_group": 231,
    "epoll_wait": 232, "epoll_ctl": 233, "tgkill": 234, "newfstatat": 262, "ppoll": 271, "set_robust_list": 273, "get_robust_list": 274,
    "epoll_pwait": 281, "eventfd2": 290, "epoll_create1": 291, "prlimit64": 302, "getrandom": 318, "membarrier": 324, "statx": 332,
    "rseq": 334, "clone3": 435,
}  # fmt: skip
_AARCH64 = {
    "eventfd2": 19, "epoll_create1": 20, "epoll_ctl": 21, "epoll_pwait": 22, "dup": 23, "fcntl": 25, "close": 57, "lseek": 62, "read": 63,
    "write": 64, "readv": 65, "writev": 66, "pread64": 67, "pwrite64": 68, "ppoll": 73, "newfstatat": 79, "fstat": 80, "exit": 93,
    "exit_group": 94, "set_tid_address": 96, "futex": 98, "set_robust_list": 99, "get_robust_list": 100, "nanosleep": 101,
    "clock_gettime": 113, "clock_getres": 114, "clock_nanosleep": 115, "sched_getaffinity": 123, "sched_yield": 124,
    "restart_syscall": 128, "tgkill": 131, "sigaltstack": 132, "rt_sigaction": 134, "rt_sigprocmask": 135, "rt_sigreturn": 139,
    "times": 153, "uname": 160, "getrusage": 165, "prctl": 167, "gettimeofday": 169, "getpid": 172, "getuid": 174, "geteuid": 175,
    "getgid": 176, "getegid": 177, "gettid": 178, "sysinfo": 179, "socketpair": 199, "brk": 214, "munmap": 215, "mremap": 216,
    "clone": 220, "mmap": 222, "mprotect": 226, "madvise": 233, "prlimit64": 261, "getrandom": 278, "membarrier": 283, "statx": 291,
    "rseq": 293, "clone3": 435,
}  # fmt: skip
_TABLES = {"x86_64": (0xC000003E, _X86_64), "aarch64": (0xC00000B7, _AARCH64)}
# The C library tries these first and falls back: clone3's flags and statx's path cannot be looked at by a filter.
_FALL_BACK = ("clone3", "statx")


@dataclass(frozen=True, slots=True)
class Allowlist:
    """For one processor: its audit number, number → condition, and the numbers to deny the existence of."""

    architecture: int
    allowed: dict[int, When | None]
    unknown: tuple[int, ...]


def allowlist(machine: str, pid: int) -> Allowlist | None:
    """The list for `platform.machine()`, or None for a processor without one. Process `pid` may signal itself (abort does)."""
    if machine not in _TABLES:
        return None
    architecture, numbers = _TABLES[machine]
    allowed: dict[int, When | None] = {numbers[name]: None for name in _PLAIN if name in numbers}
    allowed.update({numbers[name]: when for name, when in _CONDITIONS.items()})
    allowed[numbers["mmap"]] = When(2, (0,), _PROT_EXEC)
    allowed[numbers["tgkill"]] = When(0, (pid,))
    return Allowlist(architecture, allowed, tuple(numbers[name] for name in _FALL_BACK))
