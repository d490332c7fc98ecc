"""Small PDFs for tests, written byte by byte: text at places, turned and cropped pages, scans, broken page trees."""

import zlib
from collections.abc import Mapping, Sequence
from typing import NamedTuple

LETTER = (0, 0, 612, 792)


class Text(NamedTuple):
    """Text whose base line begins at (x, y), from the bottom left of the page."""

    x: float
    y: float
    text: str
    size: float = 11


def pdf(
    pages: Sequence[Sequence[Text]],
    *,
    font: str = "Helvetica",
    media: tuple[float, ...] = LETTER,
    crop: tuple[float, ...] | None = None,
    rotate: int = 0,
    meanings: Mapping[str, str] | None = None,
    title: str | None = None,
) -> bytes:
    """Pages of text in one of the standard fonts. `meanings`: character drawn → what the file says it means."""
    objects: list[bytes] = [b"<< /Type /Catalog /Pages 2 0 R >>", b""]

    def add(body: bytes) -> int:
        objects.append(body)
        return len(objects)

    to_unicode = f" /ToUnicode {add(stream(_unicode_map(meanings)))} 0 R" if meanings else ""
    used = add(f"<< /Type /Font /Subtype /Type1 /BaseFont /{font} /Encoding /WinAnsiEncoding{to_unicode} >>".encode())
    kids = []
    for texts in pages:
        content = add(stream("\n".join(f"BT /F {t.size} Tf {t.x} {t.y} Td ({_escaped(t.text)}) Tj ET" for t in texts).encode("cp1252")))
        boxes = f"/MediaBox [{_numbers(media)}]" + (f" /CropBox [{_numbers(crop)}]" if crop else "")
        resources = f"<< /Font << /F {used} 0 R >> >>"
        kids.append(add(f"<< /Type /Page /Parent 2 0 R {boxes} /Rotate {rotate} /Contents {content} 0 R /Resources {resources} >>".encode()))
    objects[1] = f"<< /Type /Pages /Count {len(kids)} /Kids [{' '.join(f'{kid} 0 R' for kid in kids)}] >>".encode()
    info = add(f"<< /Title ({_escaped(title)}) >>".encode()) if title is not None else None
    return assembled(objects, info)


def lines(*texts: str, top: float = 720, left: float = 72, leading: float = 14, size: float = 11) -> list[Text]:
    """Lines one below the other."""
    return [Text(left, top - leading * number, text, size) for number, text in enumerate(texts) if text]


def scan(pages: int = 1) -> bytes:
    """Pages that show a picture and no text."""
    objects: list[bytes] = [b"<< /Type /Catalog /Pages 2 0 R >>", b""]
    grey = bytes(range(256)) * 4
    image = stream(grey, b"/Type /XObject /Subtype /Image /Width 32 /Height 32 /ColorSpace /DeviceGray /BitsPerComponent 8")
    objects += [image, stream(b"q 612 0 0 792 0 0 cm /I Do Q")]
    page = b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 612 792] /Contents 4 0 R /Resources << /XObject << /I 3 0 R >> >> >>"
    objects += [page] * pages
    kids = " ".join(f"{number} 0 R" for number in range(5, 5 + pages))
    objects[1] = f"<< /Type /Pages /Count {pages} /Kids [{kids}] >>".encode()
    return assembled(objects)


def stream(data: bytes, entries: bytes = b"", compress: bool = False) -> bytes:
    """A stream object's body."""
    packed = zlib.compress(data) if compress else data
    flate = b" /Filter /FlateDecode" if compress else b""
    return b"<< /Length %d%s %s >>\nstream\n%s\nendstream" % (len(packed), flate, entries, packed)


def assembled(objects: Sequence[bytes], info: int | None = None) -> bytes:
    """Numbered object bodies, the first the catalogue → a file with a cross-reference table."""
    out, offsets = bytearray(b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n"), []
    for number, body in enumerate(objects, 1):
        offsets.append(len(out))
        out += b"%d 0 obj\n%s\nendobj\n" % (number, body)
    start = len(out)
    out += b"xref\n0 %d\n0000000000 65535 f \n" % (len(objects) + 1)
    out += b"".join(b"%010d 00000 n \n" % offset for offset in offsets)
    more = b" /Info %d 0 R" % info if info else b""
    out += b"trailer\n<< /Size %d /Root 1 0 R%s >>\nstartxref\n%d\n%%%%EOF\n" % (len(objects) + 1, more, start)
    return bytes(out)


def _unicode_map(meanings: Mapping[str, str]) -> bytes:
    table = {chr(code): chr(code) for code in range(0x20, 0x7F)} | dict(meanings)
    pairs = "\n".join(f"<{ord(char):02X}> <{meaning.encode('utf-16-be', 'surrogatepass').hex()}>" for char, meaning in table.items())
    return (
        "/CIDInit /ProcSet findresource begin 12 dict begin begincmap /CMapName /T def /CMapType 2 def\n"
        f"1 begincodespacerange <00> <FF> endcodespacerange\n{len(table)} beginbfchar\n{pairs}\nendbfchar\nendcmap end end"
    ).encode()


def _escaped(text: str) -> str:
    return text.replace("\\", r"\\").replace("(", r"\(").replace(")", r"\)")


def _numbers(values: Sequence[float]) -> str:
    return " ".join(map(str, values))
