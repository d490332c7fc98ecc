"""What a parsing child can be asked: `extract` a document, `render` a page. Runs after the child has been confined.

Owns turning requests into calls and results into frames. Leaves processes to `server`, PDFs to `docray.ingestion.extract`.
"""

from collections.abc import Callable, Mapping
from typing import Any

from docray.domain.documents import FailureCode
from docray.ingestion.extract import engines
from docray.ingestion.extract.limits import ParserLimits
from docray.ingestion.extract.picture import MAX_PIXELS, highlighted, png
from docray.ingestion.extract.pieces import Unreadable
from docray.ingestion.extract.reader import Opened, Reader, ReadPage, check_claims
from docray.ingestion.sandbox import wire

Emit = Callable[[bytes, bytes], None]
Job = Callable[[memoryview, Mapping[str, Any], Emit], None]


def prepare(engine: str) -> dict[str, Any]:
    """Loads every engine. Returns what there is: `{"engines": […], "structure": bool}`. Raises ImportError without `engine`."""
    found, structure = engines.warm_up("pypdfium2" if engine == "pypdfium2" else "pymupdf")
    return {"engines": found, "structure": structure}


def extract(data: memoryview, arguments: Mapping[str, Any], emit: Emit) -> None:
    """`engine`, `structure` and the limits → OPENED, PAGE …, FINISHED."""
    reader = Reader(arguments["engine"], ParserLimits(**arguments["limits"]), engines.open_with, arguments["structure"])
    for event in reader.read(data):
        if isinstance(event, Opened):
            emit(wire.OPENED, wire.pack({"pages": event.page_count}))
        elif isinstance(event, ReadPage):
            body = wire.pack_page(event.page)
            if len(body) > wire.MAX_FRAME_BYTES:
                raise Unreadable(FailureCode.TOO_LARGE)
            emit(wire.PAGE, body)
        else:
            emit(wire.FINISHED, wire.pack({"title": event.title}))


def render(data: memoryview, arguments: Mapping[str, Any], emit: Emit) -> None:
    """`engine`, `page` (from 1), `scale`, `boxes` → PICTURE, or FAILED with `missing_page`."""
    check_claims(data)
    document = engines.open_with(arguments["engine"], data)
    if not 1 <= arguments["page"] <= document.page_count:
        emit(wire.FAILED, wire.pack({"code": FailureCode.DAMAGED, "missing_page": True}))
        return
    bitmap = document.render(arguments["page"] - 1, arguments["scale"], MAX_PIXELS)
    emit(wire.PICTURE, png(highlighted(bitmap, [tuple(box) for box in arguments["boxes"]])))


JOBS: Mapping[str, Job] = {"extract": extract, "render": render}
