"""The tests' settings for a server that also has the views of the proof."""

from __future__ import annotations

from tests.settings import *  # noqa: F403

ROOT_URLCONF = "tests.proof.urls"
ALLOWED_HOSTS = ["127.0.0.1"]
