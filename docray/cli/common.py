"""What every command shares: where docray is, how results and errors are printed, exit codes."""

import enum
import json
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer
from rich.console import Console

from docray import settings as environment
from docray.client import ApiError, Client, ClientError, NotReachable
from docray.instance.files import Instance, InstanceFiles

Url = Annotated[str | None, typer.Option("--url", help="Address of docray; else DOCRAY_URL, else the instance of the data folder.")]
ApiKey = Annotated[str | None, typer.Option("--api-key", help="Key; else DOCRAY_API_KEY, else the instance's.")]
DataDir = Annotated[Path | None, typer.Option("--data-dir", help="The instance's data folder; else DOCRAY_DATA_DIR, else ./.docray.")]
AsJson = Annotated[bool, typer.Option("--json", help="JSON on stdout, everything else on stderr.")]

out = Console(highlight=False, soft_wrap=True)
err = Console(stderr=True, highlight=False, soft_wrap=True)


class ExitCode(enum.IntEnum):
    """What a command's end means to a script."""

    DONE = 0
    FAILED = 1
    USAGE = 2
    NOT_REACHABLE = 3
    REFUSED = 4
    PARTLY = 5
    INTERRUPTED = 130


def print_json(value: Any) -> None:
    """One JSON document, or one line of several, on stdout."""
    typer.echo(json.dumps(value, ensure_ascii=False))


def fail(message: str, code: ExitCode) -> NoReturn:
    """Says why on stderr and ends the command."""
    err.print(message, style="red", markup=False)
    raise typer.Exit(int(code))


def files_of(data_dir: Path | None) -> InstanceFiles:
    """The instance's files: of the folder given, else DOCRAY_DATA_DIR, else ./.docray."""
    return InstanceFiles.of(data_dir or environment.load().data_dir)


def running_instance(data_dir: Path | None) -> Instance:
    """What `instance.json` names; exit 3 when nothing was started there."""
    files = files_of(data_dir)
    instance = files.read()
    if instance is None:
        fail(f"No docray runs in {files.data_dir}. Start it with `docray up`, or give --url and --api-key.", ExitCode.NOT_REACHABLE)
    return instance


def connect(url: str | None, api_key: str | None, data_dir: Path | None) -> Client:
    """A client for the address and key of the options, the environment or the instance, in that order."""
    settings = environment.load()
    if data_dir is None:
        url = url or settings.url
        api_key = api_key or (settings.api_key.get_secret_value() if settings.api_key else None)
    if url is None or api_key is None:
        instance = running_instance(data_dir)
        url, api_key = url or instance.url, api_key or instance.api_key
    return Client(url, api_key)


def end_with(error: ClientError) -> NoReturn:
    """A client's error as a message and an exit code."""
    if isinstance(error, NotReachable):
        fail(f"{error}. Is it running? See `docray status`.", ExitCode.NOT_REACHABLE)
    if isinstance(error, ApiError) and error.status in (401, 403):
        fail(str(error), ExitCode.REFUSED)
    fail(str(error), ExitCode.FAILED)
