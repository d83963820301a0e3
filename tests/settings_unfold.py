"""The settings of the tests with the django-unfold theme; see ``browser/test_unfold.py``."""

from __future__ import annotations

from tests.settings import *  # noqa: F403 -- so one settings module extends another

INSTALLED_APPS = ["unfold", *INSTALLED_APPS]  # noqa: F405 -- before Django's admin, as it asks
ROOT_URLCONF = "tests.urls_unfold"
