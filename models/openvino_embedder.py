"""Embedding on CPUs with OpenVINO, for the BERT family, without torch.

Owns compiling the graph, batches on infer requests, and the choice of precision by measurement. Leaves the graph to
`models.bert_graph`, text to `models.tokenization`. What it gains over sentence-transformers: `benchmarks/embedding.py`.
"""

import contextlib
import logging
import queue
from collections import deque
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import openvino as ov

from docray.domain.ports import Vectors
from models import precision as precisions
from models.batching import Serves, length_sorted_batches
from models.bert_graph import build_graph
from models.checkpoints import Checkpoint
from models.precision import ChosenPrecision, Precision
from models.tokenization import TextTokenizer

logger = logging.getLogger(__name__)

THREADS_OF_QUERIES = 4
"""Work on one batch, where each question is to be answered soon: one short text keeps about four cores busy."""

MOST_STREAMS = 16
"""Batches at once, where many passages are to be embedded: a thread each is a seventh faster than two threads on one, but each takes memory."""

TOKENS_PER_THREAD = 512
"""Of a padded batch. 384 to 640 tokens run equally fast, with one thread each; 256 and 768 take a tenth longer."""

WARM_UP_WORDS = (1, 4, 8, 16, 32, 64, 128, 256)


class CpuModel:
    """A compiled graph with its infer requests, safe for several threads.

    `streams` batches run at once; one more request than streams exists, so that a query need not wait for a batch to be
    collected before it can queue behind it.
    """

    def __init__(self, compiled: ov.CompiledModel, streams: int) -> None:
        self._streams = streams
        self._idle: queue.LifoQueue[ov.InferRequest] = queue.LifoQueue()
        for _ in range(streams + 1):
            self._idle.put(compiled.create_infer_request())

    def run(self, encoded: Sequence[list[int]], batches: Iterator[list[int]], dimension: int) -> Vectors:
        """Vectors of the encoded texts, in their order, computed in the given batches of indices."""
        vectors = np.empty((len(encoded), dimension), np.float32)
        running: deque[tuple[ov.InferRequest, list[int]]] = deque()
        try:
            for batch in batches:
                inputs = _padded([encoded[index] for index in batch])
                request = self._request(running, vectors)
                running.append((request, batch))
                request.start_async(inputs)
            while running:
                self._collect(running, vectors)
        finally:
            for request, _ in running:  # only after a failure
                with contextlib.suppress(RuntimeError):  # which a cancelled request answers with
                    request.cancel()
                    request.wait()
                self._idle.put(request)
        return vectors

    def _request(self, running: deque[tuple[ov.InferRequest, list[int]]], vectors: Vectors) -> ov.InferRequest:
        """An idle request. Waits for others only while holding none, so that two callers cannot wait for each other."""
        if len(running) >= self._streams:
            self._collect(running, vectors)
        while running:
            try:
                return self._idle.get_nowait()
            except queue.Empty:
                self._collect(running, vectors)
        return self._idle.get()

    def _collect(self, running: deque[tuple[ov.InferRequest, list[int]]], vectors: Vectors) -> None:
        request, batch = running[0]
        request.wait()
        vectors[batch] = request.get_output_tensor(0).data
        running.popleft()
        self._idle.put(request)


