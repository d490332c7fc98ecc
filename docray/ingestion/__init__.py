"""How a PDF gets in: taking it over, reading it, cutting it into passages, publishing, replacing and deleting it."""
