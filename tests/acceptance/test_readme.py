"""The README's examples run as they stand there."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.acceptance.conftest import DOCRAY, ROOT, Running, environment

EXAMPLES = re.findall(r"<!-- tested: (\w+) -->\n```\w+\n(.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), re.S)


@pytest.fixture
def checkout(tmp_path: Path, instance: Running) -> Path:
    """What a reader sees: samples, .venv/bin/docray and the running instance under .docray."""
    (tmp_path / "samples").symlink_to(ROOT / "samples")
    (tmp_path / ".venv" / "bin").mkdir(parents=True)
    (tmp_path / ".venv" / "bin" / "docray").symlink_to(DOCRAY)
    (tmp_path / ".docray").symlink_to(instance.data_dir)
    return tmp_path


def test_the_readme_has_examples_for_every_way_in() -> None:
    assert [kind for kind, _ in EXAMPLES] == ["shell", "shell", "python"]


@pytest.mark.parametrize(("kind", "text"), EXAMPLES, ids=["command line", "curl", "python"])
def test_an_example_runs_and_answers(kind: str, text: str, checkout: Path) -> None:
    command = ["bash", "-euo", "pipefail", "-c", text] if kind == "shell" else [sys.executable, "-c", text]
    done = subprocess.run(command, cwd=checkout, env=environment(), capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 0, done.stderr
    spoken = " ".join(done.stdout.split())
    expected = "1 May 2024" if "curl" in text else "twenty-one nautical miles" if kind == "shell" else "room for six"
    assert expected in spoken
    assert '"error"' not in spoken
    if "curl" in text:
        final = re.search(r"event: final_answer\ndata: (.+)\n", done.stdout)
        assert final is not None
        assert json.loads(final[1])["citations"]
