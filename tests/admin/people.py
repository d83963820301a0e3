"""Who asks in these tests, and what the pages are called."""

from __future__ import annotations

from typing import Any

from django.contrib.auth.models import Permission, User
from django.test import Client

LIST = "/admin/django_idempotency/idempotencykey/"
VIEW, PAYLOAD, FORGET, EXPORT = "view_idempotencykey", "view_payload", "forget_key", "export"


def signed_in(*permissions: str, superuser: bool = False) -> Client:
    """A member of the staff with just these permissions."""
    user = User.objects.create_user(
        f"staff-{User.objects.count()}", is_staff=True, is_superuser=superuser
    )
    user.user_permissions.set(Permission.objects.filter(codename__in=permissions))
    client = Client()
    client.force_login(user)
    return client


def detail(key: Any) -> str:
    return f"{LIST}{key.pk}/change/"


def page(client: Client, url: str, data: Any = None) -> str:
    response = client.get(url, data)
    assert response.status_code == 200, response
    return response.content.decode()


def shown(query: dict[str, str], *permissions: str) -> set[str]:
    """The keys that a list shows."""
    response = signed_in(VIEW, *permissions).get(LIST, query)
    assert response.status_code == 200, response
    return {key.key for key in response.context_data["cl"].result_list}
