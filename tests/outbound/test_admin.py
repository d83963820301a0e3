"""The admin lists what is unresolved with its age and last error, and lets nobody change it."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import timedelta
from typing import Any
from urllib.parse import unquote as url_unquote

import pytest
from django.contrib.admin.utils import unquote as admin_unquote
from django.contrib.auth.models import User
from django.test import Client

from django_idempotency.contrib.outbound import OutboundIntent
from example_project.shop.models import GuestOrder
from tests.admin.people import signed_in
from tests.orders.models import Order

LIST = "/admin/django_idempotency_outbound/outboundintent/"


@pytest.fixture
def lost(intent: OutboundIntent, later: Callable[..., None]) -> OutboundIntent:
    """Sent three hours ago, outcome unknown; the error is somebody else's text."""
    with pytest.raises(TimeoutError), intent.sending():
        raise TimeoutError("<script>alert(1)</script>" + "x" * 200)
    later(intent, timedelta(hours=3))
    return intent


def rows(client: Client, **query: str) -> str:
    return client.get(LIST, query).content.decode()


def test_the_list_shows_what_an_operator_asks(lost: OutboundIntent) -> None:
    """Purpose, object, state, age, attempts, last error, key; markup stays text."""
    page = rows(signed_in("view_outboundintent"))

    for shown in ("charge", f"order {lost.object_id}", "Unknown", "3\xa0hours", lost.key):
        assert shown in page
    assert '<td class="field-attempts">1</td>' in page
    assert "TimeoutError: &lt;script&gt;" in page
    assert "<script>alert(1)" not in page
    assert "x" * 100 not in page


def test_unresolved_stand_on_top_and_can_be_filtered(lost: OutboundIntent) -> None:
    """The oldest first."""
    done = OutboundIntent.for_object(Order.objects.create(sku="tea"), "refund")
    done.send(lambda key: None)
    client = signed_in("view_outboundintent")

    page = rows(client)
    assert page.index(lost.key) < page.index(done.key)
    assert done.key not in rows(client, outcome="unresolved")
    assert lost.key not in rows(client, outcome="resolved")
    assert "1 outbound intent" in rows(client, q=lost.key)


def test_the_object_is_a_link_for_those_who_may_see_it(transactional_db: None) -> None:
    """And only where its admin exists."""
    order = GuestOrder.objects.create(email="a@example.com", item="tea")
    OutboundIntent.for_object(order, "charge")
    url = f"/admin/shop/guestorder/{order.pk}/change/"

    assert url not in rows(signed_in("view_outboundintent"))
    User.objects.all().delete()
    client = signed_in("view_outboundintent", "view_guestorder")
    assert f'<a href="{url}">guest order {order.pk}</a>' in rows(client)
    intent = OutboundIntent.objects.get()
    assert url in client.get(f"{LIST}{intent.pk}/change/").content.decode()


def test_the_link_leads_to_keys_that_urls_would_break(transactional_db: None) -> None:
    """As the admin's own links do: ``_2F`` in a key is no slash."""
    order = GuestOrder(pk=1)
    order._state.adding = False
    intent = OutboundIntent.for_object(order, "charge")
    for pk in ("inv_2F01", "inv/01", "a b?"):
        OutboundIntent.objects.filter(pk=intent.pk).update(object_id=pk)
        page = rows(signed_in(superuser=True))
        User.objects.all().delete()
        link = re.search(r'href="/admin/shop/guestorder/([^"]*)/change/"', page)
        assert link is not None
        assert admin_unquote(url_unquote(link[1])) == pk


def test_nobody_adds_changes_or_deletes_an_intent(lost: OutboundIntent) -> None:
    """Not even a superuser, not even by URL."""
    client = signed_in(superuser=True)

    assert client.get(f"{LIST}add/").status_code == 403
    assert client.post(f"{LIST}{lost.pk}/change/", {"state": "succeeded"}).status_code == 403
    assert client.post(f"{LIST}{lost.pk}/delete/", {"post": "yes"}).status_code == 403
    assert OutboundIntent.objects.get().state == "unknown"


def test_the_number_of_queries_does_not_grow_with_the_page(
    lost: OutboundIntent, django_assert_max_num_queries: Any
) -> None:
    """The objects themselves are not loaded."""
    for _ in range(30):
        OutboundIntent.for_object(Order.objects.create(sku="tea"), "charge")
    client = signed_in("view_outboundintent")
    rows(client)

    with django_assert_max_num_queries(9):
        rows(client)
