"""Pages → chunks: passages that are indexed, found and cited as one.

Owns where a passage begins and ends, its heading path and the context it is indexed with. Leaves words and blocks to
`docray.ingestion.extract`, sentence ends to `docray.ingestion.sentences`, vectors and keywords to the index.

The rules, in order of strength: the chunks partition the words of the document, in order; a chunk with its context holds at most
`max_tokens` (unless one word alone has more); a table row, then a sentence, is cut only when it alone is too long; a chunk stays on one page,
but for a sentence that runs over the page's end; a heading stands with what follows it and starts a chunk once the one before is
big enough to be found by itself; a paragraph or list item is kept whole when the chunk before is at least half full.
"""

import collections
import itertools
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from docray.domain.documents import Block, BlockKind, Chunk, Page, PageBoxes, PageSpan, Word, line_boxes, text_of
from docray.ingestion.sentences import begins_low, ends_sentence, sentence_starts

_WORD = re.compile(r"[^\W\d_]{3}")
_UUID = "[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}"
_HEX = "(?=[a-f]*[0-9])(?=[0-9]*[a-f])[0-9a-f]{16,}"  # letters and digits both: a long number may be a case's
_DIGEST = re.compile(rf"(?<![^\W_])(?:{_UUID}|{_HEX})(?![^\W_])", re.IGNORECASE)
CountTokens = Callable[[Sequence[str]], list[int]]

RULES = 2
"""Number of the rules above; whoever changes where a passage begins or ends raises it, so that a reindex knows what is of older ones."""

_CONTEXT_SHARE = 4  # context takes at most a quarter of a chunk
_LABEL_CHARACTERS = 120  # of a title, file name or heading within the context
_SMALL_SHARE = 3  # what has less than a third of a chunk does not stand alone before a heading
_FULL_SHARE = 2  # from half a chunk on, a block that does not fit whole starts the next one


@dataclass(slots=True)
class _Piece:
    """A run of words of one page that is not cut: a sentence, a table row, a heading, or a part of one that was too long."""

    page: int  # position in the sequence of pages
    start: int
    end: int
    block: int  # counts blocks over the document
    kind: BlockKind
    path: tuple[str, ...]  # headings above, without itself
    tokens: int = 0
    header: "_Piece | None" = None  # the first row of the table that it continues
    open: bool = False  # its sentence goes on in the next piece, over the page's end


def chunker_name(max_tokens: int, model_id: str) -> str:
    """What a document's chunks depend on besides its pages: the rules, the longest passage, and the model whose tokens count."""
    return f"{RULES}/{max_tokens}/{model_id}"


