"""The list tells what became of each key, and never reads the whole table to do so."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from django_idempotency.admin import changelist
from django_idempotency.models import IdempotencyKey, KeyTally
from tests.admin.people import LIST, VIEW, detail, page, shown, signed_in
from tests.factories import IdempotencyKeyFactory, KeyEventFactory

pytestmark = pytest.mark.django_db


def used(key: IdempotencyKey, *kinds: str) -> None:
    """Events of these kinds, a second apart, and their tally."""
    for second, kind in enumerate(kinds, start=1):
        KeyEventFactory(key=key, kind=kind, at=key.created_at + timedelta(seconds=second))
    KeyTally.objects.create(
        key=key,
        replay_count=kinds.count("replayed"),
        conflict_count=kinds.count("conflict"),
        in_flight_count=kinds.count("in_flight"),
        failure_count=kinds.count("failed"),
    )


@pytest.fixture
def key() -> IdempotencyKey:
    key = IdempotencyKeyFactory(completed=True, scope="user:999", key="order-<script>alert(1)")
    used(key, "in_flight", "replayed", "replayed", "conflict")
    assert isinstance(key, IdempotencyKey)
    return key


def test_a_row_tells_outcome_request_client_and_uses(key: IdempotencyKey) -> None:
    """Markup in a key stays text; a client without a user stays its scope."""
    html = page(signed_in(VIEW), LIST)

    assert "order-&lt;script&gt;alert(1)" in html
    assert "<script>alert" not in html
    assert '<span class="idem-badge idem-ok">201</span>' in html
    assert '<span class="idem-method">POST</span> <code class="idem-path"' in html
    assert '<span class="idem-client" title="user:999">user:999</span></td>' in html
    assert '<td class="field-replays"><span class="idem-some">2</span></td>' in html
    assert '<td class="field-conflicts"><span class="idem-count-bad">1</span></td>' in html


def test_the_strip_tells_by_shapes_in_order_and_in_words(key: IdempotencyKey) -> None:
    """Each kind of use has a shape of its own, so that nobody needs its colour."""
    html = page(signed_in(VIEW), LIST)
    strip = re.search(r'<svg class="idem-strip".*?</svg>', html, re.DOTALL)

    assert strip is not None
    marks = re.findall(r"idem-m-(\w+)", strip[0])
    assert marks == ["executed", "in_flight", "replayed", "replayed", "conflict"]
    told = "executed, 2 replayed, 1 refused in flight, 1 conflicting"
    assert f"<title>{told}</title>" in strip[0]
    legend = html[html.index("idem-legend") : html.index('id="changelist-form"')]
    assert len(set(re.findall(r"idem-m-(\w+)", legend))) == 6


def test_a_long_strip_ends_in_a_number() -> None:
    """The page loads the first few events of a key; the tally knows the rest."""
    many = IdempotencyKeyFactory(completed=True)
    used(many, *["replayed"] * 30)

    html = page(signed_in(VIEW), LIST)

    assert '<span class="idem-more" aria-hidden="true">+23</span>' in html


def test_events_of_an_earlier_life_are_not_in_the_strip() -> None:
    """An expired key was used anew: what was before belongs to another request."""
    anew = IdempotencyKeyFactory(completed=True)
    KeyEventFactory(key=anew, kind="conflict", at=anew.created_at - timedelta(days=2))

    assert "<title>executed</title>" in page(signed_in(VIEW), LIST)


def test_a_user_is_shown_by_name() -> None:
    """Of scopes user:<pk>, also with a route behind; a number that no column holds is text."""
    user = User.objects.create_user("teashop")
    for scope in (f"user:{user.pk}", f"user:{user.pk} payments/", f"user:{10**30}", "user:x"):
        IdempotencyKeyFactory(scope=scope)

    html = page(signed_in(VIEW), LIST)

    sub = f'teashop</span><span class="idem-client idem-sub" title="user:{user.pk}'
    assert html.count(sub) == 2
    assert f'<span class="idem-client" title="user:{10**30}">' in html


def test_a_site_without_time_zones_has_a_list_and_pages(key: IdempotencyKey, settings: Any) -> None:
    """USE_TZ=False: all times are naive, the database's among them."""
    settings.USE_TZ = False
    client = signed_in(VIEW)

    for url in (LIST, detail(key), f"{LIST}overview/"):
        page(client, url)
    assert "just now" in page(client, LIST)


