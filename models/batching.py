"""How texts are put together into batches. Owns only that; what a batch runs on is the engines' business."""

from collections.abc import Iterator, Sequence
from typing import Literal

Serves = Literal["queries", "passages"]
"""What batches are for: an answer to each as soon as can be, or as many texts a second as can be."""

MAX_PADDING_TOKENS = 32
"""A text that would be padded by more than this opens a new batch: by then padding costs more than another call."""


def length_sorted_batches(lengths: Sequence[int], token_budget: int) -> Iterator[list[int]]:
    """Yields indices in batches of like length, longest first: padded batches hold at most `token_budget` tokens, or one text.

    Longest first, so that memory peaks at the start and not at the end of a long run.
    """
    batch: list[int] = []
    for index in sorted(range(len(lengths)), key=lambda index: -lengths[index]):
        longest = lengths[batch[0]] if batch else lengths[index]
        if batch and ((len(batch) + 1) * longest > token_budget or longest - lengths[index] > MAX_PADDING_TOKENS):
            yield batch
            batch = []
        batch.append(index)
    if batch:
        yield batch
