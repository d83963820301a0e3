"""The overview and the tiles: figures in words, links that lead to the keys behind them."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth.models import Permission, User
from django.test import Client
from django.utils import timezone, translation

import django_idempotency
from django_idempotency.admin import reports
from django_idempotency.models import IdempotencyKey, KeyTally
from tests.factories import IdempotencyKeyFactory, KeyEventFactory

pytestmark = pytest.mark.django_db
LIST = "/admin/django_idempotency/idempotencykey/"
OVERVIEW = f"{LIST}overview/"


@pytest.fixture(autouse=True)
def _nothing_remembered() -> Iterator[None]:
    reports._past_days.cache_clear()
    yield
    reports._past_days.cache_clear()


def signed_in(*permissions: str) -> Client:
    user = User.objects.create_user("staff", is_staff=True)
    user.user_permissions.set(Permission.objects.filter(codename__in=permissions))
    client = Client()
    client.force_login(user)
    return client


@pytest.fixture
def staff() -> Client:
    return signed_in("view_idempotencykey")


def reused(**values: Any) -> IdempotencyKey:
    """A key with a replay and a conflict, an hour ago."""
    at = timezone.now() - timedelta(hours=1)
    row = IdempotencyKeyFactory(completed=True, created_at=at, **values)
    KeyEventFactory(key=row, kind="replayed", at=at + timedelta(seconds=30))
    KeyEventFactory(
        key=row,
        kind="conflict",
        status=422,
        at=at + timedelta(minutes=1),
        differences=json.dumps({"amount": "changed", "@path": "changed"}),
    )
    KeyTally.objects.create(key=row, replay_count=1, conflict_count=1)
    assert isinstance(row, IdempotencyKey)
    return row


def page(client: Client, url: str = OVERVIEW, **query: str) -> str:
    answer = client.get(url, query)
    assert answer.status_code == 200
    return answer.content.decode()


def words(markup: str) -> str:
    return " ".join(re.sub(r"<[^>]+>", " ", markup).split())


def test_the_overview_counts_the_period(staff: Client) -> None:
    """Tiles with shares, and the latest conflict with what differed by name."""
    row = reused(scope="partner:globex")
    text = words(page(staff))

    assert "Keyed requests 3 1 executed" in text
    assert "Replays served 1 33.3 %, not executed twice" in text
    assert "Conflicts refused 1 33.3 %" in text
    assert "Median replay age 30.0 s" in text
    assert re.search(rf"{row.key} partner:globex POST /payments/ amount, path", text)


def test_the_latest_conflicts_lead_to_their_keys(staff: Client) -> None:
    """To the very place on the page where the two requests are compared."""
    row = reused()
    anchor = f"conflict-{row.events.get(kind='conflict').pk}"

    assert f'href="{LIST}{row.pk}/change/#{anchor}"' in page(staff)
    assert f'id="{anchor}"' in page(staff, f"{LIST}{row.pk}/change/")


def test_rankings_lead_to_the_keys_behind_them(staff: Client) -> None:
    """Whatever a scope looks like, its link filters by exactly it."""
    row = reused(scope="tenant a&b=c/ü", route="payments/<int:pk>/")
    other = reused(scope="tenant a")
    hrefs = re.findall(r'<th scope="row"><a href="([^"]+conflicts=yes)"', page(staff))

    assert len(hrefs) == 4
    for href in hrefs:
        found = page(staff, href.replace("&amp;", "&"))
        assert (row.key in found) != (other.key in found)


def test_every_chart_has_a_name_and_a_table(staff: Client) -> None:
    """A picture nobody can see says as little as no picture."""
    reused()
    markup = page(staff)

    names = re.findall(r'<svg class="idem-plot"[^>]*role="img" aria-label="([^"]+)"', markup)
    assert names == ["Keyed requests over time", "Conflicts over time", "Age of replays"]
    assert markup.count("<summary>Show as table</summary>") == len(names)
    assert re.findall(r'<caption class="idem-unseen">([^<]+)<', markup) == names


def test_the_table_of_a_chart_says_the_same(staff: Client) -> None:
    """One execution, one replay, one conflict: today's, or of the hour before midnight."""
    reused()
    rows = re.findall(r'<tr><th scope="row">.*?</tr>', page(staff, period="14d"), re.DOTALL)

    yesterday, today = (map(int, words(row).split()[-6:]) for row in rows[12:14])
    assert [sum(pair) for pair in zip(yesterday, today, strict=True)] == [1, 1, 0, 1, 0, 3]
    assert len(rows) >= 3 * 14


@pytest.mark.parametrize(
    ("query", "bars"),
    [({"period": "24h"}, 25), ({"period": "7d"}, 7), ({}, 14), ({"from": "2026-11-01"}, 24)],
)
def test_the_period_is_chosen_by_the_query(staff: Client, query: dict[str, str], bars: int) -> None:
    """And the chosen one is marked, also for those who do not see its colour."""
    markup = page(staff, **query)

    plots = re.findall(r'<svg class="idem-plot".*?</svg>', markup, re.DOTALL)
    assert plots[0].count('class="idem-col"') == bars
    assert markup.count('aria-current="true"') == (0 if "from" in query else 1)