# -- filters


@pytest.fixture
def every_kind() -> None:
    """Keys named by what is particular about them."""
    now = timezone.now()
    old = now - timedelta(minutes=6)
    past = now - timedelta(days=3)
    IdempotencyKeyFactory(key="plain", completed=True)
    IdempotencyKeyFactory(key="running")
    IdempotencyKeyFactory(key="dead", created_at=old)
    used(IdempotencyKeyFactory(key="failed"), "failed")
    IdempotencyKeyFactory(key="expired", completed=True, created_at=past)
    IdempotencyKeyFactory(key="4xx", completed=True, response_status=402)
    IdempotencyKeyFactory(key="3xx", completed=True, response_status=302)
    IdempotencyKeyFactory(key="5xx", completed=True, response_status=500)
    IdempotencyKeyFactory(key="large", completed=True, response_body=None)
    IdempotencyKeyFactory(key="patch", completed=True, method="PATCH")
    IdempotencyKeyFactory(key="theirs", completed=True, scope="tenant:7")
    IdempotencyKeyFactory(key="elsewhere", completed=True, route="orders/")
    used(IdempotencyKeyFactory(key="replayed", completed=True), "replayed")
    used(IdempotencyKeyFactory(key="conflict", completed=True), "conflict")


@pytest.mark.parametrize(
    ("query", "keys"),
    [
        ({"state": "in_progress"}, {"running"}),
        ({"state": "unfinished"}, {"dead", "failed"}),
        ({"state": "expired"}, {"expired"}),
        ({"conflicts": "yes"}, {"conflict"}),
        ({"replayed": "yes"}, {"replayed"}),
        ({"response": "3xx"}, {"3xx"}),
        ({"response": "4xx"}, {"4xx"}),
        ({"response": "5xx"}, {"5xx"}),
        ({"response": "not_stored"}, {"large"}),
        ({"method": "PATCH"}, {"patch"}),
        ({"client": "tenant:7"}, {"theirs"}),
        ({"client": "nobody"}, set()),
        ({"endpoint": "orders/"}, {"elsewhere"}),
    ],
)
@pytest.mark.usefixtures("every_kind")
def test_filters_find_what_they_say(query: dict[str, str], keys: set[str]) -> None:
    """Exactly that, among keys of every kind."""
    assert shown(query) == keys


@pytest.mark.parametrize(
    ("query", "missing"),
    [
        ({"state": "completed"}, {"running", "dead", "failed"}),
        ({"conflicts": "no"}, {"conflict"}),
        ({"replayed": "no"}, {"replayed"}),
        ({"response": "2xx"}, {"running", "dead", "failed", "3xx", "4xx", "5xx"}),
        ({"since": "24h"}, {"expired"}),
        ({"since": "7d"}, set()),
    ],
)
@pytest.mark.usefixtures("every_kind")
def test_filters_leave_out_what_they_say(query: dict[str, str], missing: set[str]) -> None:
    """And nothing else."""
    everything = set(IdempotencyKey.objects.values_list("key", flat=True))

    assert shown(query) == everything - missing


def test_a_day_is_chosen_by_links_made_of_the_first_and_the_last_key() -> None:
    """No statement looks for distinct dates; days before the first key are not offered."""
    for day in (3, 5, 5):
        IdempotencyKeyFactory(completed=True, created_at=datetime(2026, 3, day, 12, tzinfo=UTC))
    client = signed_in(VIEW)

    with CaptureQueriesContext(
        connection,
    ) as queries:
        html = page(client, LIST)

    links = re.findall(r"created_at__day=(\d+)", html)
    assert links == ["3", "4", "5"]
    assert not [query for query in queries if "DISTINCT" in query["sql"].upper()]
    day = {"created_at__year": "2026", "created_at__month": "3", "created_at__day": "5"}
    assert len(client.get(LIST, day).context_data["cl"].result_list) == 2


