"""From pieces to words, and from groups of words to a page's words and blocks.

Owns normalising each piece, dropping what stands outside the visible page, visual line numbers, and what separates a word from the next.
A word split at a line's end is joined where the part before the hyphen is letters only, the hyphen is its only one, and the next line
goes on in lower case; "well-\\nknown" therefore loses its hyphen too, which nothing on the page tells from "depart-\\nment". Other
hyphens at a line's end stay and take no space ("non-\\nGAAP" → "non-GAAP"). Leaves order and grouping to `assemble`.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from docray.domain.documents import Block, BlockKind, Word
from docray.ingestion.extract.normalise import clean, is_ideographic
from docray.ingestion.extract.pieces import RawPage
from docray.ingestion.extract.rows import same_line


@dataclass(slots=True)
class Group:
    """Words (indices) that form one block: a table has a line per row, every other kind has one line."""

    kind: BlockKind
    level: int
    lines: list[list[int]]


@dataclass(frozen=True, slots=True)
class Source:
    """The authority's words in its order, with its own line and block number of each."""

    words: tuple[Word, ...]
    blocks: tuple[int, ...]


def source_words(page: RawPage) -> Source:
    """The page's visible words, normalised. `line` is still the engine's, `after` is "" where no space follows in the source."""
    words, blocks = [], []
    for piece in page.pieces:
        text = clean(piece.text)
        x, y = (piece.box[0] + piece.box[2]) / 2, (piece.box[1] + piece.box[3]) / 2
        if not text or not (0 <= x <= page.width and 0 <= y <= page.height):
            continue
        words.append(Word(text, piece.box, piece.line, "" if piece.joined else " "))
        blocks.append(piece.block)
    return Source(tuple(words), tuple(blocks))


def page_words(source: Sequence[Word], groups: Iterable[Group]) -> tuple[tuple[Word, ...], tuple[Block, ...]]:
    """Words in the order of the groups, numbered by visual line and separated, and the blocks over them."""
    words: list[Word] = []
    blocks: list[Block] = []
    line = 0
    for group in groups:
        start, rows = len(words), []
        for members in group.lines:
            row_start = len(words)
            for word in _separated(source, members, last="\n"):
                words.append(Word(word.text, word.box, line + word.line, word.after, word.hyphen))
            line = words[-1].line + 1
            rows.append((row_start, len(words)))
        words[-1] = Word(words[-1].text, words[-1].box, words[-1].line, "\n\n")
        blocks.append(Block(group.kind, start, len(words), group.level, tuple(rows) if group.kind is BlockKind.TABLE else ()))
    return tuple(words), tuple(blocks)


def _separated(source: Sequence[Word], members: Sequence[int], last: str) -> Iterator[Word]:
    """The words of one line of a group; `line` counts visual lines from 0."""
    line = 0
    for position, index in enumerate(members):
        word = source[index]
        if position + 1 == len(members):
            yield Word(word.text, word.box, line, last)
            return
        following = source[members[position + 1]]
        if word.line == following.line or same_line(word, following):
            joined = word.after == "" and members[position + 1] == index + 1
            yield Word(word.text, word.box, line, "" if joined else " ")
            continue
        hyphen = _is_split(word.text, following.text)
        yield Word(word.text, word.box, line, "" if hyphen or _goes_on(word.text, following.text) else " ", hyphen)
        line += 1


def _is_split(text: str, following: str) -> bool:
    stem = text[:-1]
    return text.endswith("-") and len(stem) >= 2 and stem.isalpha() and following[0].islower()


def _goes_on(text: str, following: str) -> bool:
    """Whether the line break between two pieces stands for nothing rather than for a space."""
    if is_ideographic(text[-1]) and is_ideographic(following[0]):
        return True
    return len(text) > 1 and text.endswith("-") and text[-2].isalnum() and following[0].isalnum()
