"""What the operations page says of the purge, the log and the signals is so."""

from __future__ import annotations

import re
from dataclasses import fields
from typing import Any

import pytest
from django.core.management import get_commands, load_command_class
from django.http import HttpResponse

from django_idempotency import Undone, signals
from django_idempotency.models import IdempotencyKey
from django_idempotency.signals import RequestDetails
from tests.documents import DOCS, PROBLEMS, blocks
from tests.sender import Sender, new_key


def logged(caplog: Any) -> list[str]:
    """Our lines; Django's own log of refused requests is captured, too."""
    return [r.getMessage() for r in caplog.records if r.name == "django_idempotency"]


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
    """The samples and the table name what a real line holds, in its order."""
    caplog.set_level("INFO", logger="django_idempotency")
    send("/apiview/", key=new_key())
    send("/required/")
    page = (DOCS / "operations.md").read_text()
    samples = blocks(DOCS / "operations.md", "text")
    table = page.partition("## Logs")[2].partition("\n## ")[0]

    lines = logged(caplog)
    for line, sample in zip(lines, samples, strict=True):
        assert re.findall(r" (\w+)=", sample) == re.findall(r" (\w+)=", line)
    assert re.findall(r"^\| `(\w+)` \|", table, re.MULTILINE) == re.findall(r" (\w+)=", samples[0])
    without_ms = re.compile(r" ms=\d+\s*$")
    assert without_ms.sub("", lines[1]) == without_ms.sub("", samples[1])


@pytest.mark.parametrize(
    ("path", "setting", "key"),
    [
        ("/required/", {}, None),
        ("/apiview/", {}, "two words"),
        ("/apiview/", {}, "short"),
        ("/apiview/", {"ANONYMOUS": "reject"}, new_key()),
    ],
    ids=["key-missing", "key-invalid", "key-too-short", "anonymous"],
)
def test_what_is_refused_before_its_key_is_logged_and_nothing_else(
    request: Any, send: Sender, settings: Any, caplog: Any, path: str, setting: Any, key: Any
) -> None:
    """No signal, no row: as the page says of these four, and of no other."""
    slug = request.node.callspec.id
    told: list[Any] = []

    def listen(**kwargs: Any) -> None:
        told.append(kwargs)

    caplog.set_level("INFO", logger="django_idempotency")
    settings.IDEMPOTENCY = setting
    signals.request_refused.connect(listen)
    try:
        answer = send(path, key=key)
    finally:
        signals.request_refused.disconnect(listen)

    code = answer.json()["code"]
    assert code == PROBLEMS[slug]().code
    assert [f"code={code} key=- scope=- route=- " in line for line in logged(caplog)] == [True]
    assert told == []
    assert not IdempotencyKey.objects.exists()
    assert f"*{slug}*" in (DOCS / "operations.md").read_text()


def test_an_undone_answer_is_logged_and_counted_as_a_failure(
    send: Sender, after: Any, caplog: Any
) -> None:
    """With its own status, as the operations page says."""

    def shown_again(request: Any, order: Any) -> None:
        raise Undone(HttpResponse("again", status=200))

    caplog.set_level("INFO", logger="django_idempotency")
    after(shown_again)
    send("/plain/", key=new_key())

    assert re.search(r"outcome=failed code=- .* status=200 ", logged(caplog)[0])
    key = IdempotencyKey.objects.get()
    assert (key.failure_count, [event.status for event in key.events.all()]) == (1, [200])


def test_the_details_of_a_signal_are_documented() -> None:
    """Each field of ``RequestDetails`` stands on the page."""
    page = (DOCS / "operations.md").read_text()

    assert [field.name for field in fields(RequestDetails) if f"`{field.name}`" not in page] == []