class OpenVinoEmbedder:
    """`EmbeddingEngine` for BERT-family checkpoints on CPUs. Build it with `open`."""

    def __init__(self, checkpoint: Checkpoint, tokenizer: TextTokenizer, model: CpuModel, precision: ChosenPrecision, token_budget: int) -> None:
        self.model_id = checkpoint.model_id
        self.dimension = int(checkpoint.architecture["hidden_size"])
        self.precision = precision
        self.max_tokens = tokenizer.passage_limit(checkpoint.passage_prefix)
        self._checkpoint = checkpoint
        self._tokenizer = tokenizer
        self._model: CpuModel | None = model
        self._token_budget = token_budget

    @classmethod
    def open(cls, checkpoint: Checkpoint, *, precision: Precision, threads: int, serves: Serves, cache_dir: Path) -> "OpenVinoEmbedder":
        """Builds and compiles the graph. `precision` `auto` measures on this machine, once per `cache_dir`."""
        streams = max(1, threads // THREADS_OF_QUERIES) if serves == "queries" else min(threads, MOST_STREAMS)
        compiler = _Compiler(checkpoint, threads, streams)
        definition = checkpoint.tokenizer_file.read_text(encoding="utf-8")
        tokenizer = TextTokenizer(definition, checkpoint.max_sequence_tokens, lower_case=checkpoint.lower_case)

        def engine(chosen: ChosenPrecision) -> OpenVinoEmbedder:
            return cls(checkpoint, tokenizer, compiler.compiled(chosen), chosen, TOKENS_PER_THREAD * threads // streams)

        if precision != "auto":
            return engine(precision)
        key = f"{checkpoint.model_id} | {compiler.machine} | {threads} threads"
        known = precisions.remembered(cache_dir, key)
        if known is not None:
            return engine(known.precision)
        f32 = engine("f32")
        try:
            bf16 = engine("bf16")
        except RuntimeError as error:  # a processor for which OpenVINO has no bfloat16 at all
            logger.info("No bfloat16 on this machine: %s", error, extra={"action": "measure_precision"})
            return f32
        measurement = precisions.measure(f32.embed_passages, bf16.embed_passages)
        precisions.remember(cache_dir, key, measurement)
        return bf16 if measurement.precision == "bf16" else f32

    def embed_passages(self, texts: Sequence[str]) -> Vectors:
        """See `EmbeddingEngine`."""
        return self._embed([self._checkpoint.passage_prefix + text for text in texts])

    def embed_queries(self, texts: Sequence[str]) -> Vectors:
        """See `EmbeddingEngine`."""
        return self._embed([self._checkpoint.query_prefix + text for text in texts])

    def count_tokens(self, texts: Sequence[str]) -> list[int]:
        """See `EmbeddingEngine`."""
        return self._tokenizer.count(texts)

    def warm_up(self) -> None:
        """Runs texts of many lengths, alone and in batches: the plugin prepares its kernels per shape."""
        for words in WARM_UP_WORDS:
            self.embed_queries(["word " * words])
        self.embed_passages(precisions.passages())

    def close(self) -> None:
        """Lets go of the compiled model; its memory is freed once running calls have ended."""
        self._model = None

    def _embed(self, texts: Sequence[str]) -> Vectors:
        model = self._model
        if model is None:
            raise RuntimeError("This embedding engine is closed.")
        encoded = self._tokenizer.encode(texts)
        batches = length_sorted_batches([len(tokens) for tokens in encoded], self._token_budget)
        return model.run(encoded, batches, self.dimension)


class _Compiler:
    """One graph, compiled for this machine as often as there are precisions to compare."""

    def __init__(self, checkpoint: Checkpoint, threads: int, streams: int) -> None:
        self._graph = build_graph(checkpoint)
        self._core = ov.Core()
        self._threads = threads
        self._streams = streams

    @property
    def machine(self) -> str:
        """What a measurement holds for: processor, its abilities, OpenVINO."""
        name = str(self._core.get_property("CPU", "FULL_DEVICE_NAME")).strip()
        abilities = " ".join(sorted(self._core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")))
        return f"{name} | {abilities} | openvino {ov.__version__}"

    def compiled(self, precision: ChosenPrecision) -> CpuModel:
        """The graph in one precision. Threads are not pinned: several processes would be pinned to the same cores."""
        options: dict[str, Any] = {
            "INFERENCE_PRECISION_HINT": precision,
            "NUM_STREAMS": self._streams,
            "INFERENCE_NUM_THREADS": self._threads,
            "ENABLE_CPU_PINNING": False,
        }
        return CpuModel(self._core.compile_model(self._graph, "CPU", options), self._streams)


def _padded(encoded: Sequence[list[int]]) -> dict[str, npt.NDArray[np.int32]]:
    """Token ids as one array, zeros at the end, with the lengths that tell the model what is padding."""
    lengths = np.array([max(1, len(tokens)) for tokens in encoded], np.int32)  # a mean over no token would be no number
    token_ids = np.zeros((len(encoded), int(lengths.max())), np.int32)
    for row, tokens in enumerate(encoded):
        token_ids[row, : len(tokens)] = tokens
    return {"token_ids": token_ids, "lengths": lengths}
