"""Pictures of pages: highlight boxes and PNG.

Owns marking like a felt pen (each channel multiplied, so that dark text stays dark and nothing outside the boxes changes) and writing PNG
with the standard library. Leaves drawing the page to the engines.
"""

import struct
import zlib
from collections.abc import Sequence

from docray.domain.documents import Box
from docray.ingestion.extract.pieces import Bitmap

MAX_PIXELS = 40_000_000  # 120 MB of RGB; a page of 200 × 200 inches at scale 1 has 207 million
_PEN = (255, 225, 90)  # what white paper becomes under the pen, as RGB
_TABLES = tuple(bytes(value * channel // 255 for value in range(256)) for channel in _PEN)
_COMPRESSION = 6


def highlighted(bitmap: Bitmap, boxes: Sequence[Box]) -> Bitmap:
    """The same picture with the boxes (points of the displayed page) marked; where boxes overlap the mark is no darker."""
    samples, stride = bitmap.samples, bitmap.width * 3
    for y, spans in _spans(bitmap, boxes).items():
        for x0, x1 in spans:
            start, end = y * stride + 3 * x0, y * stride + 3 * x1
            for channel, table in enumerate(_TABLES):
                samples[start + channel : end : 3] = samples[start + channel : end : 3].translate(table)
    return bitmap


def _spans(bitmap: Bitmap, boxes: Sequence[Box]) -> dict[int, list[tuple[int, int]]]:
    """Row → runs of pixels to mark, each pixel once."""
    rows: dict[int, list[tuple[int, int]]] = {}
    for x0, y0, x1, y1 in boxes:
        left, right = _clamp(x0 * bitmap.scale, bitmap.width), _clamp(x1 * bitmap.scale, bitmap.width)
        if left < right:
            for y in range(_clamp(y0 * bitmap.scale, bitmap.height), _clamp(y1 * bitmap.scale, bitmap.height)):
                rows.setdefault(y, []).append((left, right))
    return {y: _merged(sorted(spans)) for y, spans in rows.items()}


def _clamp(value: float, limit: int) -> int:
    return round(min(max(value, 0.0), float(limit)))


def _merged(spans: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    merged: list[tuple[int, int]] = []
    for left, right in spans:
        if merged and left <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(right, merged[-1][1]))
        else:
            merged.append((left, right))
    return merged


def png(bitmap: Bitmap) -> bytes:
    """The picture as PNG, 8-bit RGB, rows unfiltered: pages are mostly paper, which deflate alone packs well."""
    stride = bitmap.width * 3
    packer = zlib.compressobj(_COMPRESSION)
    view = memoryview(bitmap.samples)
    packed = [packer.compress(b"\0" + view[at : at + stride]) for at in range(0, stride * bitmap.height, stride)]
    header = struct.pack(">IIBBBBB", bitmap.width, bitmap.height, 8, 2, 0, 0, 0)
    data = b"".join([*packed, packer.flush()])
    return b"\x89PNG\r\n\x1a\n" + _chunk(b"IHDR", header) + _chunk(b"IDAT", data) + _chunk(b"IEND", b"")


def _chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
