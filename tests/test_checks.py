"""``manage.py check`` finds what would otherwise fail at the first request; ids, not texts."""

from __future__ import annotations

from datetime import timedelta
from types import SimpleNamespace
from typing import Any

import pytest
from django.core.exceptions import ImproperlyConfigured
from django.http import HttpResponse
from django.urls import path
from django.utils.decorators import method_decorator
from django.views import View
from django.views.decorators.csrf import csrf_exempt
from rest_framework.decorators import api_view
from rest_framework.response import Response
from rest_framework.views import APIView

from django_idempotency import IdempotentMixin, checks, idempotent
from django_idempotency.checks import databases
from django_idempotency.conf import get_settings


@api_view(["POST"])
@idempotent
def upside_down(request: Any) -> Response:
    return Response()


class Unmixed(APIView):
    @idempotent(required=True)
    def post(self, request: Any) -> Response:
        return Response()


@method_decorator(idempotent, name="dispatch")
class Dispatched(APIView):
    def post(self, request: Any) -> Response:
        return Response()


@method_decorator(idempotent, name="post")
class Wrapped(IdempotentMixin, APIView):
    def post(self, request: Any) -> Response:
        return Response()


class Django(View):
    @idempotent
    def post(self, request: Any) -> HttpResponse:
        return HttpResponse()


urlpatterns = [
    path("a/", upside_down),
    path("b/", Unmixed.as_view()),
    path("c/", Dispatched.as_view()),
    path("d/", Wrapped.as_view()),
    path("e/", csrf_exempt(Django.as_view())),
]


def ids(messages: list[Any]) -> list[str]:
    return sorted(message.id.removeprefix("django_idempotency.") for message in messages)


@pytest.mark.parametrize(
    ("setting", "number"),
    [
        ({"RETENTOIN": timedelta(days=1)}, "E001"),
        ({"RETENTION": 86400}, "E002"),
        ({"RETENTION": timedelta(0)}, "E002"),
        ({"METHODS": ("GET",)}, "E002"),
        ({"METHODS": "POST"}, "E002"),
        ({"REQUIRED": 1}, "E002"),
        ({"KEY_MAX_LENGTH": 256}, "E002"),
        ({"KEY_MIN_LENGTH": 40, "KEY_MAX_LENGTH": 36}, "E002"),
        ({"KEY_MIN_LENGTH": 300, "KEY_MAX_LENGTH": 36}, "E002"),
        ({"KEY_PATTERN": "uuid", "KEY_MAX_LENGTH": 32}, "E002"),
        ({"HEADER": "Idempotency_Key"}, "E002"),
        ({"HEADER": "HTTP_IDEMPOTENCY_KEY"}, "E002"),
        ({"HEADER": "Idempotency-Key:"}, "E002"),
        ({"HEADER": "Content-Type"}, "E002"),
        ({"KEY_PATTERN": "("}, "E002"),
        ({"SCOPE": "no.such.callable"}, "E002"),
        ({"ANONYMOUS": "maybe"}, "E002"),
        ({"NEVER_STORE": {4290}}, "E002"),
        ({"MISMATCH_STATUS": 418}, "E002"),
        ({"FINGERPRINT_KEYS": []}, "E002"),
        ({"MAX_RESPONSE_BYTES": -1}, "E002"),
        ("not a dict", "E002"),
    ],
)
def test_a_bad_setting_is_an_error_and_never_used(settings: Any, setting: Any, number: str) -> None:
    """E001, E002; a project that skips the checks meets ImproperlyConfigured."""
    settings.IDEMPOTENCY = setting

    assert ids(checks.check_settings()) == [number]
    with pytest.raises(ImproperlyConfigured):
        get_settings()


def test_settings_that_fit_each_other_are_sound(settings: Any) -> None:
    """Equal lengths, and a UUID that they allow."""
    settings.IDEMPOTENCY = {
        "HEADER": "X-Request-Key",
        "KEY_MIN_LENGTH": 36,
        "KEY_MAX_LENGTH": 36,
        "KEY_PATTERN": "uuid",
    }

    assert checks.check_settings() == []


def test_an_unknown_setting_gets_a_suggestion(settings: Any) -> None:
    """The nearest name, whatever its case."""
    settings.IDEMPOTENCY = {"retention": timedelta(days=1)}

    assert "'RETENTION'" in (checks.check_settings()[0].hint or "")


@pytest.mark.parametrize(
    ("setting", "said", "hint"),
    [
        ({"SCOPE": "no.such.function"}, "'user', 'user+route', a func", "No module named 'no'"),
        ({"SCOPE": "tests.sender.nobody"}, "the dotted path of one", 'define a "nobody"'),
        ({"SCOPE": "usr"}, "the dotted path of one", "'package.module.function'"),
        ({"SCOPE": 5}, "'user', 'user+route'", "The default is 'user'."),
        ({"SCOPE": "tests.sender.new_key"}, "must be callable with request", "default"),
        ({"FINGERPRINT": "tests.sender.new_key"}, "must be callable with request", "default"),
        ({"RETENTION": 3600}, "must be a datetime.timedelta", "Write timedelta(seconds=3600)."),
        ({"REDACT": "pan"}, "list, tuple or set", "Write ['pan']."),
    ],
)
def test_the_hint_says_what_to_write(settings: Any, setting: Any, said: str, hint: str) -> None:
    """Why a path cannot be imported; the value in the form that it should have."""
    settings.IDEMPOTENCY = setting

    (message,) = checks.check_settings()

    assert said in message.msg
    assert hint in (message.hint or "")