class Chunker:
    """Cuts documents into chunks. Pure and deterministic; holds no document between calls."""

    def __init__(self, *, max_tokens: int, count_tokens: CountTokens) -> None:
        """`max_tokens` bounds context and text of a chunk in tokens as `count_tokens` counts them, a list of texts at a time."""
        self._max_tokens = max_tokens
        self._count_tokens = count_tokens

    def chunk(self, pages: Sequence[Page], *, title: str | None, filename: str) -> list[Chunk]:
        """The chunks of a document in reading order. Empty when its pages have no words."""
        pieces = list(_pieces(pages))
        contexts = _Contexts(title, filename, {heading for piece in pieces for heading in piece.path}, self._max_tokens, self._count_tokens)
        for piece, tokens in zip(pieces, self._count_tokens([_text(pages, piece) for piece in pieces]), strict=True):
            piece.tokens = tokens
        pieces = list(self._cut_long(pages, pieces, contexts))
        _mark_open(pages, pieces)
        groups = self._pack(pieces, contexts)
        return [self._chunk(n, group, pages, contexts) for n, group in enumerate(groups)]

    def _cut_long(self, pages: Sequence[Page], pieces: list[_Piece], contexts: "_Contexts") -> Iterator[_Piece]:
        """Replaces each piece that does not fit in a chunk by parts that do, cut between words."""
        room = {path: self._max_tokens - contexts.tokens(path) for path in {piece.path for piece in pieces}}
        long = [piece for piece in pieces if piece.tokens > room[piece.path]]
        words = [[word.said for word in pages[piece.page].words[piece.start : piece.end]] for piece in long]
        counts = iter(self._count_tokens(list(itertools.chain.from_iterable(words))))
        parts: dict[int, list[_Piece]] = {}
        for piece, said in zip(long, words, strict=True):
            parts[id(piece)] = list(_cut(piece, list(itertools.islice(counts, len(said))), room[piece.path]))
        for piece in pieces:
            yield from parts.get(id(piece), (piece,))

    def _pack(self, pieces: list[_Piece], contexts: "_Contexts") -> list[list[_Piece]]:
        """Fills chunks with units one after the other."""
        block_tokens: collections.Counter[int] = collections.Counter()
        for piece in pieces:
            block_tokens[piece.block] += piece.tokens
        groups: list[list[_Piece]] = []
        for unit in self._units(pieces, contexts):
            if groups and not self._starts_chunk(groups[-1], unit, block_tokens, contexts):
                groups[-1].extend(unit)
            else:
                groups.append(unit)
        return groups

    def _units(self, pieces: list[_Piece], contexts: "_Contexts") -> Iterator[list[_Piece]]:
        """Pieces that one chunk takes together where they fit: a heading and what follows it, the parts of a sentence on two pages."""
        unit: list[_Piece] = []
        for piece in pieces:
            if unit and not self._belongs(unit, piece, contexts):
                yield unit
                unit = []
            unit.append(piece)
        if unit:
            yield unit

    def _belongs(self, unit: list[_Piece], piece: _Piece, contexts: "_Contexts") -> bool:
        last = unit[-1]
        if not last.open and not (last.kind is BlockKind.HEADING and last.page == piece.page):
            return False
        return sum(part.tokens for part in unit) + piece.tokens <= self._max_tokens - contexts.tokens(unit[0].path)

    def _starts_chunk(self, group: list[_Piece], unit: list[_Piece], block_tokens: Mapping[int, int], contexts: "_Contexts") -> bool:
        room = self._max_tokens - contexts.tokens(group[0].path)
        filled = sum(piece.tokens for piece in group)
        first = unit[0]
        if first.page != group[0].page or filled + sum(piece.tokens for piece in unit) > room:
            return True
        if first.kind is BlockKind.HEADING and group[-1].kind is not BlockKind.HEADING:
            return filled * _SMALL_SHARE >= room
        return first.block != group[-1].block and filled * _FULL_SHARE >= room and filled + block_tokens[first.block] > room

    def _chunk(self, n: int, group: list[_Piece], pages: Sequence[Page], contexts: "_Contexts") -> Chunk:
        path = group[0].path
        context, tokens = contexts.text(path), contexts.tokens(path) + sum(piece.tokens for piece in group)
        header = group[0].header
        if header and header.tokens * _CONTEXT_SHARE <= self._max_tokens and tokens + header.tokens + 1 <= self._max_tokens:
            context = "\n".join(filter(None, (context, _line(_text(pages, header)))))
            tokens += header.tokens + 1
        runs = [list(run) for _, run in itertools.groupby(group, key=lambda piece: piece.page)]
        words = [pages[run[0].page].words[run[0].start : run[-1].end] for run in runs]
        return Chunk(
            n=n,
            text=text_of(itertools.chain.from_iterable(words)),
            spans=tuple(PageSpan(pages[run[0].page].number, run[0].start, run[-1].end) for run in runs),
            pages=tuple(_boxes(pages[run[0].page], said) for run, said in zip(runs, words, strict=True)),
            heading_path=_heading_path(group, pages),
            context=context,
            tokens=tokens,
        )


class _Contexts:
    """What the index reads before a text: title and file name, then headings, within a quarter of a chunk."""

    def __init__(self, title: str | None, filename: str, headings: Iterable[str], max_tokens: int, count_tokens: CountTokens) -> None:
        self._labels = _labels(title, filename)
        self._clipped = {heading: _clip(heading) for heading in sorted(headings)}
        lines = [*self._labels, *self._clipped.values()]
        # One token more for the line's end, which some tokenisers count.
        self._tokens = {line: tokens + 1 for line, tokens in zip(lines, count_tokens(lines), strict=True)}
        self._most = max_tokens // _CONTEXT_SHARE
        self._known: dict[tuple[str, ...], tuple[str, int]] = {}

    def text(self, path: tuple[str, ...]) -> str:
        """The context of a passage below these headings."""
        return self._of(path)[0]

    def tokens(self, path: tuple[str, ...]) -> int:
        """Its tokens."""
        return self._of(path)[1]

    def _of(self, path: tuple[str, ...]) -> tuple[str, int]:
        if path not in self._known:
            self._known[path] = self._build(path)
        return self._known[path]

    def _build(self, path: tuple[str, ...]) -> tuple[str, int]:
        """What fits: the document's labels, then headings, the innermost first to come in and last in the text."""
        used = 0
        labels: list[str] = []
        for label in self._labels:
            if used + self._tokens[label] <= self._most:
                labels.append(label)
                used += self._tokens[label]
        kept: list[str] = []
        for heading in reversed(path):
            line = self._clipped[heading]
            if used + self._tokens[line] > self._most:
                break
            kept.insert(0, line)
            used += self._tokens[line]
        return "\n".join(labels + kept), used


