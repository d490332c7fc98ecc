"""The port of embedding engines, what an operator may choose about them, and the one function that builds them.

Owns `EmbeddingEngine`, `EmbeddingSpec` and which engine fits a checkpoint and a machine. Leaves finding weights to
`models.checkpoints`, computing to `models.openvino_embedder` and `models.torch_embedder`, waiting and caching to
`models.in_process`. Importing this module loads neither torch nor OpenVINO.
"""

import ctypes
import importlib.util
import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

from docray.domain.ports import Vectors
from models.batching import Serves
from models.checkpoints import Checkpoint, CheckpointError, resolve_checkpoint
from models.precision import Precision

EngineName = Literal["auto", "openvino", "sentence_transformers"]

CGROUP_CPU_LIMIT = Path("/sys/fs/cgroup/cpu.max")


class EmbeddingEngine(Protocol):
    """Text → unit vectors in this process. Sync; safe to call from several threads.

    `model_id` names what the vectors depend on (weights, tokenizer, pooling, prefixes), not the engine: vectors of one id
    compare, whichever engine made them. `max_tokens` is how long a passage may be, as `count_tokens` counts, before its end
    is cut off.
    """

    model_id: str
    dimension: int
    max_tokens: int

    def embed_passages(self, texts: Sequence[str]) -> Vectors:
        """Float32 of shape (n, dimension), L2-normalised, in the order of the texts. What exceeds `max_tokens` is not read."""
        ...

    def embed_queries(self, texts: Sequence[str]) -> Vectors:
        """The same for questions, with the model's query prefix."""
        ...

    def count_tokens(self, texts: Sequence[str]) -> list[int]:
        """Tokens of each text, without special tokens and prefixes, not truncated."""
        ...

    def warm_up(self) -> None:
        """Runs declared examples, so that the first caller does not pay for first-time work."""
        ...

    def close(self) -> None:
        """Lets go of the model. Calls after it raise RuntimeError."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class EmbeddingSpec:
    """What to embed with.

    `model`: None (all-MiniLM-L6-v2 from its package), a folder, or a hub name `org/name[@revision]`. `threads`: 0 means as many
    as this process has cores. `serves`: `queries` for single questions soonest, `passages` for as many texts a second as can be; both
    are embedded by either. `cache_dir`: where hub downloads and the machine's measurements are kept. A prefix of None means the
    model's own.
    """

    cache_dir: Path
    model: str | None = None
    engine: EngineName = "auto"
    precision: Precision = "auto"
    threads: int = 0
    serves: Serves = "passages"
    device: str = "auto"
    query_prefix: str | None = None
    passage_prefix: str | None = None


def build_engine(spec: EmbeddingSpec) -> EmbeddingEngine:
    """Finds the weights, opens the engine that fits. `CheckpointError` says what to do where that is not possible."""
    checkpoint = resolve_checkpoint(spec.model, cache_dir=spec.cache_dir, query_prefix=spec.query_prefix, passage_prefix=spec.passage_prefix)
    if chosen_engine(spec, checkpoint) == "openvino":
        from models.openvino_embedder import OpenVinoEmbedder

        threads = spec.threads or available_cores()
        return OpenVinoEmbedder.open(checkpoint, precision=spec.precision, threads=threads, serves=spec.serves, cache_dir=spec.cache_dir)
    from models.torch_embedder import TorchEmbedder

    return TorchEmbedder.open(checkpoint, precision=spec.precision, threads=spec.threads, device=spec.device)


def chosen_engine(spec: EmbeddingSpec, checkpoint: Checkpoint) -> Literal["openvino", "sentence_transformers"]:
    """`openvino` or `sentence_transformers`: as asked, else OpenVINO for the BERT family where there is no CUDA."""
    unfit = checkpoint.unfit_for_graph
    if spec.engine == "openvino":
        if unfit:
            raise CheckpointError(f"The embedding engine openvino cannot run {checkpoint.name}: {unfit}. Choose sentence_transformers.")
        return "openvino"
    has_torch = bool(importlib.util.find_spec("sentence_transformers") and importlib.util.find_spec("torch"))
    has_openvino = importlib.util.find_spec("openvino") is not None
    if spec.engine == "auto" and has_openvino and not unfit and not (has_torch and cuda_device_count()):
        return "openvino"
    if not has_torch:
        reason = f"{unfit}, so it needs" if unfit else "it is to run with"
        raise CheckpointError(
            f"{checkpoint.name}: {reason} sentence-transformers, which is not installed. "
            "Install torch and sentence-transformers, or choose a BERT-family model with the engine openvino."
        )
    return "sentence_transformers"


def cuda_device_count() -> int:
    """CUDA devices this process may use, asked of the driver: importing torch for that would take seconds and 300 MiB.

    The driver honours CUDA_VISIBLE_DEVICES, so a Ray actor without GPUs counts 0 on a GPU node.
    """
    try:
        driver = ctypes.CDLL("libcuda.so.1")
    except OSError:
        return 0
    count = ctypes.c_int(0)
    if driver.cuInit(0) != 0 or driver.cuDeviceGetCount(ctypes.byref(count)) != 0:
        return 0
    return count.value


def available_cores() -> int:
    """Cores this process may use: CPU affinity, and a container's CPU quota (cgroup v2) where it is lower."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        quota, period = CGROUP_CPU_LIMIT.read_text(encoding="ascii").split()
    except (OSError, ValueError):
        return cores
    return cores if quota == "max" else max(1, min(cores, math.ceil(int(quota) / int(period))))
