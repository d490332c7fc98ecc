"""Assembles the commands; turns what escapes them into a sentence and an exit code. Not commands."""

import sys
from typing import NoReturn

import typer
from pydantic import ValidationError

from docray import __version__
from docray.cli import admin, ask, ingest, lifecycle, reindex
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


for group in (lifecycle, ingest, ask, reindex, admin):
    group.register(app)


def main(arguments: list[str] | None = None) -> NoReturn:
    """The `docray` program. Typer ends the process itself for usage errors (2) and interrupts (130)."""
    try:
        try:
            app(args=arguments)
        except ClientError as error:
            end_with(error)
    except typer.Exit as stop:
        sys.exit(stop.exit_code)
    except ValidationError as error:
        for problem in error.errors():
            err.print(f"DOCRAY_{'_'.join(map(str, problem['loc'])).upper()}: {problem['msg']}", style="red", markup=False)
        sys.exit(int(ExitCode.USAGE))
    sys.exit(int(ExitCode.DONE))


if __name__ == "__main__":
    main()
