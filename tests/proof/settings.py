"""The tests' settings for a server that also has the views of the proof."""

from __future__ import annotations

import os

from tests.settings import *  # noqa: F403

ROOT_URLCONF = "tests.proof.urls"
ALLOWED_HOSTS = ["127.0.0.1"]
DATABASES["default"]["CONN_MAX_AGE"] = int(os.environ.get("PROOF_CONN_MAX_AGE", "0"))  # noqa: F405
