"""The settings of the model that a reindex is to bring."""

from docray.settings import Settings
from models.configured import embedding_spec, next_embedder, next_settings


def test_without_a_next_model_there_is_none() -> None:
    assert next_settings(Settings()) is None
    assert next_embedder(Settings()) is None


def test_the_next_model_goes_by_its_own_prefixes_and_has_no_next_one() -> None:
    settings = Settings(embedding_model="a", embedding_model_next="b", query_prefix="ask: ", passage_prefix="read: ", embedding_threads=3)
    following = next_settings(settings)
    assert following is not None
    assert (following.embedding_model_next, following.embedding_threads) == (None, 3)
    spec = embedding_spec(following)
    assert (spec.model, spec.query_prefix, spec.passage_prefix) == ("b", None, None)
    assert embedding_spec(settings).query_prefix == "ask: "
