"""What a database error means for the request: the server's fault or the view's, lost or not."""

from __future__ import annotations

from django.db import InterfaceError, InternalError, OperationalError
from django.db.transaction import TransactionManagementError

__all__ = [
    "BrokenTransaction",
    "is_lost",
    "is_transient",
    "may_begin_again",
    "mysql_code",
    "sqlstate",
]

# SQLSTATE classes after which the same request may succeed: connection, rollback (40001,
# 40P01), resources, lock not available, operator intervention, system error.
_TRANSIENT = ("08", "40", "53", "55P03", "57", "58")
_LOST = ("", "08", "57")  # the connection is gone
# idle_in_transaction_session_timeout, transaction_timeout: the server has rolled back and hung up.
_ENDED = {"25P03", "25P04"}
# MySQL's and MariaDB's own numbers, because not every driver tells the SQLSTATE and most of
# these have the general one: connections, shutdown, disk, locks, time-outs, read-only servers.
_TRANSIENT_MYSQL = {
    *(1020, 1021, 1040, 1041, 1053, 1077, 1114, 1203, 1205, 1206, 1213, 1226, 1290, 1317),
    *(1792, 1836, 1927, 1969, 2002, 2003, 2006, 2013, 2055, 3024, 3572, 4031),
}
_LOST_MYSQL = {0, 1053, 1077, 1927, 2002, 2003, 2006, 2013, 2055, 4031}  # 0: PyMySQL's own
_BEGIN_AGAIN_MYSQL = {1020, 1205, 1213}  # changed since it was read, lock time-out, deadlock
_TRANSIENT_SQLITE = {5, 6, 10, 13, 14}  # busy, locked, input or output, full, cannot open


class BrokenTransaction(TransactionManagementError):
    """The view swallowed a database error: its writes are lost, whatever it returned."""

    def __init__(self) -> None:
        super().__init__(
            "The view caught a database error and went on, so its transaction is broken and its "
            "writes are lost. Wrap the statement that may fail in its own transaction.atomic() "
            "inside the try block, or let the error out."
        )


def sqlstate(error: BaseException) -> str:
    """The five-character SQLSTATE behind a Django database error, "" if there is none."""
    return getattr(error.__cause__, "sqlstate", None) or ""


def mysql_code(error: BaseException) -> int | None:
    """MySQL's or MariaDB's number of a Django database error; None = it has none."""
    code = error.args[0] if error.args else None
    return code if isinstance(code, int) else None


def is_transient(error: BaseException) -> bool:
    """Whether the same request may succeed later: the error is the server's, not the view's."""
    if isinstance(error, InterfaceError):
        return True
    if isinstance(error, InternalError):
        return sqlstate(error) in _ENDED
    if not isinstance(error, OperationalError):
        return False
    code = mysql_code(error)
    if code is not None:
        return code in _TRANSIENT_MYSQL
    if hasattr(error.__cause__, "sqlstate"):
        state = sqlstate(error)
        return not state or state.startswith(_TRANSIENT)
    # Its primary code, of which the others are kinds.
    return getattr(error.__cause__, "sqlite_errorcode", 0) & 0xFF in _TRANSIENT_SQLITE


def is_lost(error: BaseException) -> bool:
    """Whether the connection broke: if it did during COMMIT, nobody here knows the outcome."""
    code = mysql_code(error)
    if code is not None:
        return code in _LOST_MYSQL
    return sqlstate(error)[:2] in _LOST


def may_begin_again(error: BaseException) -> bool:
    """Whether the database rolled back because of another transaction: the next try may work."""
    code = mysql_code(error)
    return code in _BEGIN_AGAIN_MYSQL if code is not None else sqlstate(error).startswith("40")
