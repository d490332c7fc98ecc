"""Assembles the commands; turns what escapes them into a sentence and an exit code. Not commands."""

import sys
from typing import Any

import click
import typer
from pydantic import ValidationError

from docray import __version__
from docray.cli import admin, ask, ingest, lifecycle
from docray.cli.common import ExitCode, end_with, err
from docray.client import ClientError

app = typer.Typer(
    name="docray",
    help="Questions over PDFs, answered with citations that are right.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"docray {__version__}")
        raise typer.Exit


@app.callback()
def _options(version: bool = typer.Option(False, "--version", callback=_version, is_eager=True, help="The version.")) -> None:
    del version


for group in (lifecycle, ingest, ask, admin):
    group.register(app)


def main(arguments: list[str] | None = None) -> Any:
    """The `docray` program."""
    try:
        app(args=arguments, standalone_mode=False)
    except click.exceptions.Exit as stop:
        sys.exit(stop.exit_code)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except (click.Abort, KeyboardInterrupt):
        err.print("Interrupted.")
        sys.exit(int(ExitCode.INTERRUPTED))
    except ClientError as error:
        try:
            end_with(error)
        except typer.Exit as stop:
            sys.exit(stop.exit_code)
    except ValidationError as error:
        for problem in error.errors():
            err.print(f"DOCRAY_{'_'.join(map(str, problem['loc'])).upper()}: {problem['msg']}", style="red", markup=False)
        sys.exit(int(ExitCode.USAGE))


if __name__ == "__main__":
    main()
