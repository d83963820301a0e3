"""Columns that mean the same on every database: on MySQL and MariaDB the usual ones do not."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.db import models

if TYPE_CHECKING:
    _CharField = models.CharField[str, str]
    _UUIDField = models.UUIDField[Any, Any]
else:
    _CharField, _UUIDField = models.CharField, models.UUIDField

__all__ = ["ExactCharField", "PlainUUIDField", "uuid_parameter"]


class ExactCharField(_CharField):
    """Text that is equal only to itself.

    MySQL and MariaDB compare text as people do, unless told otherwise: ``user:ab`` is
    ``user:AB`` there, and ``ab`` is ``ab`` with a space behind it. Two clients would be one.
    """

    def db_parameters(self, connection: Any) -> Any:
        parameters = super().db_parameters(connection)
        if connection.vendor == "mysql":
            mariadb = connection.mysql_is_mariadb
            collation = "utf8mb4_nopad_bin" if mariadb else "utf8mb4_0900_bin"
            return {**parameters, "collation": collation}
        return parameters


class PlainUUIDField(_UUIDField):
    """Sixteen bytes, compared from the first to the last.

    MariaDB's own ``uuid`` compares the last bytes first, where a search for a key compares the
    first. The same column on MySQL and all MariaDBs also spares a conversion when a server is
    upgraded.
    """

    def db_type(self, connection: Any) -> str | None:
        return "char(32)" if connection.vendor == "mysql" else super().db_type(connection)

    def get_db_prep_value(self, value: Any, connection: Any, prepared: bool = False) -> Any:
        value = super().get_db_prep_value(value, connection, prepared)
        return value if value is None else uuid_parameter(value, connection)


def uuid_parameter(value: Any, connection: Any) -> Any:
    """A UUID as such a column takes it from a cursor."""
    native = connection.features.has_native_uuid_field and connection.vendor != "mysql"
    return value if native or isinstance(value, str) else value.hex
