"""Embedding with sentence-transformers: GPUs, and every model family that `models.bert_graph` does not know.

Owns loading from local safetensors, the device and its arithmetic. sentence-transformers sorts by length and batches. torch is
imported when a model is opened, so that this module can be imported where torch is not installed.
"""

import functools
import threading
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from docray.domain.ports import Vectors
from models.checkpoints import Checkpoint
from models.precision import SENTENCES, passages
from models.tokenization import TextTokenizer, encodable

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

BATCH_TEXTS = {"cuda": 256, "mps": 32, "cpu": 8}
"""Texts per batch: enough to fill the device, few enough to stay in a CPU's caches."""


class TorchEmbedder:
    """`EmbeddingEngine` over sentence-transformers. Build it with `open`."""

    def __init__(self, checkpoint: Checkpoint, model: "SentenceTransformer", device: str) -> None:
        self.model_id = checkpoint.model_id
        self.dimension = int(model.get_embedding_dimension() or 0)
        self._tokenizer = TextTokenizer(_tokenizer_definition(model), checkpoint.max_sequence_tokens, lower_case=checkpoint.lower_case)
        self.max_tokens = self._tokenizer.passage_limit(checkpoint.passage_prefix)
        self._checkpoint = checkpoint
        self._model: SentenceTransformer | None = model
        self._batch_texts = BATCH_TEXTS.get(device.partition(":")[0], BATCH_TEXTS["cpu"])
        self._lock = threading.Lock()

    @classmethod
    def open(cls, checkpoint: Checkpoint, *, precision: str = "auto", threads: int = 0, device: str = "auto") -> "TorchEmbedder":
        """Loads the model. `device` is `auto` (CUDA, else Apple's, else CPU) or a torch device; `threads` 0 leaves torch's choice.

        `precision` `auto` is bfloat16 on CUDA devices that have it, else float32.
        """
        import torch
        from sentence_transformers import SentenceTransformer

        if threads:
            torch.set_num_threads(threads)
        chosen = _best_device() if device == "auto" else device
        half = precision == "bf16" or (precision == "auto" and chosen.startswith("cuda") and torch.cuda.is_bf16_supported())
        model = SentenceTransformer(
            str(checkpoint.folder),
            device=chosen,
            local_files_only=True,
            trust_remote_code=False,
            model_kwargs={"use_safetensors": True, "dtype": torch.bfloat16 if half else torch.float32},
        )
        if model.max_seq_length:
            model.max_seq_length = checkpoint.max_sequence_tokens
        return cls(checkpoint, model, chosen)

    def embed_passages(self, texts: Sequence[str]) -> Vectors:
        """See `EmbeddingEngine`."""
        return self._embed(texts, self._checkpoint.passage_prefix)

    def embed_queries(self, texts: Sequence[str]) -> Vectors:
        """See `EmbeddingEngine`."""
        return self._embed(texts, self._checkpoint.query_prefix)

    def count_tokens(self, texts: Sequence[str]) -> list[int]:
        """See `EmbeddingEngine`."""
        return self._tokenizer.count(texts)

    def warm_up(self) -> None:
        """Runs one query and passages of several lengths."""
        self.embed_queries(SENTENCES[:1])
        self.embed_passages(passages())

    def close(self) -> None:
        """Lets go of the model."""
        self._model = None

    def _embed(self, texts: Sequence[str], prefix: str) -> Vectors:
        """One call at a time: two at once make torch's threads fight, and transformers' tokenizers forbid it."""
        with self._lock:
            if self._model is None:
                raise RuntimeError("This embedding engine is closed.")
            if not texts:
                return np.empty((0, self.dimension), np.float32)
            raw: Any = self._model.encode(
                [encodable(text) for text in texts], prompt=prefix, batch_size=self._batch_texts, show_progress_bar=False, convert_to_numpy=True
            )
        vectors: Vectors = np.asarray(raw, np.float32)
        vectors /= np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
        return vectors


@functools.cache
def _best_device() -> str:
    import torch

    if torch.cuda.is_available():
        return "cuda"
    return "mps" if torch.backends.mps.is_available() else "cpu"


def _tokenizer_definition(model: "SentenceTransformer") -> str:
    """What tokenizer.json holds or would hold; static embedding models carry the bare tokenizer."""
    tokenizer: Any = model.tokenizer
    return str(getattr(tokenizer, "backend_tokenizer", tokenizer).to_str())
