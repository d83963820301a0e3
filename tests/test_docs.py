"""The documents say what the code does: their examples run, their lists are complete."""

from __future__ import annotations

import ast
import json
import re
import sys
from collections.abc import Iterator
from dataclasses import fields
from datetime import timedelta
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from django import forms
from django.core.management import get_commands, load_command_class
from django.urls import include, path
from rest_framework.routers import SimpleRouter

import django_idempotency
from django_idempotency import checks, exceptions
from django_idempotency.conf import Settings
from django_idempotency.contrib.outbound import handlers
from django_idempotency.exceptions import IdempotencyError
from django_idempotency.models import IdempotencyKey
from django_idempotency.policy import Policy
from django_idempotency.signals import RequestDetails
from tests.orders.models import Order
from tests.orders.views import OrderSerializer
from tests.sender import Sender, new_key

ROOT = Path(__file__).resolve().parent.parent
DOCS = ROOT / "docs"
README = ROOT / "README.md"
PAGES = [README, ROOT / "CHANGELOG.md", *sorted(DOCS.rglob("*.md"))]
PROBLEMS = {
    value.slug: value
    for value in vars(exceptions).values()
    if isinstance(value, type) and issubclass(value, IdempotencyError) and "slug" in vars(value)
    if value is not IdempotencyError
}

every_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)


