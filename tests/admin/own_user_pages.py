"""The desk under ``AUTH_USER_MODEL``; run by ``test_own_user.py`` in a process of its own."""

from __future__ import annotations

import uuid
from typing import Any

import pytest
from django.contrib import admin
from django.contrib.admin.models import LogEntry
from django.contrib.auth import get_user_model
from django.test import Client, override_settings
from django.urls import include, path

from django_idempotency.admin import IdempotencyKeyAdmin
from django_idempotency.models import IdempotencyKey
from tests.admin.people import EXPORT, FORGET, LIST, PAYLOAD, VIEW, detail, page
from tests.factories import IdempotencyKeyFactory
from tests.own_user.models import Employee
from tests.sender import Sender, new_key

pytestmark = pytest.mark.django_db

BADGE = 4711

office = admin.AdminSite(name="office")
office.register(IdempotencyKey, IdempotencyKeyAdmin)
office.register(Employee)
urlpatterns = [path("office/", office.urls), path("", include("tests.urls"))]


def employee(badge: int, called: str, *permissions: str) -> Employee:
    may = [f"django_idempotency.{name}" for name in permissions]
    return Employee.objects.create(badge=badge, called=called, may=may)


def signed_in(*permissions: str) -> Client:
    client = Client()
    client.force_login(employee(1, "auditor", *permissions))
    return client


@pytest.fixture
def key() -> IdempotencyKey:
    """As a request leaves it: the scope is made by the engine, of the user's own id."""
    send = Sender()
    send.client.force_login(employee(BADGE, "Nia of the tea shop"))
    assert send("/apiview/", key=new_key()).status_code == 201
    return IdempotencyKey.objects.get()


def test_this_is_no_user_of_djangos(key: IdempotencyKey) -> None:
    """Or the rest shows nothing."""
    assert get_user_model() is Employee
    assert not admin.site.is_registered(Employee)
    assert not hasattr(Employee, "username")
    scope, _colon, pk = key.scope.partition(":")
    assert (scope, uuid.UUID(pk)) == ("user", Employee.objects.get(badge=BADGE).pk)


def test_every_page_names_the_user_and_links_to_no_admin(key: IdempotencyKey) -> None:
    client = signed_in(VIEW, PAYLOAD, FORGET, EXPORT)

    for url in (LIST, detail(key)):
        html = page(client, url)
        assert "Nia of the tea shop" in html
        assert "/own_user/" not in html
    page(client, f"{LIST}overview/")
    page(client, f"{LIST}{key.pk}/history/")


@override_settings(ROOT_URLCONF=__name__)
def test_the_users_page_is_linked_where_there_is_one(key: IdempotencyKey) -> None:
    """For those who may open it."""
    user = Employee.objects.get(badge=BADGE)
    client = signed_in(VIEW)
    link = f'href="/office/own_user/employee/{user.pk}/change/"'
    url = f"/office/django_idempotency/idempotencykey/{key.pk}/change/"

    assert link not in page(client, url)
    may = ["django_idempotency.view_idempotencykey", "own_user.view_employee"]
    Employee.objects.filter(badge=1).update(may=may)
    assert link in page(client, url)


@pytest.mark.parametrize("term", [str(BADGE), "teashop", "4711.5", "9" * 40, "-1", "٣", " "])
def test_search_by_what_people_sign_in_with(key: IdempotencyKey, term: str) -> None:
    """A number here: any other text names nobody, and is no error."""
    IdempotencyKeyFactory(scope="user:1")

    response = signed_in(VIEW).get(LIST, {"q": term})

    assert response.status_code == 200
    found = {row.key for row in response.context_data["cl"].result_list}
    if term.strip():
        assert found == ({key.key} if term == str(BADGE) else set())


def test_the_client_is_a_filter_under_the_users_name(key: IdempotencyKey) -> None:
    IdempotencyKeyFactory(scope="user:1")  # no UUID, so nobody's

    response = signed_in(VIEW).get(LIST, {"client": key.scope})

    assert [row.key for row in response.context_data["cl"].result_list] == [key.key]
    assert "Nia of the tea shop</a>" in response.content.decode()


def test_looks_and_deeds_are_logged_under_the_users_id(key: IdempotencyKey) -> None:
    client = signed_in(VIEW, PAYLOAD, FORGET, EXPORT)
    page(client, detail(key))
    asked: dict[str, Any] = {"_selected_action": str(key.pk), "confirmed": "yes"}
    assert client.post(LIST, asked | {"action": "export_keys"}).status_code == 200
    assert client.post(LIST, asked | {"action": "forget_keys"}).status_code == 302

    assert not IdempotencyKey.objects.exists()
    entries = LogEntry.objects.filter(user_id=Employee.objects.get(badge=1).pk)
    assert entries.count() == LogEntry.objects.count() == 3


@pytest.mark.parametrize("permissions", [(), (PAYLOAD,), (FORGET, EXPORT)])
def test_nothing_is_seen_without_the_permission(
    key: IdempotencyKey, permissions: tuple[str, ...]
) -> None:
    client = signed_in(*permissions)

    for url in (LIST, detail(key), f"{LIST}overview/", f"{LIST}{key.pk}/response/"):
        assert client.get(url).status_code == 403
