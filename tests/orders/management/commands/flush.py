"""Empty the tables between two tests; most of the suite's time would go into Django's way."""

from __future__ import annotations

from typing import Any

from django.core.management.color import no_style
from django.core.management.commands import flush
from django.db import connections, transaction

# What `migrate` fills from the code. Django's flush empties them, too, and fills them again.
FILLED_BY_MIGRATE = {"django_content_type", "auth_permission"}
MANY_BYTES = 1 << 20  # from here on TRUNCATE is the faster one; it also takes dead rows away


class Command(flush.Command):
    def handle(self, **options: Any) -> None:
        connection = connections[options["database"]]
        names = connection.introspection.django_table_names(only_existing=True, include_views=False)
        tables = sorted(set(names) - FILLED_BY_MIGRATE)
        if connection.vendor != "postgresql":
            statements = connection.ops.sql_flush(no_style(), tables, reset_sequences=False)
            connection.ops.execute_sql_flush(statements)
            return
        quoted = [connection.ops.quote_name(name) for name in tables]
        with transaction.atomic(using=connection.alias), connection.cursor() as cursor:
            # As TRUNCATE does, wait for requests that a test has left behind.
            cursor.execute(f"LOCK TABLE {', '.join(quoted)} IN SHARE ROW EXCLUSIVE MODE")
            # Foreign keys are judged at the commit.
            cursor.execute(";".join(f"DELETE FROM {name}" for name in quoted))
            cursor.execute(
                "SELECT max(pg_table_size(r)) FROM unnest(%s::regclass[]) AS r", [quoted]
            )
            (size,) = cursor.fetchone()
        if size > MANY_BYTES:
            super().handle(**options)
