"""Passages that stand side by side in a document become one hit.

Owns which ones and how their text, boxes and places are put together. A hit stays a passage: no more than four chunks become one.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from uuid import UUID

from docray.answering.fusion import Fused
from docray.domain.documents import PageBoxes, PageSpan
from docray.domain.questions import Passage

_MOST_CHUNKS = 4


@dataclass(slots=True)
class Group:
    """Neighbouring passages in reading order, and the scores of the best of them."""

    best: Fused
    leading: Passage
    passages: list[Passage] = field(default_factory=list)

    @property
    def text(self) -> str:
        """Their text, joined as it stands in the document."""
        pieces = [piece for passage in self.passages for piece in (passage.text, passage.after)]
        return "".join(pieces[:-1])

    @property
    def pages(self) -> tuple[PageBoxes, ...]:
        """Their boxes by page."""
        boxes: dict[int, PageBoxes] = {}
        for page in (page for passage in self.passages for page in passage.pages):
            there = boxes.get(page.page)
            boxes[page.page] = PageBoxes(page.page, page.width, page.height, there.boxes + page.boxes) if there else page
        return tuple(boxes.values())

    @property
    def spans(self) -> tuple[PageSpan, ...]:
        """Their words, one run a page."""
        spans: list[PageSpan] = []
        for span in (span for passage in self.passages for span in passage.spans):
            if spans and spans[-1].page == span.page and spans[-1].end == span.start:
                spans[-1] = PageSpan(span.page, spans[-1].start, span.end)
            else:
                spans.append(span)
        return tuple(spans)


def groups_of(ranking: Sequence[Fused], passages: Mapping[UUID, Passage], *, merge: bool) -> list[Group]:
    """The passages of a ranking that were confirmed, in its order, neighbours with the better one of them where asked."""
    groups: list[Group] = []
    holders: dict[tuple[UUID, int], dict[int, Group]] = {}  # by generation of a document, and number
    for one in ranking:
        passage = passages.get(one.chunk_id)
        if passage is None:
            continue
        there = holders.setdefault((passage.document.id, passage.generation), {})
        group = _beside(passage.n, there) if merge else None
        if group is None:
            group = Group(one, passage, [passage])
            groups.append(group)
        else:
            group.passages.append(passage)
            group.passages.sort(key=lambda neighbour: neighbour.n)
        there[passage.n] = group
    return groups


def _beside(n: int, holders: Mapping[int, Group]) -> Group | None:
    """The group that a passage goes on, and that has room for it; a passage between two joins the better one."""
    found = [group for group in (holders.get(n - 1), holders.get(n + 1)) if group is not None and len(group.passages) < _MOST_CHUNKS]
    return max(found, key=lambda group: group.best.score) if found else None