def _labels(title: str | None, filename: str) -> list[str]:
    """The document's title, where it has words, and its file name as words. Digests and UUIDs are none: they say nothing, in many tokens."""
    stem = filename.rsplit(".", 1)[0] if filename.lower().endswith(".pdf") else filename
    named = _clip(re.sub("[_-]+", " ", _DIGEST.sub("", stem)))
    titled = _clip(title or "")
    if not _WORD.search(titled):
        return [named] if named else []
    return [titled] if not named or named.casefold() in titled.casefold() else [titled, named]


def _clip(text: str) -> str:
    """The first whole words within the length of a label, on one line."""
    line = " ".join(text.split())
    return line if len(line) <= _LABEL_CHARACTERS else line[: _LABEL_CHARACTERS + 1].rpartition(" ")[0]


def _pieces(pages: Sequence[Page]) -> Iterator[_Piece]:
    """Headings, sentences and table rows of a document, each with the headings above it."""
    above: list[tuple[int, str]] = []
    numbers = itertools.count()
    for position, page in enumerate(pages):
        for block in _blocks(page):
            if block.kind is BlockKind.HEADING:
                while above and above[-1][0] >= block.level:
                    above.pop()
            yield from _pieces_of(page, position, block, next(numbers), tuple(text for _, text in above))
            if block.kind is BlockKind.HEADING:
                above.append((block.level, _line(text_of(page.words[block.start : block.end]))))


def _pieces_of(page: Page, position: int, block: Block, number: int, path: tuple[str, ...]) -> Iterator[_Piece]:
    header: _Piece | None = None
    for start, end in _runs(page, block):
        piece = _Piece(position, start, end, number, block.kind, path, header=header)
        if block.kind is BlockKind.TABLE and header is None:
            header = piece
        yield piece


def _mark_open(pages: Sequence[Page], pieces: Sequence[_Piece]) -> None:
    """Finds the sentences that run over a page's end: prose without a stop, and lower case on the next page."""
    prose = (BlockKind.PARAGRAPH, BlockKind.LIST_ITEM)
    for piece, following in itertools.pairwise(pieces):
        if piece.page != following.page and piece.kind in prose and following.kind in prose:
            last, first = pages[piece.page].words[piece.end - 1], pages[following.page].words[following.start]
            piece.open = last.hyphen or (not ends_sentence(last.said) and begins_low(first.text))


def _text(pages: Sequence[Page], piece: _Piece) -> str:
    return text_of(pages[piece.page].words[piece.start : piece.end])


def _line(text: str) -> str:
    return " ".join(text.split())


def _boxes(page: Page, words: Sequence[Word]) -> PageBoxes:
    return PageBoxes(page.number, page.width, page.height, line_boxes(words, page.width, page.height))


def _heading_path(group: Sequence[_Piece], pages: Sequence[Page]) -> tuple[str, ...]:
    """The headings above a chunk's first words, its own first headings included."""
    first = next((piece for piece in group if piece.kind is not BlockKind.HEADING), None)
    return first.path if first else (*group[-1].path, _line(_text(pages, group[-1])))


def _blocks(page: Page) -> Sequence[Block]:
    """The page's blocks that have words; one paragraph where the page was not divided."""
    if not page.blocks and page.words:
        return (Block(BlockKind.PARAGRAPH, 0, len(page.words)),)
    return [block for block in page.blocks if block.start < block.end]


def _runs(page: Page, block: Block) -> Iterator[tuple[int, int]]:
    """Runs of a block's words that belong together."""
    if block.kind is BlockKind.HEADING:
        yield block.start, block.end
    elif block.kind is BlockKind.TABLE and block.rows:
        yield from ((start, end) for start, end in block.rows if start < end)
    else:
        starts = [*sentence_starts(page.words, block.start, block.end), block.end]
        yield from itertools.pairwise(starts)


def _cut(piece: _Piece, counts: list[int], room: int) -> Iterator[_Piece]:
    """Parts of a piece of at most `room` tokens, at least one word each, of much the same length."""
    total = sum(counts)
    target = min(room, total // -(-total // max(1, room)) + max(counts))
    start, tokens = piece.start, 0
    for position, count in enumerate(counts, piece.start):
        if tokens and tokens + count > target:
            yield replace(piece, start=start, end=position, tokens=tokens)
            start, tokens = position, 0
        tokens += count
    yield replace(piece, start=start, tokens=tokens)
