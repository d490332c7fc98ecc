"""Builds the engines that `docray` may not import, from settings: the embedder of this process, and the language model."""

from docray.domain.errors import InvalidField
from docray.domain.ports import Generator
from docray.settings import Settings
from models.embedding import EmbeddingEngine, EmbeddingSpec, build_engine
from models.in_process import InProcessEmbedder
from models.remote_llm import Prices, remote_llm


def embedding_engine(settings: Settings) -> EmbeddingEngine:
    """The engine of the configured model, warmed up."""
    spec = EmbeddingSpec(
        model=settings.embedding_model,
        engine=settings.embedding_engine,
        precision=settings.embedding_precision,
        threads=settings.embedding_threads,
        query_prefix=settings.query_prefix,
        passage_prefix=settings.passage_prefix,
        cache_dir=settings.cache,
    )
    engine = build_engine(spec)
    engine.warm_up()
    return engine


def local_embedder(settings: Settings) -> InProcessEmbedder:
    """The embedder in this process."""
    return InProcessEmbedder(embedding_engine(settings), query_cache_size=settings.query_cache_size)


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
