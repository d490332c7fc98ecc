"""Settings → engines: the embedder of this process, its way of counting tokens, and the language model. `docray` may not import them."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from docray.domain.errors import InvalidField
from docray.domain.ports import Generator
from docray.settings import Settings
from models.batching import Serves
from models.checkpoints import resolve_checkpoint
from models.embedding import EmbeddingEngine, EmbeddingSpec, build_engine
from models.in_process import InProcessEmbedder
from models.remote_llm import Prices, remote_llm
from models.tokenization import TextTokenizer


@dataclass(frozen=True, slots=True)
class TokenCounter:
    """`count(texts)` as `EmbeddingEngine.count_tokens`, the most tokens a passage may have, and whose tokens these are."""

    count: Callable[[Sequence[str]], list[int]]
    max_tokens: int
    model_id: str


def embedding_spec(settings: Settings, serves: Serves = "passages") -> EmbeddingSpec:
    """What to embed with."""
    return EmbeddingSpec(
        serves=serves,
        model=settings.embedding_model,
        engine=settings.embedding_engine,
        precision=settings.embedding_precision,
        threads=settings.embedding_threads,
        query_prefix=settings.query_prefix,
        passage_prefix=settings.passage_prefix,
        cache_dir=settings.cache,
    )


def embedding_engine(settings: Settings, serves: Serves = "passages") -> EmbeddingEngine:
    """The engine of the configured model, warmed up."""
    engine = build_engine(embedding_spec(settings, serves))
    engine.warm_up()
    return engine


def token_counter(settings: Settings) -> TokenCounter:
    """How the configured model counts tokens, without the model where its folder has a tokenizer.json: for processes that only cut text."""
    spec = embedding_spec(settings)
    checkpoint = resolve_checkpoint(spec.model, cache_dir=spec.cache_dir, query_prefix=spec.query_prefix, passage_prefix=spec.passage_prefix)
    if not checkpoint.tokenizer_file.is_file():
        engine = build_engine(spec)
        return TokenCounter(engine.count_tokens, engine.max_tokens, engine.model_id)
    definition = checkpoint.tokenizer_file.read_text(encoding="utf-8")
    tokenizer = TextTokenizer(definition, checkpoint.max_sequence_tokens, lower_case=checkpoint.lower_case)
    return TokenCounter(tokenizer.count, tokenizer.passage_limit(checkpoint.passage_prefix), checkpoint.model_id)


def local_embedder(settings: Settings, serves: Serves = "passages") -> InProcessEmbedder:
    """The embedder in this process."""
    return InProcessEmbedder(embedding_engine(settings, serves), query_cache_size=settings.query_cache_size)


def next_settings(settings: Settings) -> Settings | None:
    """Settings under which the next model is the model; None where none is named. The prefixes set by hand belong to the present model."""
    if settings.embedding_model_next is None:
        return None
    changes = {"embedding_model": settings.embedding_model_next, "query_prefix": None, "passage_prefix": None}
    return settings.model_copy(update={**changes, "embedding_model_next": None})


def next_embedder(settings: Settings, serves: Serves = "passages") -> InProcessEmbedder | None:
    """The embedder of the next model in this process, None where none is named."""
    following = next_settings(settings)
    return None if following is None else local_embedder(following, serves)


def language_model(settings: Settings) -> Generator | None:
    """The configured language model, or None: then answers quote. InvalidField when a provider is named without a model."""
    if settings.llm_provider == "none":
        return None
    if not settings.llm_model:
        raise InvalidField("DOCRAY_LLM_PROVIDER is set, so DOCRAY_LLM_MODEL must name a model.", "llm_model")
    return remote_llm(
        settings.llm_provider,
        model=settings.llm_model,
        base_url=settings.llm_base_url,
        api_key=settings.llm_api_key.get_secret_value() if settings.llm_api_key else None,
        timeout_s=settings.llm_timeout_s,
        prices=Prices(
            usd_per_million_prompt_tokens=settings.llm_usd_per_million_prompt_tokens,
            usd_per_million_completion_tokens=settings.llm_usd_per_million_completion_tokens,
        ),
    )
