"""Security rows S18-S20, S22, S27, S28, S30: what tests elsewhere do not say yet.

Which row has which tests is what ``tests/test_security_table.py`` finds out.
"""

from __future__ import annotations

import ast
import json
import sys
import time
from datetime import timedelta
from importlib.metadata import requires
from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth import get_user_model
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import include, path
from rest_framework.views import APIView

import django_idempotency
from django_idempotency import IdempotentMixin, idempotent
from django_idempotency.admin import changelist
from django_idempotency.admin.filters import RECENT
from django_idempotency.models import IdempotencyKey
from django_idempotency.protocol import key_id
from tests.conformance.views_more import Background, Gate, user_and_token
from tests.factories import IdempotencyKeyFactory
from tests.orders.models import Order
from tests.orders.views import drf_answer, plain_answer
from tests.sender import Sender, new_key

LIST = "/admin/django_idempotency/idempotencykey/"
SCANNED = 500


def tenant(request: Any) -> str:
    """As a site for several tenants has it: of the host, and then of the user."""
    return f"{request.get_host()} {request.user.pk}"


class OfTenant(IdempotentMixin, APIView):
    def post(self, request: Any) -> Any:
        return drf_answer(request)

    def get_idempotency_scope(self, request: Any) -> str:
        return tenant(request)


urlpatterns = [
    path("tenant/", OfTenant.as_view()),
    path("tenant-plain/", idempotent(scope=tenant)(plain_answer)),
    path("", include("tests.urls")),
]
pytestmark = pytest.mark.urls(__name__)


def is_replay(response: Any) -> bool:
    return bool(response.get("Idempotent-Replayed") == "true")


# -- S30


@pytest.mark.parametrize("way", ["/tenant/", "/tenant-plain/"])
def test_s30_two_tenants_share_nothing(send: Any, settings: Any, way: str) -> None:
    """S30: one user id, one key, one body, two hosts: two orders, two answers."""
    settings.ALLOWED_HOSTS = ["a.example", "b.example"]
    user, _ = user_and_token("alice")
    send.client.force_login(user)
    key = new_key()

    first, second = (send(way, key=key, Host=host) for host in settings.ALLOWED_HOSTS)
    retries = [send(way, key=key, Host=host) for host in settings.ALLOWED_HOSTS]

    assert first.content != second.content
    assert [retry.content for retry in retries] == [first.content, second.content]
    assert Order.objects.count() == 2


# -- S28


def test_s28_it_needs_django_and_rest_framework_alone() -> None:
    """S28: by what the package declares, and by what its modules import."""
    needed = [line for line in requires("django-idempotency") or () if "extra ==" not in line]
    names = sorted(line.partition(">")[0] for line in needed)
    assert names == ["django", "djangorestframework"]

    known = {*sys.stdlib_module_names, "django", "rest_framework", "asgiref", "django_idempotency"}
    package = Path(django_idempotency.__file__).parent
    assert imported(package) - imported(package / "client") <= known  # the client is an extra
    assert not imported(Path(__file__).parent) <= known  # a control: pytest is no such module


def imported(directory: Path) -> set[str]:
    """The packages that the modules in ``directory`` import, anywhere in them."""
    nodes = [
        node for file in directory.rglob("*.py") for node in ast.walk(ast.parse(file.read_text()))
    ]
    plain = [name.name for node in nodes if isinstance(node, ast.Import) for name in node.names]
    parts = [n.module or "" for n in nodes if isinstance(n, ast.ImportFrom) and not n.level]
    return {name.partition(".")[0] for name in (*plain, *parts)}


# -- S19


