"""From the bytes of a PDF to pages of words with boxes.

Owns what a page says and where: engines (`pymupdf_engine`, `pdfium_engine`), words (`normalise`, `words`), order and structure
(`layout`, `alignment`, `rows`, `assemble`), the whole document (`reader`) and pictures of pages (`picture`).
All of it runs inside a child of `docray.ingestion.sandbox`; importing this package loads no engine. Leaves processes, limits of the
operating system and the wire to the sandbox, chunks to `docray.ingestion.chunking`.
"""
