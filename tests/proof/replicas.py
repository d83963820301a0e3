"""A primary, and a replica that every commit waits for; when the one dies, the other takes over.

Whoever connects names both and takes the one that accepts writes, as libpq offers it.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import UUID

import psycopg

from tests.proof.cluster import Blank, Cluster, Program, url_of
from tests.scratch import private_directory

__all__ = ["FailOver", "Pair", "replicated"]

PATIENCE = 60  # seconds
SILENCE = 2  # seconds
Keys = dict[UUID, tuple[UUID, bytes | None]]


@dataclass(frozen=True, slots=True)
class FailOver:
    """What the dead primary had and its successor has not."""

    claims: int  # keys without a response
    answers: int  # responses that anyone could have read: there must be none
    waiting: int  # commits that nobody was told of, because the replica was silent


class Pair:
    def __init__(self, directories: tuple[Path, Path], blank: Blank) -> None:
        self._places = directories
        self.url = url_of(*directories)
        self.primary = Cluster(directories[0], blank.copy)
        self.standby: Cluster | None = None

    def replicate(self) -> None:
        """Make a replica in the place that is free; commits wait for it from now on."""
        place = next(place for place in self._places if place != self.primary.program.directory)
        self.standby = Cluster(place, self._back_up)
        self.wait_for_replica(True)

    def wait_for_replica(self, wanted: bool) -> None:
        """Whether commits do, from now on."""
        with self.primary.connect() as direct:
            direct.execute(f"ALTER SYSTEM SET synchronous_standby_names = '{'*' * wanted}'")
            direct.execute("SELECT pg_reload_conf()")
        self._await(lambda: self._commits_wait() == wanted, "commits do as before")

    def _commits_wait(self) -> bool:
        """Ask a commit: sessions heed the setting some time after it has changed."""
        sender = self._sender()
        with closing(self.primary.connect()) as direct:
            os.kill(sender, signal.SIGSTOP)
            try:
                direct.pgconn.send_query(b"SELECT pg_logical_emit_message(true, 'proof', '')")
                return self._waits(direct)
            finally:
                os.kill(sender, signal.SIGCONT)

    def _waits(self, session: psycopg.Connection[Any]) -> bool:
        """Whether it comes to wait for the replica, or is answered."""
        deadline = time.monotonic() + PATIENCE
        while session.pgconn.is_busy():
            assert time.monotonic() < deadline, "a commit neither waits nor ends"
            if self._one(_WAITS, session.info.backend_pid) == (1,):
                return True
            session.pgconn.consume_input()
        return False

    def _back_up(self, program: Program) -> None:
        home = self.primary.program.home
        source = (f"--host={home}", "--username=postgres", f"--pgdata={program.data}")
        program.run("pg_basebackup", *source, "--write-recovery-conf", "--checkpoint=fast", "-N")

    def fail_over(self) -> FailOver:
        """The primary is lost while its replica lags behind, and the replica is promoted.

        Before, the replica has all that could be read so far. Who promotes one that has not
        loses what was answered, whoever wrote the application: so do real ones wait for it.
        """
        assert self.standby is not None
        had, sender = self._outrun()
        (waiting,) = self._one(_WAITING)
        assert self.primary.program.server is not None
        self.primary.program.server.send_signal(signal.SIGQUIT)
        os.kill(sender, signal.SIGKILL)
        self.primary.stop()
        self.primary, self.standby = self.standby, None
        self._one("SELECT pg_promote(true)")
        has = self._keys()
        # Not by name alone: clients may have come here with a lost key already.
        claimed = {(key, seed) for key, (seed, _) in has.items()}
        return FailOver(
            claims=sum(
                answer is None and (key, seed) not in claimed for key, (seed, answer) in had.items()
            ),
            answers=sum(row[1] is not None and has.get(key) != row for key, row in had.items()),
            waiting=waiting,
        )

    def stop(self) -> None:
        self.primary.stop()
        if self.standby is not None:
            self.standby.stop()

    # -- what is where

    def _is_followed(self) -> bool:
        """Whether the replica has flushed all that is written here by now."""
        (here,) = self._one("SELECT pg_current_wal_insert_lsn()")
        deadline = time.monotonic() + 1
        while time.monotonic() < deadline:
            if self._one(_FOLLOWED, here) == (1,):
                return True
            time.sleep(0.01)
        return False

    def _outrun(self) -> tuple[Keys, int]:
        """Silence the replica until a claim and a commit are there that it cannot have heard of.

        If all workers come to wait for commits of earlier claims there will be no other: then let
        them go on, and try once more. Returns all keys, and the process that was silenced.
        """
        deadline = time.monotonic() + PATIENCE
        while True:
            self._await(self._is_followed, "the replica does not follow")
            sender = self._sender()
            os.kill(sender, signal.SIGSTOP)
            known, until = self._keys(), time.monotonic() + SILENCE
            while time.monotonic() < until:
                keys = self._keys()
                if self._is_ahead([keys[key][1] for key in keys.keys() - known.keys()]):
                    return keys, sender
            os.kill(sender, signal.SIGCONT)
            assert time.monotonic() < deadline, "nobody has written anything"

    def _is_ahead(self, new: Collection[bytes | None]) -> bool:
        """Whether there are an unfinished key and a commit among what is ``new``."""
        answered = [answer for answer in new if answer is not None]
        return len(answered) < len(new) and bool(answered or self._one(_WAITING) != (0,))

    def _keys(self) -> Keys:
        """{key: (seed of its claim, stored response)} as anybody could read it now."""
        with self.primary.connect() as direct:
            found = direct.execute(
                "SELECT id, seed, response_body FROM django_idempotency_idempotencykey"
            )
            return {key: (seed, answer) for key, seed, answer in found.fetchall()}

    def _sender(self) -> int:
        """The process that feeds the replica."""
        self._await(lambda: self._one(_FOLLOWED, "0/0") == (1,), "there is no replica")
        (pid,) = self._one("SELECT pid FROM pg_stat_replication")
        return int(pid)

    def _one(self, statement: str, *parameters: Any) -> tuple[Any, ...]:
        with self.primary.connect() as direct:
            row = direct.execute(statement, parameters).fetchone()
        assert row is not None
        return tuple(row)

    @staticmethod
    def _await(condition: Callable[[], bool], complaint: str) -> None:
        deadline = time.monotonic() + PATIENCE
        while not condition():
            assert time.monotonic() < deadline, complaint
            time.sleep(0.01)


_WAITING = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'SyncRep'"
_WAITS = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'SyncRep' AND pid = %s"
_FOLLOWED = "SELECT count(*) FROM pg_stat_replication WHERE state = 'streaming' AND flush_lsn >= %s"


@contextmanager
def replicated(blank: Blank) -> Iterator[Pair]:
    with ExitStack() as stack:
        one, two = (stack.enter_context(private_directory("idem-proof-")) for _ in range(2))
        pair = Pair((one, two), blank)
        try:
            pair.replicate()
            yield pair
        finally:
            pair.stop()
