"""Does a large bulk run need more memory than a small one, and does it go on as fast?

    python -m benchmarks.bulk_memory [--pages 1000,20000] [--layers 6|1] [--source FOLDER …]

Each run has a tenant, a Ray and PDFs of its own: the shared reports cut into files of 20 pages, each with a line of its own, so that no two are
duplicates. Memory is the sum of the proportional set sizes of the command, Ray's processes and their children, Ray's object store included, every
two seconds. `--layers 1` embeds with the first layer of the six of all-MiniLM-L6-v2, about five times as fast: every step and every process is there,
the vectors are worth nothing. The figures say which it was.

`peak_mib`          largest sum; `usual_mib` the median of the sums of the run's second half
`pages_per_s`       between the first and the last look at which pages were ready: without the start
`peak_of_smallest`  as a multiple of the smallest run's (wanted ≤ 1.3); `rate_of_smallest` (wanted ≥ .9)
"""

import argparse
import json
import shutil
import statistics
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from safetensors.numpy import load_file, save_file

from benchmarks.bulk_command import BulkCommand, BulkRun
from benchmarks.bulk_site import bare_site, ray_apart
from benchmarks.bulk_sources import multiplied, sources_of
from benchmarks.instance import figure
from models.checkpoints import resolve_checkpoint

REAL_LAYERS = 6


def main() -> None:
    """Prints a line of JSON for each size."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pages", default="1000,20000", help="sizes, the reference first")
    parser.add_argument("--layers", type=int, default=REAL_LAYERS, help="of the embedding model that are computed (default: all)")
    parser.add_argument("--source", type=Path, action="append", help="a folder of PDFs; may be given again (default: ../shared/data/throughput)")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="bulk-", ignore_cleanup_errors=True) as scratch:
        folder = Path(scratch)
        more = {"DOCRAY_EMBEDDING_MODEL": str(shortened(folder / "model", arguments.layers))} if arguments.layers < REAL_LAYERS else {}
        reference: dict[str, Any] | None = None
        with bare_site(folder) as site:
            for number, wanted in enumerate(int(size) for size in arguments.pages.split(",")):
                source = folder / f"in-{number}"
                pages = multiplied(sources_of(arguments.source), source, wanted)
                with ray_apart() as apart:
                    run = BulkCommand(site.environment(**apart, **more), source, site.new_tenant(), servers=[site.postgres_pid()]).result()
                shutil.rmtree(source)
                row = _row(pages, run)
                reference = reference or row
                figure(
                    benchmark="bulk_memory", layers=arguments.layers, **row, peak_of_smallest=round(row["peak_mib"] / reference["peak_mib"], 3),
                    rate_of_smallest=round(row["pages_per_s"] / reference["pages_per_s"], 3),
                )  # fmt: skip


def _row(pages: int, run: BulkRun) -> dict[str, Any]:
    half = [size for seconds, size in run.samples if seconds > run.command_s / 2]
    told = run.told
    return {
        "pages": pages, "files": told["files"], "ready": told["ready"], "failed": told["failed"], "duplicate": told["duplicate"],
        "seconds": told["seconds"], "ray_start_s": round(run.ray_start_s, 1), "peak_mib": round(run.peak_pss_mib),
        "usual_mib": round(statistics.median(half) / 2**20), "peak_rss_mib": round(run.peak_rss_mib),
        "postgres_peak_mib": round(run.servers_peak_pss_mib), "pages_per_s": round(rate(told["samples"]), 2),
        "cpu_s_per_1000": round(1000 * run.cpu_s / pages, 1),
    }  # fmt: skip


def rate(samples: Sequence[Mapping[str, float]]) -> float:
    """Pages a second between the first and the last look that saw any."""
    seen = [sample for sample in samples if sample["pages"]]
    first = seen[0]
    last = next(sample for sample in seen if sample["pages"] == seen[-1]["pages"])
    if last is first:
        raise SystemExit("the run was too short to tell its rate: give more pages")
    return (last["pages"] - first["pages"]) / (last["seconds"] - first["seconds"])


def shortened(folder: Path, layers: int) -> Path:
    """The default weights without the layers from there on, as a model folder of its own."""
    checkpoint = resolve_checkpoint(None, cache_dir=folder)
    shutil.copytree(checkpoint.folder, folder, ignore=shutil.ignore_patterns("*.safetensors"))
    (folder / "config.json").write_text(json.dumps({**checkpoint.architecture, "num_hidden_layers": layers}))
    tensors = {name: tensor for path in checkpoint.weights for name, tensor in load_file(path).items()}
    kept = {name: tensor for name, tensor in tensors.items() if ".layer." not in name or int(name.split(".layer.")[1].split(".")[0]) < layers}
    save_file(kept, folder / "model.safetensors")
    return folder


if __name__ == "__main__":
    main()
