"""`docray delete`, `docray keys …`, `docray tenants …`."""

from typing import Annotated

import typer

from docray.cli.common import ApiKey, AsJson, DataDir, Url, connect, out, print_json

keys = typer.Typer(help="API keys.", no_args_is_help=True)
tenants = typer.Typer(help="Tenants, for the platform operator.", no_args_is_help=True)


def register(app: typer.Typer) -> None:
    """Adds the commands."""
    app.command()(delete)
    app.add_typer(keys, name="keys")
    app.add_typer(tenants, name="tenants")


def delete(document_id: str, url: Url = None, api_key: ApiKey = None, data_dir: DataDir = None, as_json: AsJson = False) -> None:
    """Deletes a document."""
    with connect(url, api_key, data_dir) as client:
        deleted = client.delete(document_id)
    if as_json:
        print_json(deleted)
    else:
        out.print(f"Deleted {deleted['id']}.")


@keys.command("create")
def create_key(
    name: str,
    scope: Annotated[list[str], typer.Option("--scope", help="search, ask, ingest, admin or mcp; repeat for several.")],
    url: Url = None,
    api_key: ApiKey = None,
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Makes a key; its secret is shown this once."""
    with connect(url, api_key, data_dir) as client:
        made = client.call("POST", "/v1/api-keys", json={"name": name, "scopes": scope, "expires_at": None})
    if as_json:
        print_json(made)
    else:
        out.print(f"{made['secret']}\nKeep it: it is not shown again. Id {made['id']}.", markup=False)


@keys.command("list")
def list_keys(url: Url = None, api_key: ApiKey = None, data_dir: DataDir = None, as_json: AsJson = False) -> None:
    """Lists the keys, without their secrets."""
    with connect(url, api_key, data_dir) as client:
        found = list(client.listing("/v1/api-keys"))
    if as_json:
        print_json({"object": "list", "data": found, "has_more": False, "next_cursor": None})
        return
    for key in found:
        state = "revoked" if key["revoked_at"] else "live"
        out.print(f"{key['id']}  {key['prefix']}…  {state:8}{','.join(key['scopes']):28}{key['name']}", markup=False)


@keys.command("revoke")
def revoke_key(key_id: str, url: Url = None, api_key: ApiKey = None, data_dir: DataDir = None, as_json: AsJson = False) -> None:
    """Revokes a key, everywhere within seconds."""
    with connect(url, api_key, data_dir) as client:
        revoked = client.call("DELETE", f"/v1/api-keys/{key_id}")
    if as_json:
        print_json(revoked)
    else:
        out.print(f"Revoked {revoked['name']}.", markup=False)


@tenants.command("create")
def create_tenant(name: str, url: Url = None, api_key: ApiKey = None, data_dir: DataDir = None, as_json: AsJson = False) -> None:
    """Makes a tenant with its first key; the secret is shown this once."""
    with connect(url, api_key, data_dir) as client:
        made = client.call("POST", "/v1/tenants", json={"name": name})
    if as_json:
        print_json(made)
    else:
        out.print(f"{made['api_key']['secret']}\nThe key of tenant {made['name']}; it is not shown again.", markup=False)
