"""`ray-cluster.yaml` is what Ray's launcher takes, and keeps the promises that docs make of it."""

import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonschema.exceptions import ValidationError
from ray.autoscaler._private.util import prepare_config, validate_config

ROOT = Path(__file__).resolve().parents[2]


def cluster() -> dict[str, Any]:
    config: dict[str, Any] = yaml.safe_load((ROOT / "ray-cluster.yaml").read_text(encoding="utf-8"))
    return config


def test_ray_takes_it() -> None:
    validate_config(prepare_config(cluster()))


def test_ray_refuses_a_misspelled_key() -> None:
    with pytest.raises(ValidationError):
        validate_config(prepare_config(cluster() | {"max_worker": 3}))


def test_the_head_is_on_demand_and_works_on_nothing_and_all_workers_are_spot() -> None:
    types = cluster()["available_node_types"]
    head = types.pop(cluster()["head_node_type"])
    assert head["resources"] == {"CPU": 0}
    assert "InstanceMarketOptions" not in head["node_config"]
    for name, group in types.items():
        assert group["node_config"]["InstanceMarketOptions"] == {"MarketType": "spot"}, name
        assert group["min_workers"] == 0, "nothing costs money without work"
        assert name in group["resources"], "operators ask for their group by its name"


def test_its_commands_are_shell_and_no_secret_is_in_it() -> None:
    config = cluster()
    for command in config["setup_commands"] + config["head_start_ray_commands"] + config["worker_start_ray_commands"]:
        subprocess.run(["bash", "-n", "-c", command], check=True)
    assert "docray.env" in (ROOT / ".gitignore").read_text(encoding="utf-8").splitlines()
    subprocess.run(["bash", "-n", ROOT / "cluster" / "spot_notice.sh"], check=True)
