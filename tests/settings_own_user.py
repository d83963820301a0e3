"""The settings of the tests with a user model of one's own; see ``admin/test_own_user.py``."""

from __future__ import annotations

from tests.settings import *  # noqa: F403 -- so one settings module extends another
from tests.settings import DATABASES

AUTH_USER_MODEL = "own_user.Employee"
INSTALLED_APPS = ["tests.own_user", *INSTALLED_APPS]  # noqa: F405 -- from the settings above

for _entry in DATABASES.values():  # beside those of the process that started this one
    _entry["TEST"]["NAME"] = f"{_entry['TEST']['NAME']}_own_user"
