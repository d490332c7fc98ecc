"""A BERT-family encoder as an OpenVINO graph over a checkpoint's tensors: token ids and lengths in, unit vectors out.

Owns the arithmetic, built once per checkpoint with `openvino.opset13`; no torch, no export. Leaves compiling and running to
`models.openvino_embedder`.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import openvino as ov
from openvino import opset13 as ops
from safetensors import deserialize, safe_open

from models.checkpoints import Checkpoint, CheckpointError

Tensors = Mapping[str, npt.NDArray[np.float32]]

MASKED = 1e4
"""Taken from the attention scores of padding: e^-10000 is 0 in float32 and bfloat16 alike, and it is far from overflow."""


def build_graph(checkpoint: Checkpoint) -> ov.Model:
    """The whole encoder: `token_ids` int32 (n, tokens), padded at the end, and `lengths` int32 (n) → float32 (n, dimension)."""
    return _BertGraph(checkpoint, read_tensors(checkpoint.weights)).model()


def read_tensors(files: Sequence[Path]) -> Tensors:
    """Every floating-point tensor as float32, by its name without the prefix that a checkpoint with a task head puts before it."""
    tensors: dict[str, npt.NDArray[np.float32]] = {}
    for path in files:
        for name, tensor in _floating_point(path):
            tensors[name.removeprefix("bert.").removeprefix("roberta.")] = tensor.astype(np.float32, copy=False)
    return tensors


def _floating_point(path: Path) -> Iterator[tuple[str, npt.NDArray[Any]]]:
    """(name, tensor) pairs; bfloat16, which NumPy does not know, is read as the upper half of float32."""
    with safe_open(path, framework="np") as file:
        names = list(file.keys())
        kinds = {name: file.get_slice(name).get_dtype() for name in names}
        for name in names:
            if kinds[name] in ("F16", "F32", "F64"):
                yield name, file.get_tensor(name)
    if "BF16" in kinds.values():
        records: Callable[[bytes], list[tuple[str, dict[str, Any]]]] = deserialize
        for name, raw in records(path.read_bytes()):
            if raw["dtype"] == "BF16":
                halves = np.frombuffer(raw["data"], np.uint16).astype(np.uint32)
                yield name, (halves << 16).view(np.float32).reshape(raw["shape"])


class _BertGraph:
    """One graph on its way."""

    def __init__(self, checkpoint: Checkpoint, tensors: Tensors) -> None:
        config: Mapping[str, Any] = checkpoint.architecture
        self._tensors = tensors
        self._pooling = checkpoint.pooling
        self._first_position = checkpoint.first_position
        self._layers = int(config["num_hidden_layers"])
        self._heads = int(config["num_attention_heads"])
        self._width = int(config["hidden_size"])
        self._epsilon = float(config.get("layer_norm_eps", 1e-12))

    def model(self) -> ov.Model:
        token_ids = ops.parameter([-1, -1], np.int32, name="token_ids")
        lengths = ops.parameter([-1], np.int32, name="lengths")
        tokens = ops.gather(ops.shape_of(token_ids), _integers(1), _integers(0))
        present = ops.convert(ops.less(ops.range(_integers(0), tokens, _integers(1), "i32"), ops.unsqueeze(lengths, _integers([1]))), "f32")
        hidden = self._embedded(token_ids, tokens)
        penalty = ops.unsqueeze(ops.multiply(ops.subtract(present, _floats(1)), _floats(MASKED)), _integers([1, 2]))
        for layer in range(self._layers):
            hidden = self._layer(hidden, penalty, f"encoder.layer.{layer}.")
        vectors = ops.normalize_l2(self._pooled(hidden, present), _integers([1]), 1e-12, "max")
        return ov.Model([vectors], [token_ids, lengths], "bert_embedder")

    def _embedded(self, token_ids: ov.Node, tokens: ov.Node) -> ov.Node:
        first = _integers(self._first_position)
        positions = ops.range(first, ops.add(tokens, first), _integers(1), "i64")
        words = ops.gather(self._constant("embeddings.word_embeddings.weight"), token_ids, _integers(0))
        places = ops.gather(self._constant("embeddings.position_embeddings.weight"), positions, _integers(0))
        one_sentence = ops.constant(self._tensor("embeddings.token_type_embeddings.weight")[0])
        return self._normed(ops.add(ops.add(words, places), one_sentence), "embeddings.LayerNorm")

    def _layer(self, hidden: ov.Node, penalty: ov.Node, prefix: str) -> ov.Node:
        attended = self._linear(self._attention(hidden, penalty, f"{prefix}attention.self."), f"{prefix}attention.output.dense")
        hidden = self._normed(ops.add(hidden, attended), f"{prefix}attention.output.LayerNorm")
        inner = ops.gelu(self._linear(hidden, f"{prefix}intermediate.dense"), "erf")
        return self._normed(ops.add(hidden, self._linear(inner, f"{prefix}output.dense")), f"{prefix}output.LayerNorm")

    def _attention(self, hidden: ov.Node, penalty: ov.Node, prefix: str) -> ov.Node:
        """All heads at once; query, key and value come from one product, which runs faster than three."""
        names = ("query", "key", "value")
        weight = np.concatenate([self._tensor(f"{prefix}{name}.weight") for name in names])
        bias = np.concatenate([self._tensor(f"{prefix}{name}.bias") for name in names])
        joined = ops.add(ops.matmul(hidden, ops.constant(weight), False, True), ops.constant(bias))
        split_heads = ops.reshape(joined, _integers([0, 0, 3, self._heads, self._width // self._heads]), True)
        by_head = ops.transpose(split_heads, _integers([2, 0, 3, 1, 4]))
        query, key, value = (ops.squeeze(part, _integers([0])) for part in ops.split(by_head, _integers(0), 3).outputs())
        attended = ops.scaled_dot_product_attention(query, key, value, penalty)
        return ops.reshape(ops.transpose(attended, _integers([0, 2, 1, 3])), _integers([0, 0, self._width]), True)

    def _pooled(self, hidden: ov.Node, present: ov.Node) -> ov.Node:
        if self._pooling == "cls":
            return ops.gather(hidden, _integers(0), _integers(1))
        weights = ops.unsqueeze(present, _integers([2]))
        return ops.divide(ops.reduce_sum(ops.multiply(hidden, weights), _integers([1])), ops.reduce_sum(weights, _integers([1])))

    def _normed(self, hidden: ov.Node, name: str) -> ov.Node:
        centred = ops.mvn(hidden, _integers([-1]), True, self._epsilon, "inside_sqrt")
        return ops.add(ops.multiply(centred, self._constant(f"{name}.weight")), self._constant(f"{name}.bias"))

    def _linear(self, hidden: ov.Node, name: str) -> ov.Node:
        return ops.add(ops.matmul(hidden, self._constant(f"{name}.weight"), False, True), self._constant(f"{name}.bias"))

    def _constant(self, name: str) -> ov.Node:
        return ops.constant(self._tensor(name), shared_memory=True)

    def _tensor(self, name: str) -> npt.NDArray[np.float32]:
        try:
            return self._tensors[name]
        except KeyError as error:
            raise CheckpointError(f"The weights have no tensor {name}. Choose the engine sentence_transformers.") from error


def _integers(values: int | list[int]) -> ov.Node:
    return ops.constant(np.array(values, np.int64))


def _floats(value: float) -> ov.Node:
    return ops.constant(np.array(value, np.float32))
