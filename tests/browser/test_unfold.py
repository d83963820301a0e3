"""A theme is an app, and apps cannot change under a running process: hence one of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

PAGES = Path(__file__).with_name("unfold_pages.py")


@pytest.fixture(autouse=True)
def complaints() -> None:
    """Instead of the one that opens a browser here, too."""


@pytest.mark.slow
def test_the_desk_works_under_django_unfold() -> None:
    """List, page of a key, action and overview; see ``unfold_pages.py``."""
    # What the theme calls that is deprecated is the theme's affair: no warning is an error.
    options = ("-q", "-W", "default", "--ds=tests.settings_unfold")
    command = [sys.executable, "-m", "pytest", *options, str(PAGES)]
    environment = {**os.environ, "TEST_DB": "sqlite"}  # a database apart from this one's
    done = subprocess.run(
        command, env=environment, cwd=PAGES.parents[2], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
