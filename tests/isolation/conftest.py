"""Fixtures of the isolation tests: a real PostgreSQL, and every log line of a test."""

import io
import logging
import sys
from collections.abc import Callable, Iterator

import pytest
import structlog
from postgres_fixture import (  # noqa: F401 - fixtures are used by name
    catalog,
    database,
    new_tenant,
    other_principal,
    postgres_folder,
    postgres_template,
    principal,
    queue,
    superuser,
    test_database,
    worker_database,
)

from docray.observability import logs
from tests.isolation.sizes import FIGURES, NIGHTLY, SEED


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """The seed, so that a failure can be replayed, and the figures."""
    terminalreporter.write_sep("=", "isolation")
    terminalreporter.write_line(f"DOCRAY_TEST_SEED={SEED} DOCRAY_TEST_SIZE={'nightly' if NIGHTLY else ''}")
    for sentence in FIGURES:
        terminalreporter.write_line(sentence)


@pytest.fixture
def log_text(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], str]]:
    """What docray and everybody else has logged so far, as the product would write it at level INFO."""
    written, others = io.BytesIO(), io.StringIO()
    logs.configure("INFO", written)
    for module in [module for name, module in sys.modules.items() if name.startswith("docray.")]:
        for name in ("log", "_log"):  # a logger that was used before keeps the stream it had then
            if "structlog" in type(getattr(module, name, None)).__module__:
                monkeypatch.setattr(module, name, structlog.get_logger(module.__name__))
    handler = logging.StreamHandler(others)
    handler.setLevel(logging.INFO)
    logging.getLogger().addHandler(handler)
    yield lambda: written.getvalue().decode() + others.getvalue()
    logging.getLogger().removeHandler(handler)
    structlog.reset_defaults()
