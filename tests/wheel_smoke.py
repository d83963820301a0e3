"""Does the wheel work where nothing else of this project is? Run by ``.ci/run``, not pytest.

A blank project installs the wheel, migrates, and sends one request twice. Run it from a
directory of its own, in an environment that holds the wheel and what the wheel requires, with
the extra ``client`` or without.
"""

from __future__ import annotations

import sys
import tempfile
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

import django
from django.conf import settings
from django.core.management import call_command
from django.test import Client
from django.urls import URLResolver, include, path

KEY = "a-key-of-the-smoke-test-1"

urlpatterns: list[URLResolver] = []  # add_view() fills it: views need configured settings


def configure(directory: Path) -> None:
    settings.configure(
        SECRET_KEY="a-smoke-test-has-no-secrets",
        ALLOWED_HOSTS=["testserver"],
        ROOT_URLCONF=__name__,
        INSTALLED_APPS=[
            "django.contrib.auth",
            "django.contrib.contenttypes",
            "rest_framework",
            "django_idempotency",
        ],
        DATABASES={
            "default": {
                "ENGINE": "django.db.backends.sqlite3",
                "NAME": directory / "smoke.sqlite3",
                "OPTIONS": {
                    "init_command": "PRAGMA journal_mode=WAL",
                    "transaction_mode": "IMMEDIATE",
                },
            }
        },
    )
    django.setup()


def add_view(effects: list[object]) -> None:
    """Route ``/payments/`` to a view set that counts its executions in ``effects``."""
    from rest_framework.request import Request
    from rest_framework.response import Response
    from rest_framework.routers import SimpleRouter
    from rest_framework.viewsets import ViewSet

    from django_idempotency import IdempotentMixin

    class PaymentViewSet(IdempotentMixin, ViewSet):
        def create(self, request: Request) -> Response:
            effects.append(request.data)
            return Response({"number": len(effects)}, status=201)

    router = SimpleRouter()
    router.register("payments", PaymentViewSet, basename="payment")
    urlpatterns.append(path("", include(router.urls)))


def pay() -> tuple[int, bytes, str | None]:
    response = Client().post(
        "/payments/", {"amount": 5}, "application/json", headers={"Idempotency-Key": KEY}
    )
    return response.status_code, response.content, response.headers.get("Idempotent-Replayed")


def check_client() -> None:
    """It knows no settings. What is not installed is named, with what installs it."""
    said = ""
    try:
        from django_idempotency.client import RetryingClient

        RetryingClient(None)  # type: ignore[call-overload]
    except (ImportError, TypeError) as error:
        said = str(error)
    if find_spec("stamina") is None:
        assert "pip install 'django-idempotency[client]'" in said, said
    elif not any(map(find_spec, ("httpx", "requests"))):
        assert "pip install httpx or requests" in said, said
    assert "RetryingClient needs" in said or find_spec("stamina") is None, said
    assert not settings.configured


def main() -> None:
    import django_idempotency

    home = Path(django_idempotency.__file__).parent
    assert "site-packages" in home.parts, f"this is not the installed wheel: {home}"
    assert (home / "py.typed").is_file(), "the wheel lacks py.typed"
    pages = home / "templates/admin/django_idempotency/idempotencykey"
    assert {"change_list.html", "detail.html"} <= {page.name for page in pages.iterdir()}
    check_client()
    assert (home / "static/django_idempotency/desk.css").is_file(), "the wheel lacks the style"

    effects: list[object] = []
    with tempfile.TemporaryDirectory() as directory:
        configure(Path(directory))
        add_view(effects)
        call_command("check", fail_level="WARNING")
        call_command("migrate", verbosity=0)
        first, retry = pay(), pay()
        django.db.connection.close()

    assert first == (201, b'{"number":1}', None), first
    assert retry == (201, b'{"number":1}', "true"), retry
    assert effects == [{"amount": 5}], effects
    names = ("django-idempotency", "Django", "djangorestframework")
    versions = ", ".join(f"{name} {version(name)}" for name in names)
    sys.stdout.write(f"A request and its retry had one effect, with {versions}.\n")


if __name__ == "__main__":
    main()
