from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import psycopg
import pytest

from tests import pg_launcher
from tests.pg_launcher import Cluster, PostgresUnavailable
from tests.scratch import private_directory

START_AND_WAIT = """
import time
from tests.pg_launcher import Cluster
cluster = Cluster()
print(cluster.directory, flush=True)
time.sleep(600)
"""


def vanishes(path: Path) -> bool:
    deadline = time.monotonic() + 20
    while path.exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    return not path.exists()


@pytest.mark.postgres
def test_a_cluster_takes_settings_and_leaves_nothing_behind():
    options = {"fsync": "on", "cluster_name": "it's mine"}

    with Cluster(options) as cluster, psycopg.connect(cluster.url) as connection:
        for name, value in options.items():
            row = connection.execute("SELECT current_setting(%s)", [name]).fetchone()
            assert row == (value,)

    assert not cluster.directory.exists()


@pytest.mark.postgres
def test_tests_that_are_killed_leave_nothing_behind():
    command = [sys.executable, "-c", START_AND_WAIT]
    root = Path(__file__).parent.parent
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=root) as tests:
        assert tests.stdout is not None
        directory = Path(tests.stdout.readline().strip())
        assert directory.is_dir()
        tests.kill()

    assert vanishes(directory)


@pytest.mark.postgres
def test_a_server_that_does_not_start_says_why():
    with pytest.raises(PostgresUnavailable, match="no_such_setting"):
        Cluster({"no_such_setting": "on"})


def test_a_machine_without_postgresql_gets_advice(monkeypatch):
    monkeypatch.setattr(pg_launcher, "installations", lambda: iter(()))

    with pytest.raises(PostgresUnavailable, match="DATABASE_URL"):
        Cluster()


def test_a_directory_is_swept_only_when_its_owner_is_gone(tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    orphan = tmp_path / "idem-test-orphan"
    orphan.mkdir()

    with private_directory("idem-test-") as mine, private_directory("idem-test-") as other:
        assert mine.is_dir()
        assert other.is_dir()
        assert not orphan.exists()

    assert list(tmp_path.iterdir()) == []
