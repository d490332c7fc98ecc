"""The torch engine on a GPU beside the same engine on that machine's CPU: one JSON line each.

    python -m benchmarks.embedding_gpu --texts FILE [--model FOLDER] [--rounds 3]

`--texts` is a JSON list of passages. Needs torch with CUDA, sentence-transformers, tokenizers and numpy, nothing else of docray's. Figures:
passages a second, one question's p50, the smallest and mean cosine to float32 on the CPU (of the first `CPU_TEXTS`, which the CPU embeds in
a bearable time), and the GPU's peak memory.
"""

import argparse
import json
import statistics
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from models.embedding import EmbeddingEngine, EmbeddingSpec, build_engine

CPU_TEXTS = 512
QUESTIONS = 50
CONTESTANTS = {
    "cuda, as chosen": {"device": "cuda", "precision": "auto"},
    "cuda, float32": {"device": "cuda", "precision": "f32"},
    "cpu, float32": {"device": "cpu", "precision": "f32"},
}


def main() -> None:
    """Prints JSON lines; SystemExit where there is no GPU."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--texts", type=Path, required=True)
    parser.add_argument("--model")
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    if not torch.cuda.is_available():
        raise SystemExit("no CUDA device: torch.cuda.is_available() is False")
    texts: list[str] = json.loads(arguments.texts.read_text(encoding="utf-8"))
    engines = {name: opened(arguments.model, **options) for name, options in CONTESTANTS.items()}
    rates: dict[str, list[float]] = {name: [] for name in engines}
    vectors: dict[str, Any] = {}
    for _ in range(arguments.rounds):  # in turns, so that a busy machine is equally busy for all
        for name, engine in engines.items():
            share = texts if name.startswith("cuda") else texts[:CPU_TEXTS]
            started = time.perf_counter()
            vectors[name] = engine.embed_passages(share)
            rates[name].append(len(share) / (time.perf_counter() - started))
    reference = vectors["cpu, float32"]
    for name, engine in engines.items():
        cosines = np.sum(vectors[name][: len(reference)] * reference, axis=1)
        print(json.dumps({
            "benchmark": "embedding_gpu", "what": name, "gpu": torch.cuda.get_device_name(), "texts": len(vectors[name]),
            "passages_per_s": round(statistics.median(rates[name]), 1), "query_p50_ms": round(query_p50_ms(engine, texts), 2),
            "cosine_min": round(float(cosines.min()), 6), "cosine_mean": round(float(cosines.mean()), 6),
            "gpu_peak_mib": round(torch.cuda.max_memory_allocated() / 2**20) if name.startswith("cuda") else None,
        }), flush=True)  # fmt: skip


def opened(model: str | None, *, device: str, precision: Any) -> EmbeddingEngine:
    """An engine, warmed up."""
    engine = build_engine(EmbeddingSpec(cache_dir=Path("."), model=model, engine="sentence_transformers", device=device, precision=precision))
    engine.warm_up()
    return engine


def query_p50_ms(engine: EmbeddingEngine, texts: list[str]) -> float:
    """One question after the other: the first words of passages."""
    times = []
    for text in texts[:QUESTIONS]:
        started = time.perf_counter()
        engine.embed_queries([" ".join(text.split()[:12])])
        times.append((time.perf_counter() - started) * 1000)
    return statistics.median(times)


if __name__ == "__main__":
    main()
