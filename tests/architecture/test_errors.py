"""Every error class survives the way through Ray: pickled and back with its state, and it is drawn in the tree."""

import pickle

import pytest

from docray.domain import errors
from docray.domain.documents import FAILURE_MESSAGES, FailureCode


def all_errors(root: type[errors.DocrayError] = errors.DocrayError) -> list[type[errors.DocrayError]]:
    return [root, *(found for each in root.__subclasses__() if each.__module__ == errors.__name__ for found in all_errors(each))]


@pytest.mark.parametrize("kind", all_errors(), ids=lambda kind: kind.__name__)
def test_it_pickles_with_its_state(kind: type[errors.DocrayError]) -> None:
    error = kind(FailureCode.ENCRYPTED) if kind is errors.ExtractionFailed else kind("what to do", "filter.page", 2.5)
    again = pickle.loads(pickle.dumps(error))  # noqa: S301 - that it can be pickled is the point
    assert type(again) is kind
    assert (again.args, again.message, again.code, again.type) == (error.args, error.message, error.code, error.type)
    assert (getattr(again, "param", None), getattr(again, "retry_after_s", None)) == (
        getattr(error, "param", None),
        getattr(error, "retry_after_s", None),
    )


@pytest.mark.parametrize("kind", all_errors(), ids=lambda kind: kind.__name__)
def test_it_is_drawn_in_the_tree_and_says_something(kind: type[errors.DocrayError]) -> None:
    assert kind.__name__ in (errors.__doc__ or "")
    assert len((kind.__doc__ or "").split()) >= 4


def test_every_failure_code_has_a_sentence() -> None:
    assert set(FAILURE_MESSAGES) == set(FailureCode)
    assert all(message.endswith(".") for message in FAILURE_MESSAGES.values())
