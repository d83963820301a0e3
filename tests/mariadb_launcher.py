"""A private MariaDB for one test run, gone without a trace when the run ends.

>>> with MariaDB() as server:
...     os.environ["DATABASE_URL"] = server.url

It needs the distribution's package (``apt-get install mariadb-server``), of which it uses the
programs only: the data, the socket and the user are its own, and the system's service may run
or not. It lives and dies as the tests' PostgreSQL does, see ``pg_launcher``.
"""

from __future__ import annotations

import atexit
import os
import shutil
import time
from pathlib import Path
from urllib.parse import quote

from tests.pg_launcher import await_directory, start_guard

PLACES = os.pathsep.join((os.environ.get("PATH", os.defpath), "/usr/sbin", "/usr/local/sbin"))
SERVERS = ("mariadbd", "mysqld")
INSTALLERS = ("mariadb-install-db", "mysql_install_db")


class MariaDBUnavailable(RuntimeError):
    """MariaDB is missing or did not start; the message says what to do."""


def find_programs() -> tuple[str, str]:
    """Return the server, and the program that makes a data directory.

    Raises:
        MariaDBUnavailable: one of them is missing.
    """
    found = [_first(names) for names in (SERVERS, INSTALLERS)]
    if None in found:
        msg = (
            "No MariaDB found for the tests: neither PATH nor /usr/sbin has mariadbd and "
            "mariadb-install-db. Install it (apt-get install mariadb-server), or set DATABASE_URL "
            "to a server that you have."
        )
        raise MariaDBUnavailable(msg)
    server, installer = found
    return str(server), str(installer)


def _first(names: tuple[str, ...]) -> str | None:
    paths = (shutil.which(name, path=PLACES) for name in names)
    return next((path for path in paths if path), None)


class MariaDB:
    """A running server with the user ``root``; ends with ``close()`` or with the process."""

    def __init__(self) -> None:
        started = time.perf_counter()
        server, installer = find_programs()
        request = {"parent": os.getpid(), "server": server, "installer": installer}
        self._owner = os.getpid()
        self._guard = start_guard("tests.mariadb_guard", request)
        atexit.register(self.close)
        directory, complaint = await_directory(self._guard)
        if directory is None:
            msg = f"The MariaDB for the tests did not start.\n{complaint}"
            raise MariaDBUnavailable(msg)
        self.directory = directory
        self.log = directory / "log"
        socket = quote(str(Path(directory, "server", "socket")), safe="/")
        self.url = f"mysql://root@/mysql?host={socket}"
        self.start_seconds = time.perf_counter() - started

    def close(self) -> None:
        """Stop the server and delete its directory; may be called again."""
        if os.getpid() != self._owner:
            return  # a fork of the tests must not end the server of the tests
        atexit.unregister(self.close)
        self._guard.terminate()
        self._guard.wait()

    def __enter__(self) -> MariaDB:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()
