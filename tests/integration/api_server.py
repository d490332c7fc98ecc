"""A whole docray in two processes, without Ray: PostgreSQL, and the gateway with an ingest worker under uvicorn.

    python tests/integration/api_server.py DATA_DIR PORT     prints the URL and the first key, serves until interrupted

For running the contract checker and other clients against a working tree.
"""

import asyncio
import contextlib
import signal
import sys
from pathlib import Path

import uvicorn

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from postgres_fixture import running_server  # noqa: E402 - the path comes first

from docray import settings as environment  # noqa: E402
from docray import wiring  # noqa: E402
from docray.instance import postgres  # noqa: E402
from docray.instance.files import InstanceFiles  # noqa: E402
from docray.settings import Settings  # noqa: E402
from models import configured  # noqa: E402


def main(data_dir: Path, port: int) -> None:
    """Serves until interrupted or terminated; PostgreSQL stops with it."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    files = InstanceFiles.of(data_dir)
    files.prepare()
    postgres.ensure_initialised(files.postgres)
    with running_server(files.postgres):
        admin, app, worker = (postgres.dsn(files.postgres, role) for role in (postgres.SUPERUSER, "docray_app", "docray_worker"))
        settings = environment.load(data_dir=data_dir, port=port, database_dsn=app, database_worker_dsn=worker)
        key = wiring.prepare_database(settings, admin_dsn=admin, app_dsn=app, secrets=files)
        print(f"http://127.0.0.1:{port} {key}", flush=True)
        with contextlib.suppress(KeyboardInterrupt):
            asyncio.run(serve(settings))


async def serve(settings: Settings) -> None:
    """The gateway, with a worker beside it that shares its embedders."""
    embedder, following = [await asyncio.to_thread(build, settings) for build in (configured.local_embedder, configured.next_embedder)]
    app = wiring.build_gateway(
        settings, embedder=lambda: embedder, next_embedder=lambda: following, generator=lambda: configured.language_model(settings)
    )
    server = uvicorn.Server(uvicorn.Config(app, host=settings.host, port=settings.port, log_level="warning", access_log=False))
    async with wiring.opened_worker(settings, embedder=embedder, next_embedder=following, name="api_server") as worker:
        working = asyncio.create_task(worker.run())
        try:
            await server.serve()
        finally:
            working.cancel()
            await asyncio.gather(working, return_exceptions=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]).absolute(), int(sys.argv[2]))
