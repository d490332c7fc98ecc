"""The answer of a language model: asked, cleaned, checked citation by citation, passed on sentence by sentence.

Owns what of a model's text reaches the caller: nothing before its first verified citation, no marker whose passage does not say it, and
nothing that the output gate takes out. Leaves the model itself to the Generator, checking to `docray.answering.support`.
"""

import logging
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from contextlib import aclosing, asynccontextmanager

from docray.answering import output_gate
from docray.answering.citations import citations_of, quotes_of
from docray.answering.claims import ClaimStream, Segment
from docray.answering.context import Numbered, pack
from docray.answering.draft import Draft, Piece
from docray.answering.evidence import Evidence
from docray.answering.prompt import REFUSAL_TOKEN, messages
from docray.answering.support import find_support
from docray.domain.errors import DocrayError, Unavailable
from docray.domain.ports import Embedder, Generator
from docray.domain.questions import Citation, GeneratedText, Generation, Message, RefusalReason, Usage

_log = logging.getLogger(__name__)

_LEADING = " \t\n,;:.-–—*•#>+)_"  # between two clauses, or a bullet: no part of what a citation supports


class ModelFailed(Exception):
    """The model gave nothing that could be shown; another answerer may take over."""


class GeneratedAnswers:
    """Answers by a Generator."""

    def __init__(self, generator: Generator, embedder: Embedder, *, context_tokens: int, max_tokens: int, temperature: float) -> None:
        """Limits as in `AnswerService`."""
        self._generator = generator
        self._embedder = embedder
        self._context_tokens = context_tokens
        self._max_tokens = max_tokens
        self._temperature = temperature

    async def pieces(self, draft: Draft, evidence: Sequence[Evidence]) -> AsyncGenerator[Piece, None]:
        """The answer's pieces; the refusal where no citation holds. ModelFailed before the first piece, Unavailable after it."""
        passages = await pack(evidence, self._embedder, self._context_tokens)
        if not passages:
            yield draft.refuse(RefusalReason.NOT_IN_DOCUMENTS)
            return
        request = self._request(draft, passages)
        writer = _Writer(passages, self._embedder)
        try:
            async with aclosing(self._segments(request, draft)) as segments:
                async for segment in segments:
                    for piece in await writer.write(segment):
                        yield piece
        except DocrayError as error:
            _log.warning("The language model broke off.", extra={"action": "generate", "model": request.model, "error": error.code})
            if not writer.cited:
                raise ModelFailed from error
            raise Unavailable("The language model broke off in the middle of the answer. Ask again.") from error
        if not writer.cited:
            yield draft.refuse(RefusalReason.NOT_IN_DOCUMENTS)

    def _request(self, draft: Draft, passages: Sequence[Numbered]) -> Generation:
        question = draft.question
        return Generation(
            messages=messages(question.question, passages),
            model=draft.model,
            max_tokens=min(question.max_tokens or self._max_tokens, self._max_tokens),
            temperature=self._temperature if question.temperature is None else question.temperature,
        )

    async def _segments(self, request: Generation, draft: Draft) -> AsyncGenerator[Segment, None]:
        """The model's text as segments; its usage goes to the draft."""
        claims, text, usage = ClaimStream(), "", None
        async with aclosing(self._generated(request)) as generated:
            async for part, reported in generated:
                usage = reported or usage
                text += part
                for segment in claims.feed(part):
                    yield segment
        draft.usage = usage or await self._counted(request.messages, text)
        for segment in claims.finish():
            yield segment

    async def _generated(self, request: Generation) -> AsyncGenerator[tuple[str, Usage | None], None]:
        """The model's text; asked a second time where it failed before its first word and another try may help."""
        for last_try in (False, True):
            begun = False
            try:
                async with _closing(self._generator.generate(request)) as stream:
                    async for piece in stream:
                        begun = begun or bool(piece.text)
                        yield piece.text, piece.usage
                return
            except DocrayError as error:
                if begun or last_try or not error.retryable:
                    raise
                _log.info("The language model failed before its first word and is asked again.", extra={"action": "generate", "error": error.code})

    async def _counted(self, prompt: Sequence[Message], text: str) -> Usage:
        """Usage of a model that reports none, in the embedder's tokens; what it cost is not known."""
        counts = await self._embedder.count_tokens([*(message.content for message in prompt), text])
        return Usage(prompt_tokens=sum(counts[:-1]), completion_tokens=counts[-1])