def blocks(page: Path, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", page.read_text(), re.DOTALL | re.MULTILINE)


def python_blocks() -> list[Any]:
    return [
        pytest.param(block, id=f"{page.stem}-{number}")
        for page in PAGES
        for number, block in enumerate(blocks(page, "python"))
    ]


def run(block: str) -> dict[str, Any]:
    names: dict[str, Any] = {"__name__": "shop.example"}
    exec(compile(block, "<example>", "exec"), names)  # noqa: S102 - our own documents
    return names


@pytest.fixture(autouse=True)
def _shop(monkeypatch: pytest.MonkeyPatch) -> None:
    """The names that the examples import: their shop is the tests' app."""
    known: dict[str, dict[str, Any]] = {
        "shop": {},
        "shop.models": {"Order": Order},
        "shop.forms": {"OrderForm": object},
        "shop.serializers": {"OrderSerializer": OrderSerializer},
        "shop.gateway": {"charge": lambda order, idempotency_key: None},
        "shop.outbound": {"charge": lambda intent: None},
        "celery": {"shared_task": lambda **options: lambda task: task},
        "stripe": {"CardError": OSError, "InvalidRequestError": ValueError},
        "corsheaders": {},
        "corsheaders.defaults": {"default_headers": ("accept",)},
    }
    for name, members in known.items():
        module = ModuleType(name)
        vars(module).update(members)
        monkeypatch.setitem(sys.modules, name, module)
    monkeypatch.setattr(handlers, "handlers", {})  # what the examples register is not kept


# -- examples


@pytest.mark.parametrize("block", python_blocks())
def test_every_python_example_runs(block: str) -> None:
    """What a reader copies can be imported as it stands."""
    assert run(block)


def requests_of_the_readme() -> Iterator[tuple[str, str, dict[str, Any], int, bool]]:
    """(path, key, body, status, replayed) of each request in the README's proof."""
    (proof,) = blocks(README, "http")
    form = re.compile(
        r"POST (?P<path>\S+)\nIdempotency-Key: (?P<key>\S+)\n(?P<body>\{.*\})\n"
        r"→ (?P<status>\d+)(?P<replayed> Idempotent-Replayed: true)?"
    )
    for request in proof.strip().split("\n\n"):
        found = form.fullmatch(request)
        assert found is not None, request
        body = json.loads(found["body"])
        yield found["path"], found["key"], body, int(found["status"]), bool(found["replayed"])


def serve(settings: Any, pattern: Any) -> None:
    urls: Any = ModuleType("shop.urls")
    urls.urlpatterns = [pattern]
    settings.ROOT_URLCONF = urls


def test_the_three_requests_of_the_readme_get_the_answers_it_shows(
    send: Sender, settings: Any
) -> None:
    """201, the same again with the marker, 422; one order is placed."""
    router = SimpleRouter()
    router.register("orders", run(blocks(README, "python")[0])["OrderViewSet"])
    serve(settings, path("", include(router.urls)))
    shown = list(requests_of_the_readme())

    answers = [send(where, body, key=key) for where, key, body, _, _ in shown]

    seen = [(answer.status_code, "Idempotent-Replayed" in answer) for answer in answers]
    assert seen == [(201, False), (201, True), (422, False)]
    assert seen == [(status, replayed) for *_, status, replayed in shown]
    assert answers[1].content == answers[0].content
    assert Order.objects.count() == 1


def test_the_decorated_view_of_the_readme_places_one_order(send: Sender, settings: Any) -> None:
    """Without a key 400; with one, twice, a single order."""
    (example,) = [block for block in blocks(README, "python") if "place_order" in block]
    serve(settings, path("place/", run(example)["place_order"]))
    form: Any = {"body": "sku=tea", "content_type": "application/x-www-form-urlencoded"}
    key = new_key()

    assert send("/place/", **form).status_code == 400
    assert [send("/place/", **form, key=key).status_code for _ in range(2)] == [201, 201]
    assert Order.objects.count() == 1


def test_the_form_of_the_views_page_keeps_its_key(
    settings: Any, send: Sender, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A new key, the same one on the page with the mistake, one order for two clicks."""

    class OrderForm(forms.ModelForm):  # type: ignore[type-arg]
        class Meta:
            model = Order
            fields = ("sku", "qty")

        def save(self, commit: bool = True) -> str:
            return f"/thanks/{super().save(commit).pk}/"

    monkeypatch.setattr(sys.modules["shop.forms"], "OrderForm", OrderForm)
    page = "<input name=idempotency_key value={{ idempotency_key }}>{{ form.errors }}"
    loader = ("django.template.loaders.locmem.Loader", {"order.html": page})
    backend = "django.template.backends.django.DjangoTemplates"
    settings.TEMPLATES = [{"BACKEND": backend, "OPTIONS": {"loaders": [loader]}}]
    (example,) = [block for block in blocks(DOCS / "views.md", "python") if "Undone(" in block]
    serve(settings, path("order/", run(example)["order"]))

    def post(key: str, qty: str) -> Any:
        return send.client.post("/order/", {"idempotency_key": key, "sku": "tea", "qty": qty})

    def key_in(answer: Any) -> str:
        (key,) = re.findall(r"value=([\w-]+)", answer.content.decode())
        return str(key)

    keys = [key_in(send.client.get("/order/")) for _ in range(2)]
    assert keys[0] != keys[1]
    mistaken = post(keys[0], "many")
    assert (mistaken.status_code, key_in(mistaken)) == (200, keys[0])
    assert "errorlist" in mistaken.content.decode()

    clicks = [post(keys[0], "2") for _ in range(2)]

    assert [(click.status_code, click["Location"]) for click in clicks] == [
        (302, f"/thanks/{Order.objects.get().pk}/")
    ] * 2
    assert post("", "2").json()["code"] == "idempotency_key_invalid"
    assert post(keys[0], "3").json()["code"] == "idempotency_key_reused"
    assert Order.objects.count() == 1


def test_a_visitor_of_the_tenants_view_is_turned_away(send: Sender, settings: Any) -> None:
    """By its permission, before the hook asks for a tenant that is not there."""
    (example,) = [block for block in blocks(DOCS / "views.md", "python") if "tenant_id" in block]
    view = run(example)["TenantOrderViewSet"]
    serve(settings, path("orders/", view.as_view({"post": "create"})))

    assert send("/orders/", key=new_key()).status_code == 401
    assert not Order.objects.exists()


def test_the_readme_names_the_apps_to_install(settings: Any) -> None:
    """Step 1 is what these tests themselves run with."""
    (example,) = [block for block in blocks(README, "python") if "INSTALLED_APPS" in block]

    assert set(run(example)["INSTALLED_APPS"]) <= set(settings.INSTALLED_APPS)


def test_the_readme_names_commands_of_the_makefile() -> None:
    """Whoever types ``make demo`` or ``make test`` finds the target."""
    named = set(re.findall(r"`make (\w+)`", README.read_text()))
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))

    assert {"demo", "test"} <= named <= targets


def test_the_readme_says_the_sentence_of_the_package() -> None:
    """The promise is worded once."""
    sentence = "Return a response and it is final; raise, and it never happened."

    assert sentence in README.read_text()
    assert sentence in (django_idempotency.__doc__ or "")


# -- lists


def documented_settings() -> dict[str, str]:
    """{name: what stands after **Default:**} of the settings page."""
    text = (DOCS / "settings.md").read_text()
    sections = re.findall(r"^### (\w+)\n(.*?)(?=^##|\Z)", text, re.DOTALL | re.MULTILINE)
    assert len(sections) == len(dict(sections)), "a setting is documented twice"
    defaults = {}
    for name, section in sections:
        found = re.search(r"^\*\*Default:\*\* `([^`]+)`", section, re.MULTILINE)
        assert found is not None, f"{name} has no default"
        defaults[name] = found[1]
    return defaults


def test_every_setting_is_documented_and_no_other() -> None:
    """The page and the dataclass name the same settings."""
    assert set(documented_settings()) == {field.name for field in fields(Settings)}


@pytest.mark.parametrize("field", fields(Settings), ids=lambda field: field.name)
def test_a_documented_default_is_the_one_in_force(field: Any) -> None:
    """The page's literal, evaluated, is the field's default."""
    literal = documented_settings()[field.name]
    names = {"timedelta": timedelta, "frozenset": frozenset, "__builtins__": {}}

    assert eval(literal, names) == field.default  # noqa: S307 - our own documents


def test_every_problem_has_a_page_and_every_page_a_problem() -> None:
    """A problem's ``type`` leads somewhere, and nothing is described that cannot happen."""
    assert {page.stem for page in (DOCS / "problems").glob("*.md")} == set(PROBLEMS)


@pytest.mark.parametrize("slug", sorted(PROBLEMS))
def test_a_problem_page_states_title_status_code_and_retry(slug: str) -> None:
    """Its head is what the answer holds, and it says what to send next."""
    problem = PROBLEMS[slug]()
    retry = "" if problem.retry_after is None else f", `Retry-After: {problem.retry_after}`"
    head = f"# {problem.title}\n\nStatus {int(problem.status)}, code `{problem.code}`{retry}.\n"
    page = (DOCS / "problems" / f"{slug}.md").read_text()

    assert page.startswith(head)
    assert "## What happened" in page
    assert "## What to send next" in page


def test_the_table_of_errors_lists_every_problem_with_its_status() -> None:
    """One row per problem."""
    rows = re.findall(
        r"^\| \[([a-z-]+)\]\(\S+\) \| (\d+) \|", (DOCS / "errors.md").read_text(), re.M
    )

    assert sorted(rows) == sorted((slug, str(int(cls.status))) for slug, cls in PROBLEMS.items())


def checks_in_source() -> list[str]:
    """Ids as literals in the checks, one entry for each place that issues one."""
    sources = [path.read_text() for path in Path(checks.__file__).parent.glob("*.py")]
    texts = [
        node.value
        for source in sources
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    ]
    found = [re.fullmatch(r"(?:django_idempotency\.)?([EW]\d{3})", text) for text in texts]
    return [match[1] for match in found if match]


def test_every_check_is_documented_and_no_other() -> None:
    """The page and the checks name the same ids."""
    ids = re.findall(r"^\| `django_idempotency\.(\w+)`", (DOCS / "checks.md").read_text(), re.M)

    assert sorted(ids) == sorted(set(checks_in_source()))


def test_a_check_id_means_one_thing() -> None:
    """No id is issued for two findings; E003 says one thing, of the vendor and of its version."""
    ids = checks_in_source()

    assert {number for number in ids if ids.count(number) > 1} <= {"E003"}


def test_every_policy_is_documented_and_no_other() -> None:
    """The table of policies names the decorator's arguments."""
    section = (DOCS / "views.md").read_text().partition("## Policies")[2].partition("\n## ")[0]
    named = re.findall(r"^\| `(\w+)` \|", section, re.MULTILINE)

    assert sorted(named) == sorted(field.name for field in fields(Policy))


def test_every_option_of_the_purge_is_documented_and_no_other() -> None:
    """The table of options is what the command takes."""
    name = "purge_idempotency_keys"
    command = load_command_class(get_commands()[name], name)
    usual = {"--help", "-h", "--version", "--verbosity", "-v", "--settings", "--pythonpath"}
    usual |= {"--traceback", "--no-color", "--force-color", "--skip-checks"}
    taken = set(command.create_parser("manage.py", name)._option_string_actions) - usual
    page = (DOCS / "operations.md").read_text()

    assert set(re.findall(r"^\| `(--[a-z-]+)` \|", page, re.MULTILINE)) == taken


def test_the_fields_of_a_log_line_are_documented(send: Sender, caplog: Any) -> None:
    """The sample and the table name what a real line holds, in its order."""
    caplog.set_level("INFO", logger="django_idempotency")
    send("/apiview/", key=new_key())
    logged = re.findall(r" (\w+)=", caplog.messages[0])
    page = (DOCS / "operations.md").read_text()
    (sample,) = blocks(DOCS / "operations.md", "text")
    table = page.partition("## Logs")[2].partition("\n## ")[0]

    assert re.findall(r" (\w+)=", sample) == logged
    assert re.findall(r"^\| `(\w+)` \|", table, re.MULTILINE) == logged


def test_the_details_of_a_signal_are_documented() -> None:
    """Each field of ``RequestDetails`` stands on the page."""
    page = (DOCS / "operations.md").read_text()

    assert [field.name for field in fields(RequestDetails) if f"`{field.name}`" not in page] == []


def test_the_tables_named_in_the_statements_exist() -> None:
    """A reader finds the tables under the names that he saw."""
    tables = {IdempotencyKey._meta.db_table, "django_idempotency_keytally"}

    assert (
        set(re.findall(r"django_idempotency_\w+", (DOCS / "how-it-works.md").read_text())) == tables
    )


# -- the documents among themselves


def anchors(page: Path) -> set[str]:
    heads = re.findall(r"^#+ (.+)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", head.lower()).replace(" ", "-") for head in heads}


@every_page
def test_links_lead_somewhere(page: Path) -> None:
    """Files exist, and so do the headings in them."""
    broken = []
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text()):
        if target.startswith("https://"):
            continue
        name, _, anchor = target.partition("#")
        linked = (page.parent / name).resolve() if name else page
        if not linked.is_file() or (anchor and anchor not in anchors(linked)):
            broken.append(target)
    assert broken == []


def test_every_page_can_be_reached_from_the_readme() -> None:
    """No page is an orphan."""
    reached, waiting = set(), [README]
    while waiting:
        page = waiting.pop()
        reached.add(page)
        links = re.findall(r"\]\(([^)\s#]+\.md)", page.read_text())
        linked = {(page.parent / link).resolve() for link in links}
        waiting += linked - reached
    assert reached == set(PAGES)


def test_the_changelog_knows_this_version() -> None:
    """The version in the package is one that the changelog describes."""
    assert django_idempotency.__version__ in (ROOT / "CHANGELOG.md").read_text()
