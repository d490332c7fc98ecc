"""One contract for every embedding engine, run on both; and OpenVINO's vectors beside those of sentence-transformers."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from docray.domain.ports import Embedder
from models.batching import Serves
from models.embedding import EmbeddingEngine, EmbeddingSpec, EngineName, build_engine
from models.in_process import InProcessEmbedder
from models.precision import Precision

ENGINES: tuple[EngineName, ...] = ("openvino", "sentence_transformers")
LICENSE = Path(__file__).resolve().parents[2] / "LICENSE"

ODD_TEXTS = [
    "",
    " ",
    "\n\t",
    "a",
    "\x00",
    "\ud800 a lone surrogate",
    "🙂🙃 👩‍👩‍👧‍👦 🏳️‍🌈",
    "年度预算于三月十四日获得批准。",
    "本装置は、訓練を受けた者のみが開けることができます。",
    "وافق المجلس على الميزانية السنوية في 14 مارس.",
    "מועצת המנהלים אישרה את התקציב השנתי",
    "x" * 500,
    "word " * 5000,
]


def real_texts() -> list[str]:
    """50 texts from one to about 600 words, odd ones among them."""
    words = LICENSE.read_text(encoding="utf-8").split()
    lengths = [1, 2, 3, 5, 8, 12, 18, 25, 33, 40, 60, 80, 100, 110, 120, 130, 140, 150, 160, 170, 175, 180, 190, 200, 210, 220, 250, 300, 600]
    slices = [" ".join(words[13 * n : 13 * n + length]) for n, length in enumerate(lengths)]
    return [*ODD_TEXTS, *slices, *(" ".join(words[29 * n : 29 * n + 90]) for n in range(8))]


def opened(engine: EngineName, folder: Path, model: str | None = None, precision: Precision = "f32", **prefixes: str) -> EmbeddingEngine:
    return build_engine(EmbeddingSpec(engine=engine, precision=precision, model=model, cache_dir=folder, **prefixes))


@pytest.fixture(scope="module", params=ENGINES)
def engine(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddingEngine]:
    engine = opened(request.param, tmp_path_factory.mktemp("cache"))
    engine.warm_up()
    yield engine
    engine.close()


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddingEngine]:
    engine = opened("sentence_transformers", tmp_path_factory.mktemp("cache"))
    yield engine
    engine.close()


@pytest.mark.parametrize("threads", [1, 2, 5])
@pytest.mark.parametrize("serves", ["queries", "passages"])
def test_however_many_batches_run_at_once_the_vectors_are_the_same(serves: Serves, threads: int, reference: EmbeddingEngine, tmp_path: Path) -> None:
    texts = real_texts()
    spec = EmbeddingSpec(engine="openvino", precision="f32", cache_dir=tmp_path, threads=threads, serves=serves)
    engine = build_engine(spec)
    assert cosines(engine.embed_passages(texts), reference.embed_passages(texts)).min() >= 0.9999
    engine.close()


def cosines(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    return np.sum(left * right, axis=1)


# --- the contract ---------------------------------------------------------------------------------------------------------


def test_vectors_are_unit_float32_one_per_text(engine: EmbeddingEngine) -> None:
    texts = real_texts()
    for vectors in (engine.embed_passages(texts), engine.embed_queries(texts[:7])):
        assert vectors.dtype == np.float32
        assert vectors.shape[1] == engine.dimension == 384
        np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1.0, atol=1e-5)
    assert len(engine.embed_passages(texts)) == len(texts)


def test_the_order_of_texts_is_kept_whatever_their_lengths(engine: EmbeddingEngine) -> None:
    texts = [text for text in real_texts() if text.strip()][::3]
    together = engine.embed_passages(texts)
    alone = np.concatenate([engine.embed_passages([text]) for text in texts])
    assert np.abs(together - alone).max() < 1e-5  # the batch changes the last bits only
    reversed_order = engine.embed_passages(texts[::-1])[::-1]
    assert np.abs(together - reversed_order).max() < 1e-5


def test_the_same_batch_gives_the_same_vectors(engine: EmbeddingEngine) -> None:
    texts = real_texts()[::3]
    np.testing.assert_array_equal(engine.embed_passages(texts), engine.embed_passages(texts))


def test_no_texts_give_no_vectors(engine: EmbeddingEngine) -> None:
    assert engine.embed_passages([]).shape == (0, 384)
    assert engine.embed_queries([]).shape == (0, 384)
    assert engine.count_tokens([]) == []


def test_what_exceeds_the_limit_is_not_read_and_what_does_not_is(engine: EmbeddingEngine) -> None:
    full = "word " * engine.max_tokens
    assert engine.count_tokens([full]) == [engine.max_tokens]
    whole, longer, other_end = engine.embed_passages([full, full + "unread ending", full[:-5] + "zebra"])
    np.testing.assert_allclose(whole, longer, atol=1e-6)
    assert np.abs(whole - other_end).max() > 1e-4


def test_tokens_are_counted_without_special_tokens_and_without_a_limit(engine: EmbeddingEngine) -> None:
    assert engine.count_tokens(["", "hello world", "word " * 3000]) == [0, 2, 3000]


def test_like_means_near(engine: EmbeddingEngine) -> None:
    question = engine.embed_queries(["When was the budget approved?"])[0]
    near, far = engine.embed_passages(["The board approved the budget on 14 March.", "The airplane struck trees short of the runway."])
    assert question @ near > question @ far + 0.2


def test_several_threads_may_call_at_once(engine: EmbeddingEngine) -> None:
    texts = real_texts()[5:45:4]
    expected = engine.embed_passages(texts)
    with ThreadPoolExecutor(8) as pool:
        for vectors in pool.map(lambda _: engine.embed_passages(texts), range(8)):
            assert np.abs(vectors - expected).max() < 1e-5


@pytest.mark.parametrize("name", ENGINES)
def test_a_closed_engine_says_so(name: EngineName, tmp_path: Path, tiny_bert: Path) -> None:
    engine = opened(name, tmp_path, str(tiny_bert))
    engine.close()
    with pytest.raises(RuntimeError, match="closed"):
        engine.embed_queries(["anyone there?"])


# --- OpenVINO beside the reference ------------------------------------------------------------------------------------------


def test_openvino_in_float32_equals_sentence_transformers(reference: EmbeddingEngine, tmp_path: Path) -> None:
    engine, texts = opened("openvino", tmp_path), real_texts()
    assert len(texts) == 50
    assert engine.model_id == reference.model_id
    assert engine.max_tokens == reference.max_tokens
    assert engine.count_tokens(texts) == reference.count_tokens(texts)
    assert cosines(engine.embed_passages(texts), reference.embed_passages(texts)).min() >= 0.9999


def test_the_precision_measured_on_this_machine_stays_true_to_float32_and_is_remembered(reference: EmbeddingEngine, tmp_path: Path) -> None:
    texts = real_texts()
    engine = opened("openvino", tmp_path, precision="auto")
    assert cosines(engine.embed_passages(texts), reference.embed_passages(texts)).min() >= 0.999
    (results,) = tmp_path.glob("embedding-precision.json")
    written = results.stat().st_mtime_ns
    assert opened("openvino", tmp_path, precision="auto").precision == engine.precision
    assert results.stat().st_mtime_ns == written


def test_openvino_in_bfloat16_stays_near_float32_wherever_it_runs(tmp_path: Path) -> None:
    texts = real_texts()[13:20]  # few and short: processors without bfloat16 emulate it slowly
    single, half = (opened("openvino", tmp_path, precision=precision) for precision in ("f32", "bf16"))
    assert cosines(half.embed_passages(texts), single.embed_passages(texts)).min() >= 0.999


async def test_the_port_over_an_engine_gives_the_engines_vectors(engine: EmbeddingEngine) -> None:
    embedder: Embedder = InProcessEmbedder(engine)
    texts = real_texts()[::4]
    assert np.abs(await embedder.embed_passages(texts) - engine.embed_passages(texts)).max() < 1e-5
    assert np.abs(await embedder.embed_queries(texts) - engine.embed_queries(texts)).max() < 1e-5
    assert await embedder.count_tokens(texts) == engine.count_tokens(texts)


# --- other checkpoints, made on the spot --------------------------------------------------------------------------------------


def save_checkpoint(
    folder: Path, scratch: Path, *, family: str = "bert", pooling: str = "cls", dtype: str = "float32", prompts: dict[str, str] | None = None
) -> Path:
    """A tiny random encoder of 48 dimensions and 32 tokens, saved by sentence-transformers."""
    import torch
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.base.modules import Transformer
    from sentence_transformers.sentence_transformer.modules import Pooling
    from transformers import BertConfig, BertModel, XLMRobertaConfig, XLMRobertaModel

    from models.checkpoints import resolve_checkpoint

    packaged = resolve_checkpoint(None, cache_dir=scratch).folder
    torch.manual_seed(7)
    size = {"hidden_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 96, "vocab_size": 30522}
    if family == "bert":
        encoder = BertModel(BertConfig(**size, max_position_embeddings=64, initializer_range=0.2))
    else:
        encoder = XLMRobertaModel(XLMRobertaConfig(**size, max_position_embeddings=66, type_vocab_size=1, pad_token_id=0, initializer_range=0.2))
    encoder.to(getattr(torch, dtype)).save_pretrained(scratch)
    for name in ("tokenizer.json", "tokenizer_config.json", "vocab.txt"):
        (scratch / name).write_bytes((packaged / name).read_bytes())
    transformer = Transformer(str(scratch), max_seq_length=32)
    SentenceTransformer(modules=[transformer, Pooling(48, pooling)], prompts=prompts, device="cpu").save(str(folder))
    return folder


@pytest.fixture(scope="module")
def tiny_bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folders = tmp_path_factory.mktemp("tiny")
    return save_checkpoint(folders / "tiny-bert", folders, prompts={"query": "query: ", "document": "passage: "})


@pytest.mark.parametrize(
    ("family", "pooling", "dtype"),
    [("bert", "cls", "float32"), ("bert", "mean", "float16"), ("bert", "mean", "bfloat16"), ("xlm-roberta", "mean", "float32")],
)
def test_both_engines_agree_on_other_families_poolings_and_stored_types(family: str, pooling: str, dtype: str, tmp_path: Path) -> None:
    folder = str(save_checkpoint(tmp_path / "model", tmp_path, family=family, pooling=pooling, dtype=dtype))
    ours, reference = (opened(name, tmp_path, folder) for name in ENGINES)
    texts = real_texts()
    assert ours.dimension == reference.dimension == 48
    assert ours.max_tokens == reference.max_tokens == 30
    assert ours.model_id == reference.model_id
    expected = reference.embed_passages(texts)
    assert np.abs(ours.embed_passages(texts) - expected).max() < 1e-4
    assert np.abs(expected[-1] - expected[-2]).max() > 1e-2  # or the comparison would mean little


@pytest.mark.parametrize("name", ENGINES)
def test_prefixes_that_the_model_declares_are_put_before_questions_and_passages(name: EngineName, tmp_path: Path, tiny_bert: Path) -> None:
    declared = opened(name, tmp_path, str(tiny_bert))
    bare = opened(name, tmp_path, str(tiny_bert), query_prefix="", passage_prefix="")
    texts = real_texts()[13:25]
    np.testing.assert_allclose(declared.embed_queries(texts), bare.embed_queries([f"query: {text}" for text in texts]), atol=1e-5)
    np.testing.assert_allclose(declared.embed_passages(texts), bare.embed_passages([f"passage: {text}" for text in texts]), atol=1e-5)
    assert np.abs(declared.embed_queries(texts) - bare.embed_queries(texts)).max() > 1e-2
    assert declared.model_id != bare.model_id
    assert declared.count_tokens(texts) == bare.count_tokens(texts)
    assert (declared.max_tokens, bare.max_tokens) == (28, 30)  # "passage" and ":" take two