def test_a_long_history_is_offered_by_years_and_months() -> None:
    """Years first, then months, then days."""
    for year in (2024, 2026):
        IdempotencyKeyFactory(completed=True, created_at=datetime(year, 2, 14, tzinfo=UTC))
    client = signed_in(VIEW)

    assert re.findall(r"created_at__year=(\d+)\"", page(client, LIST)) == ["2024", "2025", "2026"]
    html = page(client, LIST, {"created_at__year": "2024"})
    assert "All dates" in html
    assert "February 2024" in html
    html = page(client, LIST, {"created_at__year": "2024", "created_at__month": "2"})
    assert "February 14" in html
    assert "February 13" not in html


# -- search


@pytest.fixture
def searched() -> None:
    user = User.objects.create_user("teashop", pk=4711)
    IdempotencyKeyFactory(key="mine", scope=f"user:{user.pk}", path="/refunds/9/")
    IdempotencyKeyFactory(key='say "hi"', scope="tenant:7", request_id="req-1")
    retried = IdempotencyKeyFactory(key="retried", scope="tenant:8")
    KeyEventFactory(key=retried, request_id="req-of-the-retry")


@pytest.mark.parametrize(
    ("term", "keys"),
    [
        ("mine", {"mine"}),
        (" mine ", {"mine"}),
        ('"mine"', {"mine"}),
        ('say "hi"', {'say "hi"'}),
        (r'"say \"hi\""', {'say "hi"'}),
        ("min", set()),
        ("tenant:7", {'say "hi"'}),
        ("tenant", set()),
        ("user:4711", {"mine"}),
        ("teashop", {"mine"}),
        ("/refunds/", {"mine"}),
        ("req-1", {'say "hi"'}),
        ("req-of-the-retry", {"retried"}),
        ("%", set()),
    ],
)
@pytest.mark.usefixtures("searched")
def test_search_understands_what_people_are_given(term: str, keys: set[str]) -> None:
    """The whole key as it was sent, a client, a user's name, a request id, a path's beginning."""
    assert shown({"q": term}) == keys


# -- scale


def count_queries(rows: int, query: dict[str, str]) -> int:
    for number in range(rows):
        user = User.objects.create_user(f"user-{rows}-{number}")
        key = IdempotencyKeyFactory(completed=True, scope=f"user:{user.pk}")
        used(key, "replayed", "conflict")
    client = signed_in(VIEW)
    page(client, LIST)  # caches fill: content types, the spark of past days
    with CaptureQueriesContext(connection) as queries:
        client.get(LIST, query | {"all": ""})
    return len(queries)


@pytest.mark.parametrize("query", [{}, {"state": "completed"}, {"conflicts": "yes"}])
def test_the_number_of_queries_does_not_depend_on_the_rows(query: dict[str, str]) -> None:
    """One key or a hundred with events, tallies and users: the same."""
    assert count_queries(1, query) == count_queries(99, query) <= 26


def test_bodies_are_not_read_for_the_list(key: IdempotencyKey) -> None:
    """A page of fifty 4 MiB bodies would not be quick."""
    client = signed_in(VIEW)
    with CaptureQueriesContext(connection) as queries:
        page(client, LIST)

    for column in ("response_body", "response_headers", "request_record"):
        assert not [query for query in queries if f'"{column}"' in query["sql"]]


