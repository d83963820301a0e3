"""Temporary directories that even ``kill -9`` does not leave behind for long."""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def private_directory(prefix: str) -> Iterator[Path]:
    """Make a temporary directory that is deleted on exit, or by the next one to come.

    Its owner holds a lock on it, and the kernel lets go of the lock when the owner dies,
    however it dies. Whoever comes next with the same prefix deletes what nobody holds.
    """
    _sweep(prefix)
    # Under its final name only once it is locked, so that no sweep can take it for an orphan.
    unlocked = Path(tempfile.mkdtemp(prefix="new-" + prefix))
    lock = os.open(unlocked, os.O_RDONLY)
    owner = os.getpid()
    fcntl.flock(lock, fcntl.LOCK_EX)
    directory = unlocked.rename(unlocked.with_name(unlocked.name.removeprefix("new-")))
    try:
        yield directory
    finally:
        if os.getpid() == owner:  # a forked child must not delete what its parent uses
            shutil.rmtree(directory, ignore_errors=True)
        os.close(lock)


def _sweep(prefix: str) -> None:
    """Delete the directories whose owners died before they could."""
    for directory in Path(tempfile.gettempdir()).glob(prefix + "*"):
        try:
            lock = os.open(directory, os.O_RDONLY | os.O_NOFOLLOW)
        except OSError:
            continue
        try:
            if os.fstat(lock).st_uid == os.geteuid():
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(directory, ignore_errors=True)
        except BlockingIOError:
            pass  # its owner lives
        finally:
            os.close(lock)
