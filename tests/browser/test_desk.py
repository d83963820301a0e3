"""What a person does who has a customer on the phone, in a real browser.

Every test fails if the browser logs an error or a warning, also one about the policy of its
pages, or opens a dialog: see ``complaints``.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from django_idempotency.models import IdempotencyKey, KeyTally
from tests.browser.conftest import SignIn
from tests.factories import IdempotencyKeyFactory, KeyEventFactory

Visit = Callable[..., Page]
CHARTS = ("Keyed requests over time", "Conflicts over time", "Age of replays")


def test_from_the_list_to_what_was_different_to_forgetting(
    sign_in: SignIn, visit: Visit, talked_about: IdempotencyKey
) -> None:
    """Tile, filter, key, comparison, action with its question; afterwards the key is gone."""
    sign_in()
    page = visit()
    page.get_by_role("link", name=re.compile("^Conflicts refused")).click()
    page.locator("#changelist-filter").get_by_role("link", name="harbour-sync").click()
    expect(page).to_have_url(re.compile(r"client=user%3A\d+.*conflicts=yes|conflicts=yes.*client="))
    page.locator("#result_list").get_by_title(talked_about.key).first.click()

    expect(page.get_by_role("heading", level=1)).to_contain_text(talked_about.key)
    page.get_by_role("link", name="What was different").click()
    comparison = page.locator(".idem-diff").first
    expect(comparison).to_be_in_viewport()
    expect(comparison.locator("del").first).to_be_visible()
    expect(comparison.locator("ins").first).to_be_visible()

    page.get_by_role("button", name="Forget this key").click()
    expect(page.get_by_role("alert")).to_contain_text("can then be done twice")
    page.get_by_role("button", name="Forget, and allow a second execution").click()
    expect(page.locator(".messagelist")).to_contain_text("1 ")
    assert not IdempotencyKey.objects.filter(pk=talked_about.pk).exists()


def test_forgetting_can_be_called_off(
    sign_in: SignIn, visit: Visit, talked_about: IdempotencyKey
) -> None:
    sign_in()
    page = visit(f"{talked_about.pk}/change/")
    page.get_by_role("button", name="Forget this key").click()
    page.get_by_role("link", name="No, take me back").click()

    expect(page.locator("#result_list")).to_be_visible()
    assert IdempotencyKey.objects.filter(pk=talked_about.pk).exists()


@pytest.mark.parametrize(
    ("scheme", "executed"), [("light", "rgb(63, 127, 166)"), ("dark", "rgb(90, 165, 211)")]
)
def test_the_overview_in_both_themes(
    sign_in: SignIn, visit: Visit, page: Page, history: None, scheme: Any, executed: str
) -> None:
    """Charts with names, coloured by the theme, each with its table behind a key press."""
    page.emulate_media(color_scheme=scheme)
    sign_in()
    visit()
    page.get_by_role("link", name=re.compile("^Overview")).click()

    for name in CHARTS:
        expect(page.get_by_role("img", name=name)).to_be_visible()
    bar = page.locator(".idem-plot rect.idem-c-executed").first
    assert bar.evaluate("bar => getComputedStyle(bar).fill") == executed
    summary = page.locator("summary").first
    summary.focus()
    page.keyboard.press("Enter")
    expect(page.get_by_role("table", name=CHARTS[0])).to_be_visible()
    page.keyboard.press("Enter")
    expect(page.get_by_role("table", name=CHARTS[0])).to_be_hidden()


def test_the_switch_of_the_admin_changes_the_charts(
    sign_in: SignIn, visit: Visit, page: Page, history: None
) -> None:
    """Whatever the system prefers."""
    page.emulate_media(color_scheme="dark")
    sign_in()
    visit("overview/")
    bar = page.locator(".idem-plot rect.idem-c-executed").first
    page.locator("html[data-theme]").evaluate("html => html.dataset.theme = 'light'")

    assert bar.evaluate("bar => getComputedStyle(bar).fill") == "rgb(63, 127, 166)"


def test_periods_are_chosen_without_a_mouse(
    sign_in: SignIn, visit: Visit, page: Page, history: None
) -> None:
    """Links and a form of plain fields."""
    sign_in()
    visit("overview/")
    page.get_by_role("link", name="24 hours").focus()
    page.keyboard.press("Enter")
    expect(page).to_have_url(re.compile("period=24h"))
    expect(page.locator(".idem-range [aria-current]")).to_have_text("24 hours")
    page.get_by_label("From", exact=True).fill("2026-01-01")
    page.get_by_label("to", exact=True).fill("2026-01-02")
    page.keyboard.press("Enter")
    expect(page).to_have_url(re.compile("period=custom&from=2026-01-01&to=2026-01-02"))
    expect(page.get_by_text("No key was reused for another request.").first).to_be_visible()


def test_a_latest_conflict_leads_to_its_comparison(
    sign_in: SignIn, visit: Visit, page: Page, history: None
) -> None:
    sign_in()
    visit("overview/")
    page.locator(".idem-stack tbody a").first.click()

    anchor = page.url.partition("#")[2]
    assert anchor.startswith("conflict-")
    expect(page.locator(f"#{anchor}")).to_be_in_viewport()


def test_the_list_fits_a_screen_whatever_is_in_it(
    sign_in: SignIn, visit: Visit, page: Page, history: None
) -> None:
    """At 1440 px no column is cut; what is long is, with the whole in its title."""
    scope = f"tenant:{'k' * 248}"
    key = IdempotencyKeyFactory(completed=True, key="x" * 255, scope=scope, path="/" + "p" * 254)
    for _ in range(12):
        KeyEventFactory(key=key)
    KeyTally.objects.create(key=key, replay_count=1000)
    page.set_viewport_size({"width": 1440, "height": 900})
    sign_in()
    visit()

    for text in (key.key, key.scope, key.path):
        expect(page.locator("#result_list").get_by_title(text, exact=True)).to_be_visible()
    results = page.locator(".results")
    assert results.evaluate("it => it.scrollWidth - it.clientWidth") <= 0
    expect(page.locator("#result_list thead .column-conflicts")).to_be_in_viewport(ratio=1)
    first = page.locator("#result_list tbody tr").first
    assert first.evaluate("row => row.offsetHeight") <= 100


@pytest.mark.parametrize(
    ("where", "boxes"),
    [
        ("", ".idem-tiles a, th a:has(.idem-key)"),
        ("overview/", ".idem-range a"),
        ("{key}/change/", ".idem-buttons a"),
    ],
)
def test_links_are_underlined_in_text_and_not_in_boxes(
    sign_in: SignIn, visit: Visit, page: Page, talked_about: IdempotencyKey, where: str, boxes: str
) -> None:
    """In every version of Django: 6.1 underlines all, 5.2 none."""
    sign_in()
    visit(where.format(key=talked_about.pk))
    lines = "links => links.map(link => getComputedStyle(link).textDecorationLine)"

    assert set(page.locator(boxes).evaluate_all(lines)) == {"none"}
    texts = page.locator(".idem-timeline a, .idem-facts a, .idem-meta a, .idem-table a")
    assert set(texts.evaluate_all(lines)) <= {"underline"}
    assert texts.count() or not where


@pytest.mark.parametrize("where", ["", "overview/", "{key}/change/"])
def test_pages_fit_a_phone(
    sign_in: SignIn, visit: Visit, page: Page, talked_about: IdempotencyKey, where: str
) -> None:
    """Wide things scroll by themselves; the page does not."""
    page.set_viewport_size({"width": 390, "height": 844})
    sign_in()
    visit(where.format(key=talked_about.pk))

    assert page.evaluate("document.documentElement.scrollWidth") <= 390


@pytest.mark.parametrize("where", ["", "overview/", "{key}/change/"])
def test_pages_have_landmarks_and_one_heading(
    sign_in: SignIn, visit: Visit, page: Page, talked_about: IdempotencyKey, where: str
) -> None:
    """What a screen reader jumps between; and no picture without a name."""
    sign_in()
    visit(where.format(key=talked_about.pk))

    expect(page.get_by_role("main")).to_have_count(1)
    expect(page.get_by_role("navigation", name="Breadcrumbs")).to_be_visible()
    expect(page.get_by_role("main").get_by_role("heading", level=1)).to_have_count(1)
    for picture in page.locator("main svg[role=img]").all():
        assert picture.get_attribute("aria-label") or picture.locator("title").count()


def test_who_may_only_look_sees_no_body_and_no_button(
    sign_in: SignIn, visit: Visit, page: Page, talked_about: IdempotencyKey
) -> None:
    body = json.loads(bytes(talked_about.response_body or b"{}"))
    sign_in("view_idempotencykey")
    visit(f"{talked_about.pk}/change/")

    expect(
        page.get_by_text("Headers and body are shown to people with the permission")
    ).to_be_visible()
    expect(page.get_by_role("button", name="Forget this key")).to_have_count(0)
    assert (
        str(body.get("id", body.get("balance"))) not in page.locator("#idem-response").inner_text()
    )
    expect(page.locator(".idem-diff")).to_have_count(0)


def test_who_may_see_payload_sees_the_body(
    sign_in: SignIn, visit: Visit, page: Page, talked_about: IdempotencyKey
) -> None:
    sign_in("view_idempotencykey", "view_payload")
    visit(f"{talked_about.pk}/change/")

    expect(page.get_by_role("region", name="Body of the response")).to_be_visible()
    expect(page.locator(".idem-diff").first).to_be_visible()
    expect(page.get_by_role("button", name="Forget this key")).to_have_count(0)


EVIL = "<script>alert(1)</script>'\"><img src=x onerror=alert(2)>"
EVIL_URL = "javascript:alert(3)//%00%3Cscript%3E"


@pytest.fixture
def poisoned(transactional_db: None) -> IdempotencyKey:
    """A key, every text of which somebody outside has chosen."""
    key = IdempotencyKeyFactory(
        completed=True,
        scope=EVIL,
        key=EVIL,
        path=EVIL_URL,
        route=EVIL,
        user_agent=EVIL,
        request_id=EVIL,
        request_record=json.dumps({"fields": {EVIL: "0a"}, "body": {EVIL: EVIL_URL}}),
        response_headers=json.dumps([["Content-Type", "text/html"], ["Location", EVIL_URL]]),
        response_body=f"<html>{EVIL}<a href='{EVIL_URL}'>".encode(),
    )
    KeyTally.objects.create(key=key, replay_count=1, conflict_count=1)
    KeyEventFactory(key=key, user_agent=EVIL, request_id=EVIL, path=EVIL_URL)
    KeyEventFactory(
        key=key,
        kind="conflict",
        status=422,
        path=EVIL_URL,
        differences=json.dumps({EVIL: "changed"}),
        request_record=json.dumps({"fields": {EVIL: "0b"}, "body": {EVIL: EVIL}}),
    )
    assert isinstance(key, IdempotencyKey)
    return key


@pytest.mark.parametrize("where", ["", "overview/", "{key}/change/", "{key}/history/"])
def test_what_strangers_sent_stays_text(
    sign_in: SignIn, visit: Visit, page: Page, poisoned: IdempotencyKey, where: str
) -> None:
    """Shown, not obeyed: no dialog, no picture, no link that runs."""
    sign_in()
    visit(where.format(key=poisoned.pk))

    expect(page.get_by_text("alert(1)").first).to_be_visible()
    assert page.locator("img[src=x]").count() == 0
    assert page.locator("a[href^='javascript:']").count() == 0
    for link in page.get_by_role("main").get_by_role("link").all()[:40]:
        link.hover(trial=True, timeout=2000)


def test_the_question_before_an_action_stays_text(
    sign_in: SignIn, visit: Visit, page: Page, poisoned: IdempotencyKey
) -> None:
    sign_in()
    visit(f"{poisoned.pk}/change/")
    page.get_by_role("button", name="Forget this key").click()

    expect(page.get_by_text("alert(1)").first).to_be_visible()
    assert page.locator("img[src=x]").count() == 0
