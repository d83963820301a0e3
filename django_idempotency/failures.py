"""What a database error means for the request: the server's fault or the view's, lost or not."""

from __future__ import annotations

from django.db import InterfaceError, OperationalError

__all__ = ["is_lost", "is_transient", "sqlstate"]

# SQLSTATE classes after which the same request may succeed: connection, rollback (40001,
# 40P01), resources, lock not available, operator intervention, system error.
_TRANSIENT = ("08", "40", "53", "55P03", "57", "58")
_TRANSIENT_MYSQL = {1040, 1205, 1213, 2002, 2003, 2006, 2013, 3572, 4031}
_TRANSIENT_SQLITE = ("locked", "busy", "disk", "full", "unable to open")
_LOST = ("", "08", "57")  # the connection is gone


def sqlstate(error: BaseException) -> str:
    """The five-character SQLSTATE behind a Django database error, "" if there is none."""
    return getattr(error.__cause__, "sqlstate", None) or ""


def is_transient(error: BaseException) -> bool:
    """Whether the same request may succeed later: the error is the server's, not the view's."""
    if isinstance(error, InterfaceError):
        return True
    if not isinstance(error, OperationalError):
        return False
    if hasattr(error.__cause__, "sqlstate"):
        state = sqlstate(error)
        return not state or state.startswith(_TRANSIENT)
    code = error.args[0] if error.args else ""
    if isinstance(code, int):
        return code in _TRANSIENT_MYSQL
    return any(word in str(code) for word in _TRANSIENT_SQLITE)


def is_lost(error: BaseException) -> bool:
    """Whether the connection broke: if it did during COMMIT, nobody here knows the outcome."""
    return sqlstate(error)[:2] in _LOST
