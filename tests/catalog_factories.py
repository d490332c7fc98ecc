"""Documents, pages and chunks for tests of the catalogue and the queue."""

import hashlib
import itertools
from collections.abc import Sequence
from typing import Any

from docray.domain.catalog import NewDocument
from docray.domain.documents import Block, BlockKind, Chunk, Document, Page, PageBoxes, PageSpan, Stage, State, Word, line_boxes
from docray.domain.errors import LostLease
from docray.domain.ids import new_id
from docray.domain.jobs import Lease
from docray.domain.principals import Principal

_numbers = itertools.count(1)


def sha256_of(text: str) -> str:
    """A hash as uploads have it."""
    return hashlib.sha256(text.encode()).hexdigest()


def a_document(**changes: Any) -> NewDocument:
    """A new document, each with bytes of its own."""
    number = next(_numbers)
    fields: dict[str, Any] = {
        "id": new_id(), "filename": f"file {number}.pdf", "title": None, "metadata": {}, "sha256": sha256_of(f"bytes {number}"),
        "size_bytes": 1000 + number,
    }  # fmt: skip
    return NewDocument(**{**fields, **changes})


def some_pages(count: int = 2, words: int = 6) -> tuple[Page, ...]:
    """Pages of words in two lines, the last word of each page hyphenated."""
    return tuple(_page(number, words) for number in range(1, count + 1))


def _page(number: int, count: int) -> Page:
    half = count // 2
    words = tuple(
        Word(
            f"word{number}{i}" + ("-" if i == count - 1 else ""),
            (72.0 + 50 * (i % half), 90.25 + 14 * (i // half), 110.5 + 50 * (i % half), 102.0 + 14 * (i // half)),
            i // half,
            "" if i == count - 1 else "\n" if i % half == half - 1 else " ",
            hyphen=i == count - 1,
        )
        for i in range(count)
    )
    blocks = (Block(BlockKind.HEADING, 0, half, level=1), Block(BlockKind.TABLE, half, count, rows=((half, count),)))
    return Page(number=number, width=595.28, height=841.89, rotation=0, words=words, blocks=blocks)


def chunks_of(pages: Sequence[Page]) -> list[Chunk]:
    """One chunk per page."""
    return [
        Chunk(
            n=n, text=page.text, spans=(PageSpan(page.number, 0, len(page.words)),),
            pages=(PageBoxes(page.number, page.width, page.height, line_boxes(page.words, page.width, page.height)),),
            heading_path=("1 Start", f"1.{n}"), context="file.pdf", tokens=len(page.words),
        )
        for n, page in enumerate(pages)
    ]  # fmt: skip


async def add_document(catalog: Any, principal: Principal, **changes: Any) -> Document:
    """A queued document."""
    async with catalog.transaction(principal) as tx:
        return await tx.documents.insert(a_document(**changes))


async def take_to(queue: Any, lease: Lease, state: State, pages: Sequence[Page] | None = None, *, model: str = "m") -> None:
    """Takes a leased job from QUEUED as far as `state`, embedded by nobody but noted as by `model`."""
    pages = some_pages() if pages is None else pages
    steps = {
        State.PARSED: lambda: queue.record_parsed(lease, pages, chunks_of(pages), None),
        State.EMBEDDED: lambda: queue.record_state(lease, State.PARSED, State.EMBEDDED, embedding_model=model, dimension=4),
        State.INDEXED: lambda: queue.record_state(lease, State.EMBEDDED, State.INDEXED),
        State.READY: lambda: queue.publish(lease),
    }
    for reached, step in steps.items():
        await step()
        if reached is state:
            return


async def add_ready(catalog: Any, queue: Any, principal: Principal, *, pages: Sequence[Page] | None = None, **changes: Any) -> Document:
    """A published document. Nothing else may be queued meanwhile."""
    document = await add_document(catalog, principal, **changes)
    lease = await queue.lease("factory", 60.0)
    assert lease is not None
    assert lease.document_id == document.id
    await take_to(queue, lease, State.READY, pages)
    async with catalog.transaction(principal) as tx:
        return await tx.documents.get(document.id)


async def purge_all(queue: Any) -> int:
    """Finishes every purge that is due; returns how many."""
    done = 0
    while purge := await queue.lease_purge("purger", 60.0):
        await queue.finish_purge(purge)
        done += 1
    return done


async def holds(queue: Any, lease: Lease) -> bool:
    """Whether a lease still lets its worker record something."""
    try:
        await queue.progress(lease, Stage.EXTRACT, 0, None)
    except LostLease:
        return False
    return True
