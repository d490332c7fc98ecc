"""`python -m pipelines.ingest` as a process, watched: how long it took, with and without Ray's start, and what it cost."""

import json
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.bulk_site import ROOT
from benchmarks.processes import Family


@dataclass
class BulkRun:
    """What a run of the command came to. `told` is its own summary; of the whole command: `command_s`."""

    told: Mapping[str, Any]
    command_s: float
    ray_start_s: float
    cpu_s: float
    peak_pss_mib: float
    peak_rss_mib: float
    servers_peak_pss_mib: float
    samples: list[tuple[float, int]] = field(default_factory=list)


class BulkCommand:
    """`python -m pipelines.ingest` of a tenant, watched. `servers`: PostgreSQL, and nodes of a Ray that runs already."""

    def __init__(self, environment: Mapping[str, str], source: Path, tenant: str, *words: str, servers: Sequence[int] = ()) -> None:
        self._log = tempfile.TemporaryFile("w+")  # noqa: SIM115 - as long as this lives
        self._process = subprocess.Popen(
            [sys.executable, "-m", "pipelines.ingest", "--source", str(source), "--tenant", tenant, "--json", *words],
            cwd=ROOT, env=dict(environment), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=self._log, text=True,
        )  # fmt: skip
        self._family = Family([self._process.pid])
        self._servers = Family(list(servers))
        self._family.__enter__()
        self._servers.__enter__()

    @property
    def since_s(self) -> float:
        """Seconds since the start."""
        return self._family.since_s

    def running(self) -> bool:
        """Whether it has not ended yet."""
        return self._process.poll() is None

    def result(self, timeout_s: float = 7200.0) -> BulkRun:
        """Waits for its end. SystemExit with its log when the run failed."""
        try:
            told, _ = self._process.communicate(timeout=timeout_s)
        except BaseException:
            self._process.send_signal(signal.SIGTERM)
            self._process.wait(60)
            raise
        command_s = self.since_s
        self._family.close()
        self._servers.close()
        if self._process.returncode != 0:
            self._log.seek(0)
            raise SystemExit(f"the run failed ({self._process.returncode})\n{self._log.read()[-4000:]}")
        both = [self._family, self._servers]
        return BulkRun(
            told=json.loads(told), command_s=command_s, ray_start_s=self._family.first_operator_s or self._servers.first_operator_s or 0.0,
            cpu_s=sum(family.cpu_s for family in both), peak_pss_mib=self._family.peak_pss_bytes / 2**20,
            peak_rss_mib=self._family.peak_rss_bytes / 2**20, servers_peak_pss_mib=self._servers.peak_pss_bytes / 2**20, samples=self._family.samples,
        )  # fmt: skip
