"""A user model cannot change under a running process: hence one of its own."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

PAGES = Path(__file__).with_name("own_user_pages.py")


@pytest.mark.slow
def test_the_desk_works_with_a_user_model_of_ones_own() -> None:
    """See ``own_user_pages.py``."""
    options = ("-q", "-p", "no:randomly", "-p", "no:xdist", "--ds=tests.settings_own_user")
    command = [sys.executable, "-m", "pytest", *options, str(PAGES)]
    done = subprocess.run(
        command, cwd=PAGES.parents[2], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert " passed" in done.stdout
