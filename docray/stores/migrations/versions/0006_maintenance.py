"""When the tables that grow most are vacuumed and analysed."""

from docray.stores.migrations import run_sql_file

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    """Sets their storage parameters."""
    run_sql_file("0006_maintenance.sql")
