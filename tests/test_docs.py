"""The documents say what the code does: their lists are complete, their links lead somewhere."""

from __future__ import annotations

import ast
import json
import re
from dataclasses import fields
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

import django_idempotency
from django_idempotency import checks
from django_idempotency.conf import Settings
from django_idempotency.models import IdempotencyKey
from django_idempotency.policy import Policy
from tests.documents import DOCS, PAGES, PROBLEMS, README, ROOT
from tests.sender import Sender, new_key

every_page = pytest.mark.parametrize("document", PAGES, ids=lambda document: document.stem)


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


def test_the_tables_named_in_the_statements_exist() -> None:
    """A reader finds the tables under the names that he saw."""
    tables = {IdempotencyKey._meta.db_table, "django_idempotency_keytally"}

    assert (
        set(re.findall(r"django_idempotency_\w+", (DOCS / "how-it-works.md").read_text())) == tables
    )


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


# -- the documents among themselves


def anchors(page: Path) -> set[str]:
    """Those of its headings; a comment in a block of code is none."""
    text = re.sub(r"^```.*?^```", "", page.read_text(), flags=re.DOTALL | re.MULTILINE)
    heads = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", head.lower()).replace(" ", "-") for head in heads}


@every_page
def test_links_lead_somewhere(document: Path) -> None:
    """Files exist, and so do the headings in them."""
    broken = []
    for target in re.findall(r"\]\(([^)\s]+)\)", document.read_text()):
        if target.startswith("https://"):
            continue
        name, _, anchor = target.partition("#")
        linked = (document.parent / name).resolve() if name else document
        if not linked.is_file() or (anchor and anchor not in anchors(linked)):
            broken.append(target)
    assert broken == []


def test_the_list_of_the_readme_names_every_page() -> None:
    """It is the index: what is not in it is not found. Problems are listed by the errors page."""
    listed = README.read_text().partition("\n## Documentation\n")[2]

    assert set(re.findall(r"\]\(docs/([a-z-]+\.md)\)", listed)) == {
        page.name for page in DOCS.glob("*.md")
    }


def test_the_readme_is_short_and_shows_the_admin() -> None:
    """It is read before anything is installed."""
    text = README.read_text()

    assert len(text.splitlines()) <= 200
    pictures = re.findall(r"\[!\[[^\]]+\]\((\S+)\)\]\(docs/admin\.md#[\w-]+\)", text)
    assert len(set(pictures)) == 3
    assert all((ROOT / picture).is_file() for picture in pictures)


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


def test_the_answer_on_the_errors_page_is_a_real_one(send: Sender) -> None:
    """Its headers and members, but for the key and the end of the sentence."""
    (shown,) = re.findall(r"^```http\n(.*?)^```", (DOCS / "errors.md").read_text(), re.S | re.M)
    head, _, body = shown.partition("\n\n")
    status, *headers = head.splitlines()
    key = new_key()
    send("/apiview/", key=key)

    answer = send("/apiview/", {"sku": "other"}, key=key)

    assert status.split()[1] == str(answer.status_code)
    for header in headers:
        name, _, value = header.partition(": ")
        assert answer[name] == (key if name == "Idempotency-Key" else value)
    members, real = json.loads(body), answer.json()
    assert real.pop("detail").startswith(members.pop("detail").removesuffix(" …"))
    assert members == real
