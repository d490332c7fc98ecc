"""What a family of processes costs: processor seconds and memory, sampled from /proc while it runs.

Counts the descendants of the given processes, those that have ended included: a process keeps its time in its parent's account of
children, or, where the parent does not wait for children (Ray's raylet), what was seen last is kept here. Memory is the sum of
proportional set sizes, in which a page that several processes share, such as Ray's object store, counts once; and of resident set sizes,
in which it counts for each.
"""

import contextlib
import os
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

PERIOD_S = 0.5  # a look at all processes takes some milliseconds
MEMORY_PERIOD_S = 2.0  # proportional sizes cost the kernel a walk over all pages
_TICKS_A_S = os.sysconf("SC_CLK_TCK")
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
_Key = tuple[int, int]  # process id and start time: ids are used again


@dataclass
class _Seen:
    parent: _Key | None
    own: int = 0
    reaped: int = 0
    alive: bool = True


@dataclass
class Family:
    """Descendants of processes, the processes included, watched on a thread while the block runs. `add` takes in more."""

    roots: list[int]
    memory_period_s: float = MEMORY_PERIOD_S
    peak_pss_bytes: int = 0
    peak_rss_bytes: int = 0
    samples: list[tuple[float, int]] = field(default_factory=list)
    """(seconds since the start, bytes): proportional set sizes."""
    first_operator_s: float | None = None
    """Seconds until Ray ran its first task or actor."""

    def __post_init__(self) -> None:
        self._seen: dict[_Key, _Seen] = {}
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="family", daemon=True)
        self._started = time.monotonic()
        self._memory_due = 0.0
        self._look()
        self._before = self._ticks()

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Stops watching, after a last look. Once more: nothing happens."""
        if not self._stop.is_set():
            self._stop.set()
            self._thread.join()
            self._look()

    @property
    def cpu_s(self) -> float:
        """Processor seconds since the start, of all together."""
        return (self._ticks() - self._before) / _TICKS_A_S

    @property
    def since_s(self) -> float:
        """Seconds since the start."""
        return time.monotonic() - self._started

    def _watch(self) -> None:
        while not self._stop.wait(PERIOD_S):
            self._look()

    def _look(self) -> None:
        table = _processes()
        members = self._members(table)
        for key, seen in self._seen.items():
            seen.alive = key in members
        for key in members:
            parent, own, reaped, _ = table[key]
            seen = self._seen.setdefault(key, _Seen(parent))
            seen.own, seen.reaped = own, reaped
        self._measure(members, table)

    def _members(self, table: dict[_Key, tuple[_Key | None, int, int, int]]) -> set[_Key]:
        children: dict[_Key | None, list[_Key]] = {}
        for key, (parent, *_) in table.items():
            children.setdefault(parent, []).append(key)
        waiting = [key for key in table if key in self._seen or key[0] in self.roots]
        found: set[_Key] = set()
        while waiting:
            key = waiting.pop()
            if key not in found:
                found.add(key)
                waiting += children.get(key, [])
        return found

    def _measure(self, members: set[_Key], table: dict[_Key, tuple[_Key | None, int, int, int]]) -> None:
        self.peak_rss_bytes = max(self.peak_rss_bytes, sum(table[key][3] for key in members))
        since = self.since_s
        if self.first_operator_s is None and any(_works_for_ray(pid) for pid, _ in members):
            self.first_operator_s = since
        if since >= self._memory_due:
            self._memory_due = since + self.memory_period_s
            proportional = sum(_pss_bytes(pid) for pid, _ in members)
            self.samples.append((round(since, 1), proportional))
            self.peak_pss_bytes = max(self.peak_pss_bytes, proportional)

    def _ticks(self) -> int:
        seen = dict(self._seen)
        ended: dict[_Key, int] = {}
        for one in seen.values():
            if not one.alive and one.parent in seen:
                ended[one.parent] = ended.get(one.parent, 0) + one.own + one.reaped
        return sum(one.own + max(0, one.reaped - ended.get(key, 0)) for key, one in seen.items())


def _processes() -> dict[_Key, tuple[_Key | None, int, int, int]]:
    """All processes: (id, start) → (parent, own ticks, ticks of children it waited for, resident bytes)."""
    found: dict[_Key, tuple[int, int, int, int]] = {}
    keys: dict[int, _Key] = {}
    for name in os.listdir("/proc"):
        if name.isdigit():
            with contextlib.suppress(OSError):
                words = Path(f"/proc/{name}/stat").read_bytes().rpartition(b")")[2].split()
                key = keys[int(name)] = (int(name), int(words[19]))
                found[key] = (int(words[1]), int(words[11]) + int(words[12]), int(words[13]) + int(words[14]), int(words[21]) * _PAGE_BYTES)
    return {key: (keys.get(parent), *rest) for key, (parent, *rest) in found.items()}  # type: ignore[misc]


def _works_for_ray(pid: int) -> bool:
    with contextlib.suppress(OSError):
        title = Path(f"/proc/{pid}/cmdline").read_bytes()
        return title.startswith(b"ray::") and not title.startswith(b"ray::IDLE")
    return False


def _pss_bytes(pid: int) -> int:
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{pid}/smaps_rollup").read_bytes().splitlines():
            if line.startswith(b"Pss:"):
                return int(line.split()[1]) * 1024
    return 0
