"""Bulk runs: what `pipelines.ingest` reads, and what became of each file."""

from docray.stores.migrations import run_sql_file

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    """Makes the tables of bulk runs and the function that leases one generation for a run."""
    run_sql_file("0003_bulk.sql")
