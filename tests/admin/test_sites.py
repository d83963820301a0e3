"""The desk works on other admin sites, without other admins, and in other languages."""

from __future__ import annotations

import re
from collections.abc import Iterator
from html import unescape
from html.parser import HTMLParser
from typing import Any

import pytest
from django.contrib import admin
from django.contrib.auth.models import User
from django.test import Client
from django.test.utils import override_settings
from django.urls import include, path
from django.utils import translation

from django_idempotency.admin import IdempotencyKeyAdmin, IdempotencyKeyAdminMixin
from django_idempotency.admin.overview import OverviewMixin
from django_idempotency.models import IdempotencyKey, KeyTally
from tests.admin.people import LIST, PAYLOAD, VIEW, detail, page, signed_in
from tests.factories import IdempotencyKeyFactory, KeyEventFactory

pytestmark = pytest.mark.django_db


class DeskSite(admin.AdminSite):
    site_header = "Back office"


class OwnKeyAdmin(IdempotencyKeyAdminMixin, admin.ModelAdmin):
    """As a site would combine it: with media and a narrowed queryset of its own."""

    class Media:
        css = {"all": ["own.css"]}

    def get_queryset(self, request: Any) -> Any:
        return super().get_queryset(request).filter(scope__startswith="tenant:7")


desk = DeskSite(name="desk")
desk.register(IdempotencyKey, OwnKeyAdmin)
urlpatterns = [path("office/", desk.urls), path("", include("tests.urls"))]

OWN = "/office/django_idempotency/idempotencykey/"


@pytest.fixture
def key() -> IdempotencyKey:
    key = IdempotencyKeyFactory(completed=True, scope="tenant:7", key="7-4-1")
    for kind in ("replayed", "in_flight", "failed"):
        KeyEventFactory(key=key, kind=kind)
    KeyEventFactory(key=key, kind="conflict", differences='{"@path": "changed"}')
    KeyTally.objects.create(
        key=key, replay_count=300, conflict_count=1, in_flight_count=2, failure_count=1
    )
    assert isinstance(key, IdempotencyKey)
    return key


def test_the_mixin_brings_everything() -> None:
    """One class to combine with a theme's ModelAdmin."""
    assert issubclass(IdempotencyKeyAdmin, (IdempotencyKeyAdminMixin, admin.ModelAdmin))
    assert issubclass(IdempotencyKeyAdminMixin, OverviewMixin)
    assert not hasattr(IdempotencyKeyAdminMixin, "request")  # django-unfold calls columns so
    assert "request" not in IdempotencyKeyAdminMixin.list_display


@override_settings(ROOT_URLCONF=__name__)
def test_a_site_of_ones_own(key: IdempotencyKey) -> None:
    """Every link stays on it, though Django's own site has the same pages."""
    client = signed_in(superuser=True)

    for url in (OWN, f"{OWN}{key.pk}/change/", f"{OWN}overview/", f"{OWN}{key.pk}/history/"):
        html = page(client, url)
        assert "Back office" in html
        assert 'href="/admin/' not in html
        assert 'action="/admin/' not in html
    asked = {"action": "forget_keys", "_selected_action": str(key.pk)}
    assert 'href="/admin/' not in client.post(OWN, asked).content.decode()
    response = client.post(OWN, asked | {"confirmed": "yes"})
    assert response["Location"] == OWN
    assert not IdempotencyKey.objects.exists()


@override_settings(ROOT_URLCONF=__name__)
def test_a_narrowed_queryset_narrows_everything(key: IdempotencyKey) -> None:
    """Filters, search, dates, actions: another tenant's keys do not show through."""
    theirs = IdempotencyKeyFactory(
        completed=True, scope="tenant:8", key="theirs", route="their-route/", request_id="their-id"
    )
    client = signed_in(superuser=True)

    assert "their-route" not in page(client, OWN)
    for term in ("theirs", "tenant:8", "their-id"):
        assert not client.get(OWN, {"q": term}).context_data["cl"].result_list
    assert client.get(f"{OWN}{theirs.pk}/change/").status_code == 302
    assert client.get(f"{OWN}{theirs.pk}/response/").status_code == 404
    forget = {"action": "forget_keys", "_selected_action": str(theirs.pk), "confirmed": "yes"}
    client.post(OWN, forget)
    client.post(OWN, forget | {"select_across": "1"})
    assert IdempotencyKey.objects.get() == theirs


@override_settings(ROOT_URLCONF=__name__)
def test_a_user_model_without_an_admin(key: IdempotencyKey) -> None:
    """Is a name without a link."""
    user = User.objects.create_user("teashop")
    IdempotencyKey.objects.update(scope=f"tenant:7 user:{user.pk}")
    named = IdempotencyKeyFactory(scope=f"user:{user.pk}")
    client = signed_in(superuser=True)
    page(client, OWN)

    assert f"/admin/auth/user/{user.pk}/" in page(client, detail(named))
    admin.site.unregister(User)
    try:
        html = page(client, detail(named))
    finally:
        from django.contrib.auth.admin import UserAdmin

        admin.site.register(User, UserAdmin)
    assert "teashop" in html
    assert f"/user/{user.pk}/" not in html