def test_a_secret_in_the_wrong_place_is_not_printed(settings: Any) -> None:
    """What the check says may end in the log of a build."""
    settings.IDEMPOTENCY = {"FINGERPRINT_KEYS": "hunter2"}

    (message,) = checks.check_settings()

    assert "hunter2" not in f"{message.msg} {message.hint}"


def test_lists_and_sets_serve_as_settings(settings: Any, send: Any) -> None:
    """A project writes what it likes; nothing at run time needs a tuple."""
    settings.IDEMPOTENCY = {"METHODS": ["POST"], "NEVER_STORE": {429}, "DROP_HEADERS": ["Date"]}

    assert checks.check_settings() == []
    assert send("/apiview/", key="0123456789abcdef").status_code == 201


def test_the_defaults_are_sound(settings: Any) -> None:
    """No setting at all is no problem."""
    del settings.IDEMPOTENCY

    assert checks.check_settings() == []
    assert timedelta(hours=24) == get_settings().RETENTION


@pytest.mark.urls(__name__)
def test_protection_in_a_place_where_it_cannot_work_is_an_error() -> None:
    """E006 below @api_view, E007 without the mixin, E008 by method_decorator on a DRF view."""
    found = checks.check_views()

    assert ids(found) == ["E006", "E007", "E007", "E008", "E008"]
    (django_view,) = (message.msg for message in found if "Django.post" in message.msg)
    assert '@method_decorator(idempotent, name="dispatch") above class Django.' in django_view


def test_the_projects_own_views_are_sound() -> None:
    """The checks are silent about every way in that works."""
    assert checks.check_views() == []


@pytest.mark.urls(__name__)
@pytest.mark.parametrize("url", ["/a/", "/b/", "/c/", "/d/", "/e/"])
def test_misplaced_protection_never_runs_unprotected(send: Any, url: str) -> None:
    """Should the checks be skipped: 500 with the cure, not an execution without protection."""
    send.client.raise_request_exception = True

    with pytest.raises(ImproperlyConfigured):
        send(url, key="0123456789abcdef")


def test_the_wrong_order_of_base_classes_fails_at_import() -> None:
    """With a sentence that says the right one."""
    with pytest.raises(TypeError, match="must stand before"):
        type("Wrong", (APIView, IdempotentMixin), {})


@pytest.mark.parametrize("bases", [(IdempotentMixin, View), (View, IdempotentMixin)])
def test_the_mixin_on_a_django_view_fails_at_import(bases: tuple[type, ...]) -> None:
    """It would never act there; the message says what does."""
    with pytest.raises(TypeError, match=r"method_decorator.*above class Plain"):
        type("Plain", bases, {})


def test_a_base_class_may_hold_the_mixin_alone() -> None:
    """What it becomes a part of decides."""
    base = type("Base", (IdempotentMixin,), {"idempotency_required": True})

    assert type("Orders", (base, APIView), {})
    with pytest.raises(TypeError, match="Orders is a Django view"):
        type("Orders", (base, View), {})


@pytest.mark.parametrize(("cls", "cure"), [(Unmixed, "IdempotentMixin"), (Django, "dispatch")])
def test_a_class_cannot_be_decorated(cls: type, cure: str) -> None:
    """The message says what to write instead."""
    with pytest.raises(TypeError, match=rf"does not decorate classes.*{cure}"):
        idempotent(cls)


def test_an_unknown_policy_fails_at_import() -> None:
    """As any unknown keyword argument."""
    with pytest.raises(TypeError, match="requierd"):
        idempotent(requierd=True)


@pytest.mark.parametrize(
    ("vendor", "wrapper", "numbers"),
    [
        ("oracle", {}, ["E003"]),
        ("sqlite", {"OPTIONS": {}}, ["E004"]),
        ("sqlite", {"OPTIONS": {"transaction_mode": "DEFERRED"}}, ["E004"]),
        ("sqlite", {"OPTIONS": {"transaction_mode": "immediate"}}, []),
        ("sqlite", {"OPTIONS": {"transaction_mode": "EXCLUSIVE"}}, []),
        ("postgresql", {"AUTOCOMMIT": False}, ["E005"]),
    ],
)
def test_databases_that_cannot_keep_the_promise_are_errors(
    monkeypatch: Any, vendor: str, wrapper: dict[str, Any], numbers: list[str]
) -> None:
    """E003 unknown engine, E004 deferred SQLite, E005 no autocommit; without connecting."""
    database = SimpleNamespace(vendor=vendor, settings_dict=wrapper)
    monkeypatch.setattr(databases, "connections", {"default": database})

    assert ids(checks.check_engine()) == numbers
