"""Whoever types the Quickstart into a blank project gets what it says, and can test it.

On PostgreSQL with the page's settings for PostgreSQL, anywhere else with those for SQLite.
"""

from __future__ import annotations

import os
import re
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import requests

from tests.newcomer import ADMIN, Block, Newcomer, blocks_of, curl
from tests.scratch import private_directory

DOCS = Path(__file__).resolve().parent.parent / "docs"
ON_POSTGRES = os.environ.get("TEST_DB", "postgres") == "postgres"
OTHER = "transaction_mode" if ON_POSTGRES else "postgresql"  # settings that are not ours
KEYS = "/admin/django_idempotency/idempotencykey/"
LOG_LINE = re.compile(r"^idempotency outcome=(\w+) code=(\S+) ", re.MULTILINE)

pytestmark = pytest.mark.slow


@contextmanager
def database(newcomer: Newcomer) -> Iterator[None]:
    """``createdb shop``, under a name that nobody else has, and what libpq must know."""
    if not ON_POSTGRES:
        yield
        return
    import psycopg  # here: SQLite's tests need none

    newcomer.database = f"shop_{uuid.uuid4().hex}"
    with psycopg.connect(os.environ["DATABASE_URL"], autocommit=True) as server:
        info = server.info
        told = {"PGHOST": info.host, "PGPORT": str(info.port), "PGUSER": info.user}
        newcomer.environment = {**told, "PGPASSWORD": info.password}
        server.execute(f"CREATE DATABASE {newcomer.database}")  # type: ignore[call-overload]
        try:
            yield
        finally:
            for name in (newcomer.database, f"test_{newcomer.database}"):
                server.execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")  # type: ignore[call-overload]


def typed(block: Block) -> bool:
    return block.path is not None and OTHER not in block.text


@pytest.fixture(scope="module")
def newcomer() -> Iterator[Newcomer]:
    """The project that stands when the Quickstart says ``runserver``."""
    with private_directory("idem-newcomer-") as directory:
        newcomer = Newcomer(directory)
        with database(newcomer):
            for block in blocks_of(DOCS / "quickstart.md"):
                for command in block.commands if block.language == "console" else ():
                    if command == "python manage.py runserver":
                        yield newcomer
                        return
                    newcomer.type(command)
                if typed(block):
                    newcomer.write(block)
            pytest.fail("The Quickstart does not start a server.")


@pytest.fixture
def shop(newcomer: Newcomer) -> Iterator[str]:
    """Its server, with the log as the operations page shows it."""
    (logging,) = [b for b in blocks_of(DOCS / "operations.md") if "LOGGING" in b.text]
    settings = newcomer.directory / "mysite" / "settings.py"
    before = settings.read_text()
    newcomer.append("mysite/settings.py", logging.text)
    with newcomer.server() as url:
        yield url
    settings.write_text(before)


def three_requests(url: str) -> list[requests.Response]:
    page = blocks_of(DOCS / "quickstart.md")
    (block,) = [b for b in page if b.commands and "curl" in b.text]
    variables, answers = {}, []
    for command in block.commands:
        if command.startswith("curl "):
            answers.append(curl(command, variables, url))
        else:
            name, _, value = command.partition("=")
            variables[name] = value
    return answers


def test_the_three_requests_get_what_the_page_says(newcomer: Newcomer, shop: str) -> None:
    """One order, a replay, a refusal; the log and the admin tell of them."""
    answers = three_requests(shop)

    seen = [(a.status_code, a.headers.get("Idempotent-Replayed")) for a in answers]
    assert seen == [(201, None), (201, "true"), (422, None)]
    assert answers[1].content == answers[0].content
    assert answers[2].json()["type"].endswith("/key-reused")
    (key,) = {answer.headers["Idempotency-Key"] for answer in answers}
    orders = requests.get(f"{shop}/orders/", timeout=30).json()
    assert [(order["sku"], order["qty"]) for order in orders] == [("tea", 1)]

    log = (newcomer.directory / "server.log").read_text()
    assert LOG_LINE.findall(log) == [
        ("executed", "-"),
        ("replayed", "-"),
        ("conflict", "idempotency_key_reused"),
    ]
    overview, story = in_the_admin(shop)
    assert key in overview
    assert "replayed 1 time" in story
    assert "qty changed" in story


def in_the_admin(url: str) -> tuple[str, str]:
    """The list of keys, and the text of the one key's page, as the superuser sees them."""
    with requests.Session() as browser:
        where = f"{url}/admin/login/?next={KEYS}"
        browser.get(where, timeout=30)
        form = {"username": ADMIN["USERNAME"], "password": ADMIN["PASSWORD"]}
        form["csrfmiddlewaretoken"] = browser.cookies["csrftoken"]
        overview = browser.post(where, data=form, timeout=30)
        (link,) = set(re.findall(rf'href="({KEYS}[0-9a-f-]+/change/[^"]*)"', overview.text))
        story = browser.get(url + link, timeout=30).text
        return overview.text, re.sub(r"(<[^>]+>|\s)+", " ", story)


def test_the_examples_of_the_testing_page_pass(newcomer: Newcomer) -> None:
    """All of them, in one file, as the page says; a database without row locks skips one."""
    page = [b for b in blocks_of(DOCS / "testing.md") if b.language == "python"]
    for block in page:
        if block.path is not None and not ON_POSTGRES:
            newcomer.write(block)
    tests = [b.text for b in page if b.path is None and "import pytest" not in b.text]
    (newcomer.directory / "shop" / "tests.py").write_text("\n".join(tests))

    said = newcomer.run("python", "manage.py", "test", "-v", "2")

    expected = sum(text.count("    def test_") for text in tests)
    assert f"Ran {expected} tests" in said
    assert ("OK\n" if ON_POSTGRES else "OK (skipped=1)") in said
    assert expected == 11
