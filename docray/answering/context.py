"""What a language model gets to read: the best passages, numbered, within a budget of tokens.

Owns how much fits and how passages are made harmless. Leaves the words around them to `docray.answering.prompt`. Tokens are counted
with the embedder's tokeniser, which is near enough to any model's for a budget.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from docray.answering.characters import visible
from docray.answering.evidence import Evidence
from docray.domain.ports import Embedder

_LABEL_TOKENS = 40  # of a passage's frame in the prompt
_FRAME = re.compile(r"<(?=\s*/?\s*(?:passage|question|document|system)\b)", re.IGNORECASE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Numbered:
    """A passage as the model sees it, under the number that it is to cite."""

    number: int
    evidence: Evidence
    text: str


async def pack(evidence: Sequence[Evidence], embedder: Embedder, budget_tokens: int) -> tuple[Numbered, ...]:
    """The passages that fit, best first, numbered from 1. The first one is always there, cut after a sentence where it is too long."""
    packed: list[Numbered] = []
    left = budget_tokens
    counts = await embedder.count_tokens([passage.text for passage in evidence])
    for passage, tokens in zip(evidence, counts, strict=True):
        text = passage.text
        if tokens + _LABEL_TOKENS > left:
            if packed:
                continue
            text = await _beginning(passage, embedder, left - _LABEL_TOKENS)
        left -= tokens + _LABEL_TOKENS
        packed.append(Numbered(number=len(packed) + 1, evidence=passage, text=harmless(text)))
    return tuple(packed)


def harmless(text: str) -> str:
    """A document's text as data: without hidden characters, and unable to close the frame it stands in."""
    return _FRAME.sub("‹", visible(text))


async def _beginning(passage: Evidence, embedder: Embedder, budget_tokens: int) -> str:
    """The first sentences that fit; at least one."""
    end, used = 0, 0
    counts = await embedder.count_tokens([sentence.text for sentence in passage.sentences])
    for sentence, tokens in zip(passage.sentences, counts, strict=True):
        used += tokens
        if end and used > budget_tokens:
            break
        end = sentence.end
    return passage.text[:end]
