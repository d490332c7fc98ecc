"""`docray up`, `down`, `status` and `doctor`: the instance on this machine."""

from dataclasses import asdict
from typing import Any

import typer

from docray.cli.bulk import progress_of
from docray.cli.common import ApiKey, AsJson, DataDir, ExitCode, Url, connect, err, fail, files_of, out, print_json
from docray.client import Client, ClientError, NotReachable
from docray.instance import doctor as checks
from docray.instance import start


def register(app: typer.Typer) -> None:
    """Adds the commands."""
    for command in (up, down, status, doctor):
        app.command()(command)


def up(
    port: int | None = typer.Option(None, min=1, max=65535, help="HTTP port; the next free one when it is taken. Default 8000."),
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Starts docray and returns when it is ready; it stays up. Once more: nothing happens."""
    files = files_of(data_dir)
    try:
        with err.status("Starting docray …") as line:
            instance, notes = start.up(files, port, tell=line.update)
    except start.StartFailed as error:
        fail(str(error), ExitCode.FAILED)
    for note in notes:
        err.print(note, markup=False)
    if as_json:
        print_json(asdict(instance))
        return
    out.print(f"docray is up: {instance.url}", markup=False)
    out.print(f"API documentation: {instance.url}/docs", markup=False)
    out.print(f"Ray dashboard: {instance.dashboard_url}  (token in {files.secrets / 'ray_token'})", markup=False)
    out.print(f"Key: in {files.instance}", markup=False)


def down(data_dir: DataDir = None, as_json: AsJson = False) -> None:
    """Stops all that this instance started, and nothing else."""
    files = files_of(data_dir)
    with err.status("Stopping docray …"):
        stopped = start.down(files)
    if as_json:
        print_json({"state": "stopped", "data_dir": str(files.data_dir)})
    else:
        out.print("Stopped." if stopped else "Nothing was running.")


def status(url: Url = None, api_key: ApiKey = None, data_dir: DataDir = None, as_json: AsJson = False) -> None:
    """Whether docray runs, where, and how its documents stand."""
    files = files_of(data_dir)
    instance = files.read()
    found: dict[str, Any] = {
        "state": "stopped", "url": None, "dashboard_url": None, "data_dir": str(files.data_dir), "documents": {}, "jobs": [], "checks": {},
    }  # fmt: skip
    try:
        with connect(url, api_key, data_dir) as client:
            own = instance is not None and client.url == instance.url
            found |= {"url": client.url, "dashboard_url": instance.dashboard_url if own and instance else None, **_state_of(client)}
    except (NotReachable, typer.Exit):
        found["state"] = "stopped"
    if as_json:
        print_json(found)
        return
    out.print(f"{found['state']}: {found['url'] or found['data_dir']}", markup=False)
    for state, count in found["documents"].items():
        out.print(f"  {count} {state}", markup=False)
    for job in found["jobs"]:
        out.print(f"  job {job['id']} {job['state']}: {job['files']['ended']} of {job['files']['total']} files, {progress_of(job)}", markup=False)
    for name, check in found["checks"].items():
        out.print(f"  {name}: {'ok' if check['ok'] else check['detail']}", markup=False)


def _state_of(client: Client) -> dict[str, Any]:
    try:
        ready = client.call("GET", "/readyz")
    except NotReachable:
        raise
    except ClientError:
        ready = {"checks": {}}
    newest = client.call("GET", "/v1/jobs?limit=20")["data"]
    jobs = [job for job in newest if job["state"] in ("running", "interrupted")]
    return {"state": "running", "documents": client.call("GET", "/v1/status")["documents"], "jobs": jobs, "checks": ready["checks"]}


def doctor(data_dir: DataDir = None, as_json: AsJson = False) -> None:
    """Checks what docray needs on this machine and says what to do; exit 1 where something must be mended."""
    found = checks.run(files_of(data_dir))
    good = all(check.ok for check in found)
    if as_json:
        print_json({"ok": good, "checks": [asdict(check) for check in found]})
    else:
        for check in found:
            out.print(f"{'✓' if check.ok else '✗'} {check.name}: {check.detail}", markup=False)
            if check.fix:
                out.print(f"    {check.fix}", markup=False)
    raise typer.Exit(int(ExitCode.DONE if good else ExitCode.FAILED))
