"""Every setting of docray, read from the environment once. The only module that reads it.

Names are `DOCRAY_` + the field in capitals (`DOCRAY_MAX_DOCUMENT_BYTES=…`); a secret may come from a file named by `…_FILE`.
Owns defaults and their checks. Leaves building anything from them to `docray.wiring`.
"""

import functools
import os
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict


class Settings(BaseSettings):
    """Settings, frozen. Sizes in bytes, times in seconds."""

    model_config = SettingsConfigDict(env_prefix="DOCRAY_", frozen=True, extra="ignore")

    # --- the instance
    data_dir: Path = Path(".docray")
    url: str | None = None
    api_key: SecretStr | None = None
    port: int = Field(8000, ge=1, le=65535)
    host: str = "127.0.0.1"

    # --- stores
    database_dsn: SecretStr | None = None  # None: the embedded PostgreSQL of the data folder
    database_worker_dsn: SecretStr | None = None  # the ingest worker's role
    database_admin_dsn: SecretStr | None = None  # for migrations: may create roles
    database_pool_size: int = Field(8, ge=1, le=200)
    blob_dir: Path | None = None  # None: DATA_DIR/blobs

    # --- limits of a document
    max_document_bytes: int = Field(512 << 20, ge=1)
    max_pages: int = Field(5000, ge=1)
    extract_time_s: float = Field(120.0, gt=0)
    extract_memory_bytes: int = Field(2 << 30, ge=64 << 20)
    max_text_bytes: int = Field(64 << 20, ge=1)
    requests_per_minute: int | None = Field(None, ge=1)
    max_json_bytes: int = Field(1 << 20, ge=1024)

    # --- extraction and chunks
    pdf_engine: Literal["pymupdf", "pypdfium2"] = "pymupdf"
    require_sandbox: bool = False
    parser_children: int = Field(2, ge=1, le=64)
    chunk_tokens: int = Field(200, ge=32, le=8192)

    # --- embedding
    embedding_model: str | None = None  # None: all-MiniLM-L6-v2 from its package; a folder; or a hub name
    embedding_model_next: str | None = None  # the model that `docray reindex` is to bring, loaded beside the present one until then
    embedding_engine: Literal["auto", "openvino", "sentence_transformers"] = "auto"
    embedding_precision: Literal["auto", "f32", "bf16"] = "auto"
    embedding_threads: int = Field(0, ge=0)  # 0: as many as cores
    embedder: Literal["local", "remote"] = "local"  # in the gateway's process, or the Serve deployment `embedder`
    query_prefix: str | None = None
    passage_prefix: str | None = None
    query_cache_size: int = Field(10_000, ge=0)

    # --- answering
    llm_provider: Literal["none", "openai", "anthropic"] = "none"
    llm_base_url: str | None = None
    llm_model: str | None = None
    llm_api_key: SecretStr | None = None
    llm_timeout_s: float = Field(120.0, gt=0)
    llm_max_tokens: int = Field(1024, ge=1)
    llm_temperature: float = Field(0.0, ge=0, le=2)
    llm_context_tokens: int = Field(6000, ge=256)
    llm_usd_per_million_prompt_tokens: float = Field(0.0, ge=0)
    llm_usd_per_million_completion_tokens: float = Field(0.0, ge=0)

    # --- the worker
    lease_s: float = Field(45.0, gt=0)
    heartbeat_s: float = Field(10.0, gt=0)
    poll_s: float = Field(0.25, gt=0)
    worker_concurrency: int = Field(2, ge=1, le=64)

    # --- bulk runs
    ray_dashboard_url: str | None = None  # of the cluster that runs them; None: this machine
    ray_token: SecretStr | None = None
    bulk_niceness: int = Field(15, ge=0, le=19)  # of every process that works for a run
    bulk_guard: bool = True  # a run works less while searches would wait for it

    # --- retention and logs
    idempotency_hours: float = Field(24.0, gt=0)
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"
    max_concurrent_requests: int = Field(64, ge=1)

    @property
    def cache(self) -> Path:
        """What can be computed or fetched again: measurements, weights from a hub."""
        return (self.data_dir / "cache").absolute()

    @property
    def blobs(self) -> Path:
        """Where PDFs are kept."""
        return (self.blob_dir or self.data_dir / "blobs").absolute()


def _secrets_from_files() -> dict[str, Any]:
    """Values of `DOCRAY_X_FILE` for each field x, read and stripped."""
    found = {}
    for name in Settings.model_fields:
        path = os.environ.get(f"DOCRAY_{name.upper()}_FILE")
        if path:
            found[name] = Path(path).read_text(encoding="utf-8").strip()
    return found


def load(**overrides: Any) -> Settings:
    """Settings from the environment, secret files and overrides, the later winning. ValidationError names the field."""
    return Settings(**{**_secrets_from_files(), **overrides})


@functools.cache
def current() -> Settings:
    """This process's settings, read once."""
    return load()


def child_environment(**extra: str) -> dict[str, str]:
    """This process's environment for a process that it starts, with additions. Ray's and docray's settings pass through."""
    return {**os.environ, **extra}
