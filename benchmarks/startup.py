"""`docray up` to ready, and back to answering after each part was killed: `python -m benchmarks.startup` (starts an instance of its own).

Warm: the data folder exists and everything was imported before. Figures in seconds, wall time.
"""

import json
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil

from benchmarks.instance import figure
from docray.instance.probing import answers

ROUNDS = 3
DOCRAY = Path(sys.executable).with_name("docray")
PARTS = ("ray::ServeReplica:docray:Gateway", "postgres", "haproxy", "raylet")


def up(folder: str) -> tuple[float, dict[str, object]]:
    """Seconds until `docray up` returned, and what it says."""
    started = time.monotonic()
    done = subprocess.run([DOCRAY, "up", "--data-dir", folder, "--json"], capture_output=True, text=True, check=True)
    return time.monotonic() - started, json.loads(done.stdout)


def down(folder: str) -> None:
    """Stops it."""
    subprocess.run([DOCRAY, "down", "--data-dir", folder], capture_output=True, check=True)


def recovery_s(supervisor: int, part: str, url: str) -> float:
    """Seconds from SIGKILL until `/readyz` answers 200 five times in a row."""
    victims = [p for p in psutil.Process(supervisor).children(recursive=True) if p.name() == part or part in " ".join(p.cmdline())]
    victims[0].send_signal(signal.SIGKILL)
    started, good = time.monotonic(), 0
    while good < 5:
        good = good + 1 if answers(f"{url}/readyz") else 0
        time.sleep(0.1)
    return time.monotonic() - started


def main() -> None:
    """Prints JSON lines."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        try:
            cold, _ = up(folder)
            down(folder)
            warm = []
            for _ in range(ROUNDS):
                spent, told = up(folder)
                warm.append(spent)
                down(folder)
            figure(benchmark="startup", first_s=round(cold, 1), warm_s=round(statistics.median(warm), 1), rounds=ROUNDS)
            _, told = up(folder)
            for part in PARTS:
                figure(benchmark="recovery", killed=part, seconds=round(recovery_s(int(str(told["pid"])), part, str(told["url"])), 1))
        finally:
            down(folder)


if __name__ == "__main__":
    main()
