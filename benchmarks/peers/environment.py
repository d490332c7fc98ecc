"""The peers' virtual environment, `benchmarks/out/peers`: made at first use from `requirements.txt`, about 5.5 GB with the torch of the tests.

Files come from uv's cache by hard links, so beside `.venv-test` it takes little of that anew.
"""

import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "benchmarks" / "out" / "peers"
REQUIREMENTS = Path(__file__).with_name("requirements.txt")
_COPIED = "llama-index-core"


def peers_python() -> Path:
    """The interpreter with the peers' packages."""
    python, mark = FOLDER / "bin" / "python", FOLDER / "installed"
    wanted = hashlib.sha256(REQUIREMENTS.read_bytes()).hexdigest()
    if not mark.is_file() or mark.read_text() != wanted:
        if not python.is_file():
            subprocess.run([sys.executable, "-m", "venv", "--without-pip", FOLDER], check=True)
        print("installing the peers' packages, once", file=sys.stderr)
        subprocess.run([_uv(), "pip", "sync", "--quiet", "--compile-bytecode", "--python", python, REQUIREMENTS], check=True)
        # nltk, which LlamaIndex splits sentences with, refuses the files of its package where they are hard links into uv's cache.
        copied = ["--link-mode", "copy", "--no-deps", "--reinstall-package", _COPIED, "--constraint", REQUIREMENTS, _COPIED]
        subprocess.run([_uv(), "pip", "install", "--quiet", "--python", python, *copied], check=True)
        mark.write_text(wanted)
    return python


def peer_environment() -> dict[str, str]:
    """The environment of a peer's process: nothing of ours, no hub."""
    ours = ("DOCRAY_", "RAY_", "PYTHONPATH", "OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
    return kept | {"HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "true", "LANGCHAIN_TRACING_V2": "false", "ANONYMIZED_TELEMETRY": "False"}


def _uv() -> str:
    own = ROOT / ".tools" / "uv" / "bin" / "uv"
    found = str(own) if own.is_file() else shutil.which("uv")
    if found is None:
        raise SystemExit("uv is missing: `make .tools/uv/bin/uv`")
    return found
