"""Builders of docray's Serve applications, named by `serve_config.yaml`.

Their single argument is a pydantic model that Serve checks, so a misspelled argument stops a deploy. That only works while this
module has no `from __future__ import annotations`.
"""

from typing import Literal

from pydantic import BaseModel, ConfigDict
from ray.serve import Application

from docray import settings as environment
from serve_apps.embedder import NEXT_EMBEDDER, Embedder
from serve_apps.gateway import Gateway
from serve_apps.ingest_worker import IngestWorker


class AppArgs(BaseModel):
    """Where questions are embedded: in each gateway's process, or in the deployment `Embedder` of this application."""

    model_config = ConfigDict(extra="forbid")

    embedder: Literal["local", "remote"] = "local"


class IngestArgs(BaseModel):
    """Where passages are embedded: in the worker's process, or in the deployment `Embedder` of the application `embedder_app`."""

    model_config = ConfigDict(extra="forbid")

    embedder: Literal["local", "remote"] = "local"
    embedder_app: str = "docray"


def build(args: AppArgs) -> Application:
    """The API: the gateway, with the embedder beside it when it is remote, and a second one while a reindex is to bring another model."""
    if args.embedder == "local":
        return Gateway.bind()
    following = environment.current().embedding_model_next is not None
    return Gateway.bind(Embedder.bind(), Embedder.options(name=NEXT_EMBEDDER).bind(following=True) if following else None)


def build_ingest(args: IngestArgs) -> Application:
    """The ingest workers: an application of their own, so that their load and roll-out do not touch the API."""
    return IngestWorker.bind(args.embedder_app if args.embedder == "remote" else None)
