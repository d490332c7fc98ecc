"""What goes between client, server and child. JSON and raw bytes only: a child may be in hostile hands, so nothing is unpickled.

Child → client, over a pipe: frames of a kind (one byte), a length (four bytes) and a body. Owns frames, and a page as JSON with every
check that makes a hostile one harmless. Leaves limits of total size to the client.
"""

import json
import math
import struct
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from docray.domain.documents import Block, BlockKind, Box, Page, Word

HEADER = struct.Struct(">cI")
OPENED, PAGE, FINISHED, FAILED, PICTURE, CONFINED = b"O", b"P", b"E", b"F", b"I", b"C"
MAX_FRAME_BYTES = 64 << 20  # a page of a million words has 50 MB; a picture of 40 megapixels, unpacked, 120 MB, as PNG far less
_AFTER = (" ", "\n", "\n\n", "")
_KINDS = tuple(BlockKind)


class WireError(Exception):
    """What a child sent is not what a child of ours sends."""


def frame(kind: bytes, body: bytes) -> bytes:
    """Ready to be written."""
    return HEADER.pack(kind, len(body)) + body


def pack(value: Mapping[str, Any]) -> bytes:
    """A message as JSON."""
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode()


def unpack(body: bytes) -> dict[str, Any]:
    """A message from JSON. WireError when it is not one object."""
    try:
        value = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise WireError("not JSON") from error
    if not isinstance(value, dict):
        raise WireError("not an object")
    return value


def pack_page(page: Page) -> bytes:
    """A page as columns, boxes rounded to 1/100 point."""
    boxes = [round(side, 2) for word in page.words for side in word.box]
    return pack(
        {
            "number": page.number,
            "size": [round(page.width, 3), round(page.height, 3)],
            "rotation": page.rotation,
            "texts": [word.text for word in page.words],
            "boxes": boxes,
            "lines": [word.line for word in page.words],
            "after": [_AFTER.index(word.after) for word in page.words],
            "hyphens": [index for index, word in enumerate(page.words) if word.hyphen],
            "blocks": [[_KINDS.index(block.kind), block.start, block.end, block.level, block.rows] for block in page.blocks],
        }
    )


def unpack_page(body: bytes) -> Page:
    """The page. WireError when anything about it could not have come from `pack_page` of a valid page."""
    value = unpack(body)
    try:
        words = tuple(_words(value))
        width, height = (_number(side) for side in value["size"])
        blocks = tuple(_blocks(value["blocks"]))
        number, rotation = _whole(value["number"]), _whole(value["rotation"])
    except (KeyError, TypeError, ValueError, IndexError) as error:
        raise WireError("not a page") from error
    if not _is_partition([(block.start, block.end) for block in blocks], 0, len(words)):
        raise WireError("blocks do not partition the words")
    if any(block.rows and not _is_partition(block.rows, block.start, block.end) for block in blocks):
        raise WireError("rows do not partition their block")
    return Page(number=number, width=width, height=height, rotation=rotation, words=words, blocks=blocks)


def _words(value: Mapping[str, Any]) -> Iterator[Word]:
    texts, boxes, lines, after = value["texts"], value["boxes"], value["lines"], value["after"]
    hyphens = set(map(_whole, value["hyphens"]))
    everything = " ".join(texts)  # TypeError unless all are strings
    everything.encode()  # UnicodeEncodeError, a ValueError, on a lone surrogate
    if "\0" in everything or len(everything.split()) != len(texts) or len(lines) != len(texts) or len(after) != len(texts):
        raise WireError("words are empty, hold white space or NUL, or columns differ in length")
    sides = list(map(_number, boxes))
    for index, (text, box) in enumerate(zip(texts, _boxes(sides), strict=True)):
        yield Word(text, box, _whole(lines[index]), _AFTER[_whole(after[index])], index in hyphens)


def _boxes(sides: Sequence[float]) -> Iterator[Box]:
    return zip(sides[0::4], sides[1::4], sides[2::4], sides[3::4], strict=True)


def _blocks(values: Any) -> Iterator[Block]:
    for kind, start, end, level, rows in values:
        pairs = tuple((_whole(first), _whole(last)) for first, last in rows)
        yield Block(_KINDS[_whole(kind)], _whole(start), _whole(end), _whole(level), pairs)


def _is_partition(runs: Sequence[tuple[int, int]], start: int, end: int) -> bool:
    for first, last in runs:
        if first != start or last <= first:
            return False
        start = last
    return start == end


def _number(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise WireError("not a finite number")
    return float(value)


def _whole(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < 1 << 31:
        raise WireError("not a whole number")
    return value
