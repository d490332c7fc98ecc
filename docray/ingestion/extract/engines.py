"""Engines by name. Imports them on first use: the parser server does that before it forks, nobody else ever does."""

import os
import sys
from typing import Any

from docray.ingestion.extract.pieces import OpenDocument
from docray.ingestion.extract.reader import Engine

# A page of one word: opening it loads what the engines load lazily, before the sandbox closes the file system.
_WARM_UP = (
    b"%PDF-1.4\n1 0 obj<</Type/Catalog/Pages 2 0 R>>endobj 2 0 obj<</Type/Pages/Kids[3 0 R]/Count 1>>endobj "
    b"3 0 obj<</Type/Page/Parent 2 0 R/MediaBox[0 0 99 99]/Contents 4 0 R/Resources<</Font<</F<</Type/Font/Subtype/Type1/BaseFont/Helvetica>>>>>>>>"
    b"endobj 4 0 obj<</Length 31>>stream\nBT /F 9 Tf 9 50 Td (word) Tj ET\nendstream endobj\ntrailer<</Root 1 0 R>>\n"
)


def open_with(engine: Engine, data: memoryview) -> OpenDocument:
    """Opens a PDF. Raises `Unreadable`; ImportError where the engine is not installed."""
    if engine == "pymupdf":
        # PyMuPDF 2.0 imports its layout model and with it onnxruntime and its threads, when it finds them; a forking server has no use for either.
        sys.modules.setdefault("pymupdf.layout", None)  # type: ignore[arg-type]  # None: importing it raises ImportError
        sys.modules.setdefault("pymupdf4llm", None)  # type: ignore[arg-type]
        from docray.ingestion.extract.pymupdf_engine import PyMuPdfDocument

        return PyMuPdfDocument(data)
    from docray.ingestion.extract.pdfium_engine import PdfiumDocument

    return PdfiumDocument(data)


def warm_up(engine: Engine) -> tuple[list[str], bool]:
    """Loads everything a child will need. Returns the engines found and whether liteparse is there. Raises ImportError without `engine`."""
    found: list[str] = []
    names: tuple[Engine, ...] = ("pymupdf", "pypdfium2")
    for name in names:
        try:
            document = open_with(name, memoryview(_WARM_UP))
        except ImportError:
            if name == engine:
                raise
            continue
        document.page(0)
        document.render(0, 1.0, 10_000)
        document.close()
        found.append(name)
    return found, _warm_up_layout()


def _warm_up_layout() -> bool:
    """liteparse opens its own PDFium at its first page. Its threads end with its parser, or the server may not fork with it."""
    from docray.ingestion.extract.layout import Layout

    try:
        layout: Any = Layout(_WARM_UP, 60.0)
    except ImportError:
        return False
    usable = layout.page(1) is not None
    del layout
    return usable and len(os.listdir("/proc/self/task")) == 1
