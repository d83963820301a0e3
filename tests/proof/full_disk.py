"""A disk that is full for a while: the kernel says ENOSPC, PostgreSQL says 53100.

It needs no privilege and no file system of its own. Each step of a request writes a row of
ballast, too, and the file of one ballast table is for some time a link to ``/dev/full``, where
each write fails as on a full disk. So the step that meets it can be chosen.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.proof.cluster import Cluster

__all__ = ["STEPS", "full", "load", "refusals"]

# Before which change of which table: the claim, the view's own write, the stored response.
STEPS = {
    "claim": "INSERT ON django_idempotency_idempotencykey",
    "view": "INSERT ON orders_order",
    "store": "UPDATE OF completed_at ON django_idempotency_idempotencykey",
}


def load(own: Cluster) -> None:
    """Let each step write its ballast."""
    with own.connect() as direct:
        for step, change in STEPS.items():
            direct.execute(f"CREATE TABLE ballast_{step} (stone text)")
            direct.execute(
                f"CREATE FUNCTION ballast_{step}() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "
                f"INSERT INTO ballast_{step} VALUES (repeat('x', 100)); RETURN NEW; END $$"
            )
            direct.execute(
                f"CREATE TRIGGER ballast_{step} BEFORE {change} "
                f"FOR EACH ROW EXECUTE FUNCTION ballast_{step}()"
            )


@contextmanager
def full(own: Cluster, step: str) -> Iterator[None]:
    """No room for ``step`` until the block ends."""
    with own.connect() as direct:
        with direct.transaction():
            # A new, empty file, which nobody has opened or written to until we commit.
            direct.execute(f"TRUNCATE ballast_{step}")
            row = direct.execute(f"SELECT pg_relation_filepath('ballast_{step}')").fetchone()
            assert row is not None
            file = own.program.data / row[0]
            aside = Path(f"{file}.aside")
            file.rename(aside)
            file.symlink_to("/dev/full")
        try:
            yield
        finally:
            aside.replace(file)
            # Another file again: sessions have the full one open.
            direct.execute(f"TRUNCATE ballast_{step}")


def refusals(own: Cluster) -> int:
    """How often the server has complained since it was started."""
    return own.program.log.read_text(errors="replace").count("No space left on device")
