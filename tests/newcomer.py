"""Types what a page of the documentation says, into a blank project in a directory of its own.

Python blocks go into the file that the paragraph before them names; console blocks are run. What
a test must not type as it stands is named here: a virtual environment and what is installed in
it (these tests' own), the port, the name of the database, a password that someone would be asked
for.
"""

from __future__ import annotations

import os
import re
import shlex
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import requests

PATIENCE = 120  # seconds for a command, or for the server to answer
ADMIN = {"USERNAME": "admin", "EMAIL": "admin@example.com", "PASSWORD": "a-password-for-tests"}
_GIVEN = ("mkdir ", "cd ", "python -m venv ", ". venv/", "pip install ")
_BLOCK = re.compile(r"^```(\w+)\n(.*?)^```", re.DOTALL | re.MULTILINE)
_FILE = re.compile(r"`(\w+/\w+\.py)`")


@dataclass(frozen=True, slots=True)
class Block:
    language: str
    text: str
    before: str  # the paragraph that introduces it

    @property
    def path(self) -> str | None:
        """The file that it is written or appended to."""
        named = _FILE.findall(self.before)
        is_file = self.language == "python" and self.before.endswith(":")
        return named[-1] if is_file and named else None

    @property
    def commands(self) -> list[str]:
        return [line[2:] for line in self.text.splitlines() if line.startswith("$ ")]


def blocks_of(page: Path) -> list[Block]:
    text = page.read_text()
    return [
        Block(match[1], match[2], text[: match.start()].strip().rpartition("\n\n")[2])
        for match in _BLOCK.finditer(text)
    ]


@dataclass
class Newcomer:
    """Someone who does what a page says, in the project ``directory``."""

    directory: Path
    environment: dict[str, str] = field(default_factory=dict)
    database: str = "shop"  # what takes the place of the name that the page has

    def write(self, block: Block) -> None:
        assert block.path is not None
        text = block.text.replace('"NAME": "shop"', f'"NAME": "{self.database}"')
        if "ppend" in block.before:
            self.append(block.path, text)
        else:
            (self.directory / block.path).write_text(text)

    def append(self, path: str, text: str) -> None:
        with (self.directory / path).open("a") as file:
            file.write("\n" + text)

    def type(self, command: str) -> None:
        """Run a line of a console block; what it printed is in the error if it fails."""
        if command.startswith(_GIVEN):
            return
        words = shlex.split(command)
        if words[0] == "django-admin":
            words[:1] = ["python", "-m", "django"]
        if "createsuperuser" in words:
            words.append("--noinput")
        self.run(*words)

    def run(self, *words: str) -> str:
        assert words[0] == "python", words
        done = subprocess.run(
            [sys.executable, *words[1:]],
            cwd=self.directory,
            env=self._environment(),
            timeout=PATIENCE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        assert done.returncode == 0, f"{' '.join(words)}\n{done.stdout}"
        return done.stdout

    @contextmanager
    def server(self) -> Iterator[str]:
        """``runserver`` in the background; yields its address. Its log is ``server.log``."""
        with closing(socket.create_server(("127.0.0.1", 0))) as free:
            port = free.getsockname()[1]
        command = [sys.executable, "manage.py", "runserver", f"127.0.0.1:{port}", "--noreload"]
        with (self.directory / "server.log").open("w") as log:
            server = subprocess.Popen(
                command, cwd=self.directory, env=self._environment(), stdout=log, stderr=log
            )
        url = f"http://127.0.0.1:{port}"
        try:
            self._wait(url, server)
            yield url
        finally:
            server.terminate()
            server.wait(10)

    def _wait(self, url: str, server: subprocess.Popen[bytes]) -> None:
        until = time.monotonic() + PATIENCE
        while time.monotonic() < until and server.poll() is None:
            try:
                requests.get(f"{url}/admin/login/", timeout=5).raise_for_status()
            except requests.ConnectionError:
                time.sleep(0.05)
            else:
                return
        raise AssertionError((self.directory / "server.log").read_text())

    def _environment(self) -> dict[str, str]:
        inherited = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("DJANGO_", "PYTHONWARNINGS", "DATABASE_URL"))
        }
        asked = {f"DJANGO_SUPERUSER_{name}": value for name, value in ADMIN.items()}
        return {**inherited, **asked, "PYTHONUNBUFFERED": "1", **self.environment}


def curl(command: str, variables: dict[str, str], url: str) -> requests.Response:
    """What a line ``curl -i localhost:8000/… -H … -d …`` would get."""
    for name, value in variables.items():
        command = command.replace(f"${name}", value)
    program, shown, address, *options = shlex.split(command)
    assert (program, shown) == ("curl", "-i"), command
    headers, data = {}, []
    for option, value in zip(options[::2], options[1::2], strict=True):
        if option == "-H":
            name, _, content = value.partition(": ")
            headers[name] = content
        else:
            assert option == "-d", command
            data.append(value)
    headers["Content-Type"] = "application/x-www-form-urlencoded"
    where = address.replace("localhost:8000", url)
    return requests.post(where, data="&".join(data), headers=headers, timeout=PATIENCE)
