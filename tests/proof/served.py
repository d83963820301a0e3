"""What gunicorn runs here: the usual application, with a mistake planted if one is named."""

from __future__ import annotations

import os

from tests.served import application

__all__ = ["application"]

if _name := os.environ.get("PROOF_PLANT"):
    from django.db import connections

    from tests.proof.plants import PLANTS  # here: its models need the settings

    PLANTS[_name]()
    connections.close_all()  # the workers are forks
