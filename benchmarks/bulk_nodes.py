"""What distribution costs: the same bulk run over 1, 2 and 4 simulated nodes on this machine's cores.

    python -m benchmarks.bulk_nodes [--source FOLDER …] [--pages-limit N] [--nodes 1,2,4] [--rounds 3]

Nodes are raylets with an object store each (`ray.cluster_utils`), so that blocks go over the network between them. The work is the same each time:
as many readers and embedders, the same logical CPUs in all, shared out among the nodes, and the same cores below; only the borders differ. The
cluster runs before the clock starts; each run has a tenant of its own. Medians of the rounds, which go from one layout to the next.

`overhead`   share of the time of one node that a run takes longer (wanted ≤ .15)
"""

import argparse
import contextlib
import secrets
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from benchmarks.bulk_command import BulkCommand, BulkRun
from benchmarks.bulk_site import ROOT, BareSite, bare_site
from benchmarks.bulk_sources import gathered, sources_of
from benchmarks.instance import figure

HOST = ROOT / "tests" / "pipelines" / "ray_host.py"
ACTORS = ("--extract-actors", "2", "--embed-actors", "1")


def main() -> None:
    """Prints a line of JSON for each number of nodes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--source", type=Path, action="append", help="a folder of PDFs; may be given again (default: ../shared/data/throughput)")
    parser.add_argument("--pages-limit", type=int, default=0, help="takes files until there are so many pages; 0: all")
    parser.add_argument("--nodes", default="1,2,4", help="layouts, the reference first")
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    layouts = [int(count) for count in arguments.nodes.split(",")]
    with tempfile.TemporaryDirectory(prefix="bulk-", ignore_cleanup_errors=True) as scratch:
        folder = Path(scratch)
        pages = gathered(sources_of(arguments.source), folder / "in", arguments.pages_limit)
        runs: dict[int, list[BulkRun]] = {count: [] for count in layouts}
        with bare_site(folder) as site:
            for number in range(arguments.rounds):
                for count in layouts:
                    runs[count].append(_run(site, folder / "in", count, max(layouts)))
                    print(f"round {number + 1}, {count} nodes: {runs[count][-1].told['seconds']} s", file=sys.stderr, flush=True)
    alone = _seconds(runs[layouts[0]])
    for count, done in runs.items():
        figure(
            benchmark="bulk_nodes", nodes=count, pages=pages, seconds=_seconds(done), pages_per_s=round(pages / _seconds(done), 2),
            overhead=round(_seconds(done) / alone - 1, 3), cpu_s_per_1000=round(1000 * statistics.median(run.cpu_s for run in done) / pages, 1),
            all_ended=all(run.told["files"] == sum(run.told[how] for how in ("ready", "failed", "duplicate")) for run in done), rounds=len(done),
        )  # fmt: skip


def _seconds(runs: list[BulkRun]) -> float:
    return float(statistics.median(run.told["seconds"] for run in runs))


def _run(site: BareSite, source: Path, nodes: int, logical_cpus: int) -> BulkRun:
    tenant = site.new_tenant()
    environment = site.environment(RAY_AUTH_MODE="token", RAY_AUTH_TOKEN=secrets.token_hex(32))
    with _cluster(environment, nodes, max(1, logical_cpus // nodes)) as (address, host_pid):
        servers = [site.postgres_pid(), host_pid]
        return BulkCommand(environment | {"RAY_ADDRESS": address}, source, tenant, *ACTORS, servers=servers).result()


@contextlib.contextmanager
def _cluster(environment: dict[str, str], nodes: int, cpus_a_node: int) -> Iterator[tuple[str, int]]:
    """So many nodes, the head among them: the address, and the process that holds them."""
    with tempfile.TemporaryDirectory(prefix="docray-ray-", ignore_cleanup_errors=True) as folder:
        host = subprocess.Popen(
            [sys.executable, HOST, folder, str(cpus_a_node)], env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL, text=True,
        )  # fmt: skip
        assert host.stdin is not None
        assert host.stdout is not None
        try:
            address = host.stdout.readline().strip()
            for _ in range(nodes - 1):
                host.stdin.write(f"add {cpus_a_node} any\n")
                host.stdin.flush()
                if not host.stdout.readline():
                    raise SystemExit("the cluster's process ended; run tests/pipelines/ray_host.py by hand to see why")
            yield address, host.pid
        finally:
            host.stdin.close()
            host.stdout.close()
            host.wait(120)


if __name__ == "__main__":
    main()