@pytest.mark.parametrize(
    "query",
    [
        {"from": "2026-11-20", "to": "2026-11-01"},
        {"from": "0001-01-01", "to": "9999-12-31"},
        {"from": "9999-12-31", "to": "9999-12-31"},
        {"period": "custom", "from": "2026-02-30", "to": "\x00"},
        {"period": "<script>alert(1)</script>"},
        {"period[]": "24h", "e": "1", "_popup": "x"},
    ],
)
def test_a_period_that_makes_no_sense_is_no_error(staff: Client, query: dict[str, str]) -> None:
    assert "<script>alert" not in page(staff, **query)


def test_a_nonsensical_period_is_told(staff: Client) -> None:
    assert "That period makes no sense" in page(staff, period="fortnight")
    assert "That period makes no sense" not in page(staff, period="7d")


def test_an_empty_site_has_an_overview(staff: Client) -> None:
    text = words(page(staff))

    assert "Keyed requests 0 0 executed" in text
    assert "No key was reused for another request." in text


def test_without_events_the_page_says_what_it_cannot_know(staff: Client, settings: Any) -> None:
    settings.IDEMPOTENCY = {"AUDIT": "counts"}
    KeyTally.objects.create(key=IdempotencyKeyFactory(completed=True), replay_count=4)
    text = words(page(staff))

    assert "uses are counted and not dated" in text
    assert "Replays served 4" in text


def test_missing_events_are_told(staff: Client) -> None:
    KeyTally.objects.create(key=IdempotencyKeyFactory(completed=True), replay_count=400)

    assert "1 key has been used so often" in words(page(staff))


def test_the_overview_asks_for_the_view_permission() -> None:
    """As the list does; a stranger is sent to the login."""
    client = signed_in("view_payload")
    assert client.get(OVERVIEW).status_code == 403
    assert Client().get(OVERVIEW).status_code == 302


def test_what_strangers_stored_stays_text(staff: Client) -> None:
    """In every place where a scope, key, path, route or field name is shown."""
    evil = '<script>alert(1)</script>"'
    row = reused(scope=evil, key=evil, path=evil, route=evil)
    KeyEventFactory(key=row, kind="conflict", path=evil, differences=json.dumps({evil: "added"}))
    markup = page(staff)

    assert "<script>alert" not in markup
    assert markup.count("&lt;script&gt;alert(1)") >= 6


def test_the_page_lives_under_a_strict_content_security_policy(staff: Client) -> None:
    """Nothing inline, nothing from another host."""
    reused()
    markup = re.search(r'<div id="content-main".*idem-foot', page(staff), re.DOTALL)
    assert markup
    for forbidden in ("<script", "<style", " style=", "javascript:", "http:", "https:", " on"):
        assert forbidden not in re.sub(r">[^<]*<", "><", markup[0]), forbidden


def test_tiles_stand_above_the_list_and_lead_to_filters(staff: Client) -> None:
    """Every link is answered with a list, the last with the overview."""
    reused()
    IdempotencyKeyFactory()
    markup = page(staff, LIST)
    tiles = re.search(r'<ul class="idem-tiles".*?</ul>', markup, re.DOTALL)
    assert tiles
    text = words(tiles[0])

    assert "Keyed requests 3 last 24 hours" in text
    assert "Conflicts refused 1 same key, other request" in text
    assert "In progress 1 right now" in text
    links = [link.replace("&amp;", "&") for link in re.findall(r'<a href="([^"]+)"', tiles[0])]
    assert len(links) == 6
    for link in links:
        assert staff.get(link if link.startswith("/") else LIST + link).status_code == 200


def test_a_tile_leads_to_the_keys_it_counts(staff: Client) -> None:
    running, conflicting = IdempotencyKeyFactory(), reused()
    stuck = IdempotencyKeyFactory(created_at=timezone.now() - timedelta(hours=2))
    for link, key in (
        ("?state=in_progress", running),
        ("?state=unfinished&since=24h", stuck),
        ("?conflicts=yes", conflicting),
        ("?replayed=yes&since=24h", conflicting),
    ):
        assert f'href="{link.replace("&", "&amp;")}"' in page(staff, LIST)
        found = page(staff, LIST + link)
        assert [row.key in found for row in (running, conflicting, stuck)] == [
            row is key for row in (running, conflicting, stuck)
        ]


def test_figures_are_spelled_in_the_readers_language(staff: Client) -> None:
    """Separators and dates follow the locale."""
    reused()
    with translation.override("de"):
        assert "33,3\N{NO-BREAK SPACE}%" in page(staff)


def test_no_text_bypasses_translation() -> None:
    """What is left of a template without its tags and variables has no letters."""
    templates = list(Path(django_idempotency.__file__).parent.glob("templates/**/*.html"))
    assert len(templates) >= 5
    tags = r"{%\s*blocktranslate.*?endblocktranslate\s*%}|{%.*?%}|{{.*?}}|{#.*?#}|<[^<>]*>|&\w+;"
    for template in templates:
        source = template.read_text(encoding="utf-8")
        source = re.sub(r"{% block bodyclass %}.*?{% endblock %}", "", source)
        for _ in range(2):  # tags of the template stand inside tags of the page
            source = re.sub(tags, "", source, flags=re.DOTALL)
        assert not re.search(r"[A-Za-z]{2}", source), (template.name, source)
