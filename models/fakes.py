"""Models for tests: deterministic, in process, with knobs for what goes wrong.

Owns what a language model says to docray's own prompt, what an embedder makes of words, and their faults. They stand behind the same ports as
the real ones, so nothing in the product knows of them; only tests build them.
"""

import asyncio
import re
import zlib
from collections.abc import AsyncGenerator, Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from docray.domain.errors import DocrayError
from docray.domain.ports import Vectors
from docray.domain.questions import GeneratedText, Generation, Usage

Says = Callable[[Generation], str]

_PASSAGE = re.compile(r'<passage number="(\d+)"[^>]*>\n(.*?)\n</passage>', re.DOTALL)
_QUESTION = re.compile(r"<question>\n(.*?)\n</question>", re.DOTALL)
_WORD = re.compile(r"\w+")
_REFUSAL = "NOT_IN_DOCUMENTS"


@dataclass(kw_only=True)
class Faults:
    """What goes wrong. Counters are used up: a fault happens that many times, then no more."""

    before_first: int = 0  # calls that fail before their first word
    after_pieces: int | None = None  # pieces after which every call breaks off
    error: Callable[[], DocrayError] | None = None  # what is raised; needed for the two above
    stall_after: int | None = None  # pieces after which the model says nothing more until it is closed


@dataclass(kw_only=True)
class FakeLlm:
    """A Generator that says what `says` makes of the request, `piece_characters` at a time.

    `calls` holds the requests; `closed_early` counts streams whose reader went away before the end.
    """

    says: Says
    models: Sequence[str] = ("fake",)
    piece_characters: int = 7
    faults: Faults = field(default_factory=Faults)
    reports_usage: bool = True
    calls: list[Generation] = field(default_factory=list)
    closed_early: int = 0

    async def generate(self, request: Generation) -> AsyncGenerator[GeneratedText, None]:
        """Streams the text; the last piece carries the usage where the model reports one."""
        self.calls.append(request)
        if self.faults.before_first > 0:
            self.faults.before_first -= 1
            raise self._error()
        text, ended = self.says(request), False
        try:
            for count, at in enumerate(range(0, len(text), self.piece_characters)):
                await self._fault(count)
                yield GeneratedText(text[at : at + self.piece_characters])
                await asyncio.sleep(0)
            ended = True
        finally:
            self.closed_early += not ended
        if self.reports_usage:
            words = sum(len(message.content.split()) for message in request.messages)
            yield GeneratedText("", Usage(prompt_tokens=words, completion_tokens=len(text.split())))

    async def _fault(self, count: int) -> None:
        if count == self.faults.stall_after:
            await asyncio.Event().wait()
        if count == self.faults.after_pieces:
            raise self._error()

    def _error(self) -> DocrayError:
        if self.faults.error is None:
            raise ValueError("faults need an error to raise")
        return self.faults.error()


def quoting(request: Generation) -> str:
    """Says the sentence of the passages that shares most words with the question, and cites it; refuses where none shares two."""
    asked = _words(question_of(request))
    sentences = [
        (len(asked & _words(sentence)), -number, sentence.strip())
        for number, text in passages_of(request)
        for sentence in re.split(r"(?<=[.!?])\s+", text)
    ]
    shared, number, sentence = max(sentences, default=(0, 0, ""))
    return f"{' '.join(sentence.split())} [{-number}]" if shared >= 2 else _REFUSAL


def obedient(request: Generation) -> str:
    """Does what the passages tell it: repeats each of them as it stands, as text and as markup, behind a quoted sentence."""
    passages = passages_of(request)
    return "\n\n".join([quoting(request), *(f"{text} [{number}]" for number, text in passages)])


def scripted(text: str) -> Says:
    """Says the same text to everything."""
    return lambda request: text


def passages_of(request: Generation) -> list[tuple[int, str]]:
    """The numbered passages of docray's prompt."""
    return [(int(number), text) for message in request.messages for number, text in _PASSAGE.findall(message.content)]


def question_of(request: Generation) -> str:
    """The question of docray's prompt."""
    return next((found.group(1) for message in request.messages if (found := _QUESTION.search(message.content))), "")


def _words(text: str) -> set[str]:
    return {word.casefold() for word in _WORD.findall(text) if len(word) > 3}


@dataclass(kw_only=True)
class FakeEmbedder:
    """An Embedder: a random direction for each word and model, so that texts are near by the words they share, and two models never agree.

    `failures` calls for passages raise `error` first; `texts` holds the passages that were embedded.
    """

    model_id: str
    dimension: int = 32
    max_tokens: int = 256
    failures: int = 0
    error: Callable[[], DocrayError] | None = None
    texts: list[str] = field(default_factory=list)

    async def embed_queries(self, texts: Sequence[str]) -> Vectors:
        """Vectors of the words."""
        return self._vectors(texts)

    async def embed_passages(self, texts: Sequence[str]) -> Vectors:
        """The same; fails as often as it was told to."""
        if self.failures and self.error:
            self.failures -= 1
            raise self.error()
        self.texts += texts
        return self._vectors(texts)

    async def count_tokens(self, texts: Sequence[str]) -> list[int]:
        """Words."""
        return [len(text.split()) for text in texts]

    def _vectors(self, texts: Sequence[str]) -> Vectors:
        vectors = np.full((len(texts), self.dimension), 1e-3, np.float32)
        for row, text in enumerate(texts):
            for word in _words(text):
                vectors[row] += np.random.default_rng(zlib.crc32(f"{self.model_id} {word}".encode())).normal(size=self.dimension)
        unit: Vectors = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
        return unit