# -- languages


@pytest.fixture
def marked(monkeypatch: Any) -> Iterator[None]:
    """Every text that went through gettext is in brackets."""
    with translation.override("en"):
        translation.gettext("")  # sets up the functions that are replaced
        real = translation._trans

        def one(message: str) -> str:
            return f"⟦{message}⟧" if message else message

        def many(singular: str, plural: str, number: int) -> str:
            return f"⟦{singular if number == 1 else plural}⟧"

        monkeypatch.setattr(real, "gettext", one)
        monkeypatch.setattr(real, "ngettext", many)
        monkeypatch.setattr(real, "pgettext", lambda context, message: one(message))
        monkeypatch.setattr(
            real, "npgettext", lambda context, singular, plural, n: many(singular, plural, n)
        )
        yield


class _Texts(HTMLParser):
    """What a person reads or hears of a page's content."""

    def __init__(self) -> None:
        super().__init__()
        self.texts: list[str] = []
        self.inside: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in {"input", "br", "link", "meta", "img", "col"}:
            self.inside.append(tag)
        named = dict(attrs)
        self.texts += [named.get(name) or "" for name in ("aria-label", "title", "alt")]

    def handle_endtag(self, tag: str) -> None:
        if tag in self.inside:
            while self.inside.pop() != tag:
                pass

    def handle_data(self, data: str) -> None:
        if not {"script", "style", "code", "pre", "option"} & set(self.inside):
            self.texts.append(data)


# What strangers sent, names of HTTP, formats of dates, and one word of Django's templates.
_DATA = re.compile(
    r"tenant:7|payments?/?|POST|PATCH|PUT|DELETE|Content-Type|application/json|UTC|November|"
    r"admin|staff-\d+|Nov|orders/|[0-9a-f]{8}-[0-9a-f-]{27}|\bMon\b|[ap]\.m\.|SHA-256|Search"
)


@pytest.mark.usefixtures("marked")
@pytest.mark.parametrize("name", ["list", "detail", "forget", "expire", "export"])
def test_every_text_is_translated(name: str, key: IdempotencyKey) -> None:
    """Nothing reaches a person but what a translator has seen, or a stranger has sent."""
    client: Client = signed_in(superuser=True)
    if name in {"list", "detail"}:
        html = page(client, LIST if name == "list" else detail(key))
    else:
        asked = {"action": f"{name}_keys", "_selected_action": str(key.pk)}
        html = client.post(LIST, asked).content.decode()
    reader = _Texts()
    reader.feed(html[html.index('<div id="content"') : html.index("<!-- END Content")])
    text = unescape("\n".join(reader.texts))
    while (inner := re.sub(r"⟦[^⟦⟧]*⟧", "", text)) != text:
        text = inner

    words = re.findall(r"[^\W\d_]{3,}", _DATA.sub("", text))
    assert not words, words


def test_counts_are_plural_forms(key: IdempotencyKey) -> None:
    """One retry, two retries."""
    text = page(signed_in(VIEW, PAYLOAD), detail(key))

    assert "2 retries came while it ran and were refused." in text
    assert "1 reuse for a different request was refused." in text


def test_the_log_is_in_the_sites_language(key: IdempotencyKey, settings: Any) -> None:
    """Whoever looked: others read it."""
    settings.LANGUAGE_CODE = "en"
    settings.MIDDLEWARE = [*settings.MIDDLEWARE, "django.middleware.locale.LocaleMiddleware"]
    client = signed_in(VIEW, PAYLOAD)

    response = client.get(detail(key), headers={"accept-language": "de"})

    assert 'lang="de"' in response.content.decode()
    assert "Viewed the stored payload." in page(client, f"{LIST}{key.pk}/history/")


def test_pages_have_landmarks_and_names(key: IdempotencyKey) -> None:
    """For a screen reader: one h1, sections with names, tables with heads, scrollers in reach."""
    for url in (LIST, detail(key)):
        html = page(signed_in(superuser=True), url)
        assert html.count("<h1") == 1
        assert "<main" in html
        assert len(re.findall(r"<svg(?![^>]*(aria-hidden|role=\"img\"|base-svgs))", html)) == 0
    labelled = re.findall(r"<section[^>]*aria-labelledby=\"([^\"]+)\"", html)
    assert len(labelled) == html.count("<section") >= 5
    for name in labelled:
        assert f'id="{name}"' in html
    for scroller in re.findall(r"<pre[^>]*>", html):
        assert 'tabindex="0"' in scroller
        assert "aria-label" in scroller
