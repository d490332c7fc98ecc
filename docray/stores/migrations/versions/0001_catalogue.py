"""Tenants, keys, documents, generations, pages, chunks, collections, purges, idempotency, audit, usage; row-level security."""

from docray.stores.migrations import run_sql_file

revision = "0001"
down_revision = None


def upgrade() -> None:
    """Makes the tables, then the functions that see all tenants."""
    run_sql_file("0001_tables.sql")
    run_sql_file("0001_functions.sql")
