"""docray: questions over PDFs, answered with citations that are right."""

__version__ = "0.1.0"
