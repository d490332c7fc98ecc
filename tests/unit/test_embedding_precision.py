"""bfloat16 is chosen where it is faster here and true, by measurement; batches hold texts of like length."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from docray.domain.ports import Vectors
from models.batching import MAX_PADDING_TOKENS, length_sorted_batches
from models.precision import RESULTS, SENTENCES, Measurement, measure, passages, remember, remembered


class Clock:
    """A clock that goes on when something says it took time."""

    def __init__(self) -> None:
        self.now = 0.0
        self.texts = 0

    def __call__(self) -> float:
        return self.now

    def embedding(self, seconds_per_text: float, angle: float = 0.0) -> Callable[[Sequence[str]], Vectors]:
        """Vectors of two dimensions at an angle to the first axis, computed at a speed."""

        def embed(texts: Sequence[str]) -> Vectors:
            self.now += seconds_per_text * len(texts)
            self.texts += len(texts)
            return np.array([[np.cos(angle), np.sin(angle)]] * len(texts), np.float32)

        return embed


@pytest.mark.parametrize(
    ("bf16_s", "angle", "chosen"),
    [
        (0.25, 0.01, "bf16"),  # four times faster, cosine .99995
        (0.25, 0.06, "f32"),  # as fast, cosine .9982
        (0.95, 0.01, "f32"),  # not worth it
        (1.20, 0.01, "f32"),
        (9.00, 0.01, "f32"),
    ],
)
def test_bfloat16_must_be_faster_and_true(bf16_s: float, angle: float, chosen: str) -> None:
    clock = Clock()
    found = measure(clock.embedding(1.0), clock.embedding(bf16_s, angle), clock)
    assert found.precision == chosen
    assert found.cosine_min == pytest.approx(np.cos(angle), abs=1e-5)
    assert found.bf16_s / found.f32_s == pytest.approx(bf16_s)


def test_a_hopeless_precision_is_given_up_after_one_sentence() -> None:
    clock = Clock()
    measure(clock.embedding(1.0), clock.embedding(10.0), clock)
    assert clock.texts <= 8


def test_the_measured_passages_are_of_many_lengths() -> None:
    words = [len(text.split()) for text in passages()]
    assert words == sorted(words)
    assert words[0] == len(SENTENCES[0].split())
    assert words[-1] > 180


FOUND = Measurement(precision="bf16", f32_s=2.0, bf16_s=0.5, cosine_min=0.9998)


def test_results_are_kept_by_key(tmp_path: Path) -> None:
    folder = tmp_path / "made" / "when needed"
    assert remembered(folder, "machine a") is None
    other = replace(FOUND, precision="f32")
    remember(folder, "machine a", FOUND)
    remember(folder, "machine b", other)
    assert remembered(folder, "machine a") == FOUND
    assert remembered(folder, "machine b") == other
    assert remembered(folder, "machine c") is None
    assert [path.name for path in folder.iterdir()] == [RESULTS]


@pytest.mark.parametrize("content", ["", "{", "[]", '{"key": {"precision": "bf16"}}', '{"key": 3}', '{"key": {"unknown": 1}}'])
def test_a_file_that_makes_no_sense_is_measured_anew(tmp_path: Path, content: str) -> None:
    (tmp_path / RESULTS).write_text(content)
    assert remembered(tmp_path, "key") is None
    remember(tmp_path, "key", FOUND)
    assert remembered(tmp_path, "key") == FOUND


def test_a_folder_that_cannot_be_written_is_no_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    remember(tmp_path / "file" / "folder", "key", FOUND)
    assert remembered(tmp_path / "file" / "folder", "key") is None


@given(lengths=st.lists(st.integers(0, 600), max_size=80), budget=st.integers(1, 3000))
def test_batches_hold_every_text_once_within_the_budget(lengths: list[int], budget: int) -> None:
    batches = list(length_sorted_batches(lengths, budget))
    assert sorted(index for batch in batches for index in batch) == list(range(len(lengths)))
    for batch in batches:
        longest, shortest = lengths[batch[0]], lengths[batch[-1]]
        assert longest == max(lengths[index] for index in batch)
        assert len(batch) == 1 or len(batch) * longest <= budget
        assert longest - shortest <= MAX_PADDING_TOKENS
    assert [lengths[batch[0]] for batch in batches] == sorted((lengths[batch[0]] for batch in batches), reverse=True)