class _Writer:
    """Turns segments into pieces. Holds everything back until the first citation is verified."""

    def __init__(self, passages: Sequence[Numbered], embedder: Embedder) -> None:
        self._passages: Mapping[int, Numbered] = {passage.number: passage for passage in passages}
        self._embedder = embedder
        self._indices: dict[int, int] = {}  # number of the passage → index in the answer, in order of appearance
        self._held: list[Piece] = []
        self._written = ""

    @property
    def cited(self) -> bool:
        """Whether a citation was verified, so that the answer is one."""
        return bool(self._indices)

    async def write(self, segment: Segment) -> list[Piece]:
        """The pieces that may be shown now."""
        piece, indices = await self._piece(segment)
        if piece.text:
            self._indices = indices
            self._written += piece.text
            self._held.append(piece)
        if not self.cited:
            return []
        shown, self._held = self._held, []
        return shown

    async def _piece(self, segment: Segment) -> tuple[Piece, dict[int, int]]:
        """The segment as it may be shown, with its verified citations; without them, or empty, where the gate does not hold."""
        before = _separator(segment.before) if self._written else ""
        indices = dict(self._indices)
        text = ""
        citations: tuple[Citation, ...] = ()
        for clause in segment.clauses:
            said = _joined(text, output_gate.clean(clause.text).replace(REFUSAL_TOKEN, ""))
            found = await self._verified(said, clause.numbers, len(self._written) + len(before) + len(text), indices)
            markers = "".join(f"[{index}]" for index in dict.fromkeys(citation.index for citation in found))
            text += f"{said.rstrip()} {markers}" if markers else said.rstrip() if clause.numbers else said
            citations += found
        last = self._written.rsplit(None, 1)[-1:] if not before else []
        if output_gate.holds("".join((*last, text))):
            return Piece(before + text.rstrip() if text.strip() else "", citations), indices
        plain = output_gate.clean("".join(clause.text for clause in segment.clauses)).strip()
        parted = before or (" " if self._written else "")
        return Piece(parted + plain if plain else ""), self._indices

    async def _verified(self, said: str, numbers: Sequence[int], start: int, indices: dict[int, int]) -> tuple[Citation, ...]:
        """The citations of a clause that hold. `start` is the clause's position in the answer; new passages get the next index."""
        claim = said.strip().lstrip(_LEADING)
        begin = start + len(said.rstrip()) - len(claim)
        citations: tuple[Citation, ...] = ()
        for number in numbers:
            passage = self._passages.get(number)
            support = await find_support(claim, passage.evidence, self._embedder) if passage else None
            quotes = quotes_of(support.evidence, support.start, support.end) if support else ()
            if support and quotes:
                index = indices.setdefault(number, len(indices) + 1)
                citations += citations_of(support.evidence, quotes, index=index, span=(begin, begin + len(claim)))
        return citations


def _joined(before: str, said: str) -> str:
    """A clause as it follows the text before it: no white space at the beginning, and nothing that makes a link of a marker."""
    if not before:
        return said.lstrip()
    return f" {said}" if before.endswith("]") and said[:1] in tuple("(:") else said


@asynccontextmanager
async def _closing(stream: AsyncIterator[GeneratedText]) -> AsyncGenerator[AsyncIterator[GeneratedText], None]:
    """Closes the stream at the end, also when its reader goes away: that is what stops the model."""
    try:
        yield stream
    finally:
        close = getattr(stream, "aclose", None)
        if close:
            await close()


def _separator(white_space: str) -> str:
    """White space between two segments: a paragraph, a line, or a space where there was any."""
    lines = white_space.count("\n")
    return "\n\n" if lines > 1 else "\n" if lines else " " if white_space else ""
