"""Fixtures of the answering tests."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from answering_library import Library
from hypothesis import settings

from models.embedding import EmbeddingSpec, build_engine
from models.in_process import InProcessEmbedder

settings.register_profile("untimed", deadline=None)  # a busy machine is no failure
settings.load_profile("untimed")


@pytest.fixture(scope="session")
def embedder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[InProcessEmbedder]:
    """The real default model, in this process."""
    cache: Path = tmp_path_factory.mktemp("embedding")
    found = InProcessEmbedder(build_engine(EmbeddingSpec(cache_dir=cache, engine="openvino", precision="f32")))
    yield found
    found.close()


@pytest.fixture
def library(embedder: InProcessEmbedder) -> Library:
    """An empty library."""
    return Library(embedder)
