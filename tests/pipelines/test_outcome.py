"""What a run that broke tells its tenant: never what an exception says."""

from pathlib import Path
from typing import Any

import pytest

from docray.domain.errors import Unavailable
from pipelines.ingest import Ingestion, parse

_AWAY = Unavailable(retry_after_s=1.0)


@pytest.mark.parametrize(("broken", "told"), [(RuntimeError("dsn=postgresql://someone:secret@db"), "The run broke."), (_AWAY, _AWAY.message)])
def test_the_error_of_a_broken_run_is_a_sentence_of_ours(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, tmp_path: Path, broken: Exception, told: str
) -> None:
    def work(*_: Any) -> None:
        raise broken

    monkeypatch.setenv("DOCRAY_DATA_DIR", str(tmp_path))
    ingestion = Ingestion(parse(["--source", str(tmp_path)]))
    monkeypatch.setattr(ingestion, "_work", work)
    code, message = ingestion._outcome(None, None, None)  # type: ignore[arg-type, misc]
    assert code == "internal"
    assert message.startswith(told)
    assert "secret" not in message
    assert str(broken) in caplog.text
