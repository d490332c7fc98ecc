"""The contract's checker, written by nobody here, against the running product: every row, the command line too."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.acceptance.conftest import DOCRAY, ROOT, Running, environment


@pytest.mark.timeout(1600)
def test_the_contract_holds_row_by_row(instance: Running) -> None:
    checker = ROOT.parent / "shared" / "tools" / "contract" / "check.py"
    if not checker.is_file():
        pytest.skip("no ../shared/tools/contract beside this checkout: the checker is not shipped")
    done = subprocess.run(
        [sys.executable, checker, "--data-dir", instance.data_dir, "--cli", os.fspath(DOCRAY), "--strict"],
        env=environment(PYTHONDONTWRITEBYTECODE="1"), capture_output=True, text=True, timeout=1500, check=False, cwd=Path("/"),
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
