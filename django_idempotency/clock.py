"""The database's clock: application servers disagree about the time, one database does not."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.db.models.functions import Now

__all__ = ["DatabaseNow"]


class DatabaseNow(Now):
    """``Now()`` that agrees with how times are stored: in UTC, or as local ones."""

    def as_mysql(self, compiler: Any, connection: Any, **context: Any) -> Any:
        function = "UTC_TIMESTAMP" if settings.USE_TZ else "LOCALTIMESTAMP"
        return self.as_sql(compiler, connection, template=f"{function}(6)", **context)

    def as_sqlite(self, compiler: Any, connection: Any, **context: Any) -> Any:
        zone = "" if settings.USE_TZ else ", 'localtime'"
        template = f"STRFTIME('%%%%Y-%%%%m-%%%%d %%%%H:%%%%M:%%%%f', 'now'{zone})"
        return self.as_sql(compiler, connection, template=template, **context)