@pytest.mark.postgres
@pytest.mark.parametrize("way", ["/apiview/", "/plain/"])
def test_s19_a_pile_up_of_twins_costs_others_nothing(send: Any, after: Any, way: str) -> None:
    """S19: fifty twins of a request that stands in its view: each is told at once to come back."""
    key, gate = new_key(), Gate()
    after(gate)

    with gate.hold(way, key=key) as first:
        began = time.perf_counter()
        twins = [Background(way, key=key) for _ in range(50)]
        took = []
        for _ in range(10):
            started = time.perf_counter()
            assert send("/unprotected/").status_code == 201
            took.append(time.perf_counter() - started)
        statuses = {twin.answer().status_code for twin in twins}
        assert time.perf_counter() - began < 10  # the first still stands there
        assert statuses == {409}
        assert first.answer().status_code == 201

    assert sorted(took)[len(took) // 2] < 0.5
    assert Order.objects.count() == 11


# -- S18, S20


@pytest.mark.parametrize("way", ["/apiview/", "/plain/", "/async/"])
@pytest.mark.parametrize("over", [0, 1])
def test_s18_one_byte_over_the_limit_runs_nothing(
    send: Any, settings: Any, way: str, over: int
) -> None:
    """S18: refused before the view, with a key as without; never run unprotected."""
    body, key = json.dumps({"sku": "tea", "qty": 1}), new_key()
    settings.DATA_UPLOAD_MAX_MEMORY_SIZE = len(body) - over
    without_key = send(way, body).status_code
    runs = without_key == 201
    Order.objects.all().delete()

    statuses = [send(way, body, key=key).status_code for _ in range(2)]

    assert statuses == [without_key] * 2
    # REST framework asks for the limit since 3.17.2.
    assert runs or (over and 400 <= without_key < 500)
    assert not (runs and over) or way == "/apiview/"
    assert Order.objects.count() == runs
    assert IdempotencyKey.objects.completed().count() == runs


def test_s20_what_is_exhausted_is_refused_at_once(send: Any, after: Any) -> None:
    """S20: within 50 ms, the view is not reached, whatever it would do."""
    key, reached = new_key(), []
    after(lambda request, order: reached.append(order) or 1 / 0)
    send("/plain/", key=key)
    IdempotencyKey.objects.update(attempts=50)
    reached.clear()

    took = []
    for _ in range(5):
        began = time.perf_counter()
        assert send("/plain/", key=key).json()["code"] == "idempotency_attempts_exhausted"
        took.append(time.perf_counter() - began)

    assert not reached
    assert min(took) < 0.05  # the quickest of five: a busy machine may delay the others


# -- S22, S27


@pytest.mark.django_db
def test_s22_nobody_gets_in_without_a_permission() -> None:
    """S22: staff with permissions of another app: 403 on every page, and nothing of a key."""
    IdempotencyKey.objects.all().delete()
    Sender()("/plain/", key="c4nary-of-the-admin-1")
    row, client = IdempotencyKey.objects.get(), Client()
    client.force_login(get_user_model().objects.create_user("clerk", is_staff=True))

    for page in ("", f"{row.pk}/change/", f"{row.pk}/response/", f"{row.pk}/history/", "overview/"):
        answer = client.get(f"{LIST}{page}")
        assert answer.status_code == 403, page
        assert b"c4nary" not in answer.content


@pytest.fixture
def many_keys(transactional_db: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ten times as many as are looked through, so that reading them all would be seen."""
    monkeypatch.setattr(changelist, "SCANNED", SCANNED)
    sample = IdempotencyKeyFactory.build()
    past = sample.created_at - timedelta(days=30)
    rows = []
    for number in range(10 * SCANNED):
        key, scope = f"key-{number}", f"user:{number % 97}"
        values = {"id": key_id(scope, key), "scope": scope, "key": key, "seed": sample.seed}
        at = past + timedelta(seconds=number)
        values |= {"created_at": at, "expires_at": at + timedelta(days=1), "path": "/a/"}
        rows.append(IdempotencyKey(fingerprint="f", method="POST", route="a/", **values))
    IdempotencyKey.objects.bulk_create(rows)
    with connection.cursor() as cursor:
        cursor.execute("ANALYZE")


@pytest.mark.postgres
@pytest.mark.usefixtures("many_keys")
def test_s27_a_search_reads_no_table_whole() -> None:
    """S27: what is asked of the keys goes by an index or ends at a limit, whatever is typed."""
    client = Client()
    client.force_login(get_user_model().objects.create_superuser("root"))
    table = IdempotencyKey._meta.db_table

    for term in ("key-9999", "user:13", "no-such-thing", "/b/", "%%%_%", "k" * 3000):
        with CaptureQueriesContext(connection) as captured:
            assert client.get(LIST, {"q": term}).status_code == 200
        texts = [q["sql"] for q in captured.captured_queries if f'FROM "{table}"' in q["sql"]]
        assert texts
        assert most_read(texts) <= max(SCANNED, RECENT) + 200, term
    unindexed = str(IdempotencyKey.objects.filter(duration_ms=1).order_by().query)
    assert most_read([unindexed]) == 10 * SCANNED  # a control


def most_read(statements: list[str]) -> int:
    """The greatest number of rows that a scan of any of them yields or throws away."""
    most = 0
    with connection.cursor() as cursor:
        for text in statements:
            cursor.execute(f"EXPLAIN (ANALYZE, FORMAT JSON) {text}")
            left = [cursor.fetchone()[0][0]["Plan"]]
            while left:
                plan = left.pop()
                left += plan.get("Plans", [])
                if "Scan" in plan["Node Type"]:
                    rows = plan["Actual Rows"] + plan.get("Rows Removed by Filter", 0)
                    most = max(most, int(rows * plan["Actual Loops"]))
    return most
