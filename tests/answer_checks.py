"""What holds for every answer, whoever wrote it."""

import re
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

from answering_library import PRINCIPAL

from docray.answering import output_gate
from docray.answering.citations import fold
from docray.answering.service import AnswerService
from docray.domain.questions import Answer, AnswerEvent, Cited, Delta, Finished, Found, Question, Scope

_MARKER = re.compile(r"\[(\d+)\]")


async def events_of(service: AnswerService, question: str, **fields: Any) -> list[AnswerEvent]:
    """All events of an answer."""
    documents = fields.pop("document_ids", None)
    asked = Question(question=question, scope=Scope(document_ids=documents), **fields)
    return [event async for event in service.answer(PRINCIPAL, asked)]


async def answered(service: AnswerService, question: str, **fields: Any) -> Answer:
    """The answer, after checking that it and its events hold together."""
    events = await events_of(service, question, **fields)
    answer = checked_events(events)
    check_answer(answer)
    return answer


def checked_events(events: Sequence[AnswerEvent]) -> Answer:
    """Found first and once, Finished last and once, deltas add up, no citation before its span is written, none differs at the end."""
    assert isinstance(events[0], Found)
    assert isinstance(events[-1], Finished)
    assert [type(event) for event in events[1:-1] if not isinstance(event, Delta | Cited)] == []
    answer, written = events[-1].answer, ""
    for event in events:
        if isinstance(event, Delta):
            assert event.text
            written += event.text
        if isinstance(event, Cited):
            assert event.citation.span[1] <= len(written)
    assert written == answer.answer
    assert tuple(event.citation for event in events if isinstance(event, Cited)) == answer.citations
    assert events[0].results == answer.search_results
    return answer


def check_answer(answer: Answer) -> None:
    """Spans, markers, quotes and boxes as the contract has them."""
    text = answer.answer
    assert text.strip()
    assert answer.refused == (not answer.citations)
    spans = defaultdict(set)
    for citation in answer.citations:
        start, end = citation.span
        assert 0 <= start < end <= len(text)
        assert text[start:end].strip() == text[start:end]
        following = re.match(r"[\s.!?,;:]*((?:\[\d+\]\s*)+)", text[end:])
        assert following is not None
        assert f"[{citation.index}]" in following.group(1)
        spans[citation.index].add(citation.span)
        hit = next(hit for hit in answer.search_results.hits if hit.chunk_id == citation.chunk_id)
        assert hit.document == citation.document
        assert fold(citation.quote)
        assert fold(citation.quote) in fold(hit.text)
        assert citation.boxes
        for x0, y0, x1, y1 in citation.boxes:
            assert 0 <= x0 < x1 <= citation.width
            assert 0 <= y0 < y1 <= citation.height
    _check_markers(answer, spans)


def _check_markers(answer: Answer, spans: dict[int, set[tuple[int, int]]]) -> None:
    """Markers count from 1 in order of appearance; each occurrence has the citations of one span."""
    within = {position for citation in answer.citations for position in range(*citation.span)}
    markers = [int(match.group(1)) for match in _MARKER.finditer(answer.answer) if match.start() not in within]
    assert list(dict.fromkeys(markers)) == list(range(1, len(set(markers)) + 1))
    assert {index: len(found) for index, found in spans.items()} == {index: markers.count(index) for index in set(markers)}
    if answer.model != "extractive":
        assert output_gate.holds(answer.answer)
