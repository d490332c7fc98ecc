"""Reindexes: another generation beside the live one, switched, kept and rolled back."""

from docray.stores.migrations import run_sql_file

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    """Makes the table of reindexes, and teaches generations, leases and failures about them."""
    run_sql_file("0005_reindex.sql")
