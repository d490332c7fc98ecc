"""What alembic runs for each command: configures the offline context and writes the statements."""

from alembic import context

context.configure(
    dialect_name="postgresql",
    output_buffer=context.config.output_buffer,
    version_table="alembic_version",
    version_table_schema="docray_migrations",
)
context.run_migrations()