def test_more_keys_than_are_counted_are_said_to_be_more(monkeypatch: Any) -> None:
    """The count stops at its limit; the page says so."""
    monkeypatch.setattr(changelist, "COUNTED", 60)
    IdempotencyKeyFactory.create_batch(61, completed=True)
    client = signed_in(VIEW)

    assert "More than 60 keys match." in page(client, LIST)
    assert "More than" not in page(client, LIST, {"state": "unfinished"})


@pytest.mark.parametrize(
    "query", [{"response": "4xx"}, {"replayed": "no"}, {"o": "-6"}, {"q": "/payments/"}]
)
def test_what_no_index_finds_is_looked_for_among_the_latest_keys(
    query: dict[str, str], monkeypatch: Any
) -> None:
    """Older keys are left out, and the page says so; a date leads back to them."""
    monkeypatch.setattr(changelist, "SCANNED", 3)
    monkeypatch.setattr(changelist, "SCANNED_TALLIES", 3)
    for age in range(5):
        IdempotencyKeyFactory(
            key=f"{age} days",
            completed=True,
            response_status=402,
            created_at=datetime(2026, 3, 9, 12, tzinfo=UTC) - timedelta(days=age),
        )
    client = signed_in(VIEW)

    response = client.get(LIST, query)

    found = {key.key for key in response.context_data["cl"].result_list}
    assert found == {"0 days", "1 days", "2 days"}
    assert "Only the latest 3 keys were looked through." in response.content.decode()
    day = {"created_at__year": "2026", "created_at__month": "3", "created_at__day": "5"}
    assert shown(query | day) == {"4 days"}
    assert "looked through" not in page(client, LIST, query | day)


@pytest.mark.parametrize("query", [{}, {"conflicts": "no"}, {"client": "user:1"}, {"since": "14d"}])
def test_what_an_index_finds_is_found_among_all_keys(
    query: dict[str, str], monkeypatch: Any
) -> None:
    """However many there are."""
    monkeypatch.setattr(changelist, "SCANNED", 1)
    monkeypatch.setattr(changelist, "SCANNED_TALLIES", 1)
    IdempotencyKeyFactory.create_batch(4, completed=True)

    assert len(shown(query)) == 4


# -- bad input


@pytest.mark.parametrize(
    "query",
    [
        {"state": "bogus"},
        {"conflicts": "\x00"},
        {"client": "\x00"},
        {"endpoint": "a\x00b"},
        {"client": "x" * 5000},
        {"q": "\x00"},
        {"q": "'; DROP TABLE x; --"},
        {"q": '"'},
        {"p": "-1"},
        {"p": "999999999999999999999999"},
        {"p": "1e5"},
        {"o": "99.-99.x.%00"},
        {"o": "-6.1"},
        {"created_at__year": "x"},
        {"created_at__year": "9999"},
        {"created_at__year": "0"},
        {"created_at__year": "1"},
        {"created_at__year": "2026", "created_at__month": "13"},
        {"created_at__year": "2026", "created_at__month": "2", "created_at__day": "30"},
        {"created_at__month": "13"},
        {"created_at__day": "٣"},
        {"created_at__gte": "x"},
        {"created_at__gte": "\x00"},
        {"created_at__gte": "0001-01-01"},
        {"created_at__lt": "9999-12-31 23:59:59.999999"},
        {"created_at__gte": "2026-01-01", "response": "4xx"},
        {"all": ""},
        {"e": "1", "state": "bogus"},
        {"_popup": "1"},
        {"_facets": "True"},
    ],
)
def test_no_query_string_makes_an_error(query: dict[str, str], key: IdempotencyKey) -> None:
    """What makes no sense is left out, by a redirect, or finds nothing."""
    response = signed_in(VIEW).get(LIST, query, follow=True)

    assert response.status_code == 200


def test_columns_are_no_oracle(key: IdempotencyKey) -> None:
    """Django allows lookups on any column; here they would tell what is in a body."""
    client = signed_in(VIEW)

    for lookup in ("response_body__contains", "request_record__contains", "key", "pk", "seed"):
        assert client.get(LIST, {lookup: "x"}).status_code == 400, lookup
