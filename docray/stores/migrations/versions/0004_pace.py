"""The pace of bulk runs."""

from docray.stores.migrations import run_sql_file

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    """Adds the column."""
    run_sql_file("0004_pace.sql")
