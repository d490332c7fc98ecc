"""`serve_config.yaml` has no key that Ray does not know: Ray itself ignores misspelled ones."""

import importlib
import inspect
from pathlib import Path
from typing import Any, get_args

import pytest
import yaml
from pydantic import BaseModel
from ray.serve.schema import ServeDeploySchema

ROOT = Path(__file__).resolve().parents[2]


def unknown_keys(model: type[BaseModel], value: Any, path: str = "") -> list[str]:
    """Keys of a config that its schema does not name, dotted."""
    found = []
    names = {field.alias or name: field for name, field in model.model_fields.items()} | dict(model.model_fields)
    for key, inner in value.items():
        if key not in names:
            found.append(f"{path}{key}")
            continue
        for kind in models_in(names[key].annotation):
            items = inner if isinstance(inner, list) else [inner]
            for item in items:
                if isinstance(item, dict):
                    found += unknown_keys(kind, item, f"{path}{key}.")
    return found


def models_in(annotation: Any) -> list[type[BaseModel]]:
    """The schema classes inside an annotation."""
    if inspect.isclass(annotation) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for argument in get_args(annotation) for model in models_in(argument)][:1]


def config() -> dict[str, Any]:
    return yaml.safe_load((ROOT / "serve_config.yaml").read_text(encoding="utf-8"))


def test_every_key_is_one_that_serve_knows() -> None:
    assert unknown_keys(ServeDeploySchema, config()) == []


@pytest.mark.parametrize(
    ("place", "typo"), [((), "http_optoins"), (("applications", 0, "deployments", 0), "max_queued_request"), (("http_options",), "prot")]
)
def test_a_misspelled_key_is_found(place: tuple[Any, ...], typo: str) -> None:
    broken = config()
    part = broken
    for step in place:
        part = part[step]
    part[typo] = 1
    assert [key.rpartition(".")[2] for key in unknown_keys(ServeDeploySchema, broken)] == [typo]


def test_the_schema_accepts_the_config() -> None:
    ServeDeploySchema.model_validate(config())


@pytest.mark.parametrize("application", config()["applications"], ids=lambda each: each["name"])
def test_every_application_can_be_built_with_its_arguments_and_deployment_names(application: dict[str, Any]) -> None:
    module, _, name = application["import_path"].partition(":")
    builder = getattr(importlib.import_module(module), name)
    (parameter,) = inspect.signature(builder, eval_str=True).parameters.values()
    assert issubclass(parameter.annotation, BaseModel), "Serve checks arguments only against a pydantic model"
    built = builder(parameter.annotation(**application["args"]))
    assert {deployment["name"] for deployment in application["deployments"]} <= {built._bound_deployment.name}


def test_a_misspelled_argument_stops_a_deploy() -> None:
    from serve_apps.app import AppArgs

    with pytest.raises(ValueError, match="embeder"):
        AppArgs(embeder="local")


@pytest.mark.parametrize("application", config()["applications"], ids=lambda each: each["name"])
def test_every_deployment_bounds_its_work(application: dict[str, Any]) -> None:
    for deployment in application["deployments"]:
        assert deployment["max_ongoing_requests"] > 0
        assert deployment["graceful_shutdown_timeout_s"] >= 35, "ingress replicas drain for 30 s behind HAProxy"
    from serve_apps.embedder import Embedder
    from serve_apps.gateway import Gateway

    for bounded in (Gateway, Embedder):
        assert bounded._deployment_config.max_queued_requests > 0
        assert bounded._deployment_config.backpressure_config.status_code == 429


def test_the_scaling_policy_can_be_imported_and_follows_the_backlog() -> None:
    from types import SimpleNamespace

    from serve_apps.scaling import JOBS_A_WORKER, by_backlog

    def target(**by_replica: float) -> float:
        return by_backlog(SimpleNamespace(aggregated_metrics={"backlog": by_replica}, policy_state={}))[0]

    assert target() == 1
    assert target(a=1.0) == 1
    assert target(a=JOBS_A_WORKER * 3 + 1.0, b=JOBS_A_WORKER * 3.0) == 4
