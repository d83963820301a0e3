"""Checks W002 to W006: what a database keeps less of, and hints that mend it when pasted."""

from __future__ import annotations

import ast
import re
import time
from collections.abc import Iterator
from typing import Any

import pytest
from django.core.checks import run_checks
from django.core.management import call_command
from django.db import connection, connections

from django_idempotency import checks
from tests.conformance.views_more import Gate
from tests.orders.models import Order
from tests.sender import Sender, new_key
from tests.test_checks import ids

PATIENCE = 20.0  # seconds


def found() -> list[Any]:
    return checks.check_database(databases=["default"])


def options_of(hint: str | None) -> dict[str, Any]:
    """The OPTIONS that a hint says to set, as whoever pastes them has them."""
    pasted = re.search(r'"OPTIONS": (\{.*?\})', hint or "")
    assert pasted is not None, hint
    return dict(ast.literal_eval(pasted[1]))


@pytest.fixture
def entry(transactional_db: None) -> Iterator[dict[str, Any]]:
    """The database's entry in the settings, for this test; the next connection obeys it."""
    entry = connection.settings_dict
    usual = dict(entry["OPTIONS"])
    connection.close()
    yield entry["OPTIONS"]
    connection.close()
    entry["OPTIONS"] = usual


def without_timeouts(options: dict[str, Any]) -> None:
    options.pop("init_command", None)
    if connection.vendor == "postgresql":
        names = ("idle_in_transaction_session_timeout", "client_connection_check_interval")
        options["options"] = "-c statement_timeout=50s " + " ".join(f"-c {n}=0" for n in names)


@pytest.mark.django_db
def test_each_database_says_what_it_keeps_less_of() -> None:
    """PostgreSQL nothing; the others one warning each, which says how to silence it."""
    weaker = {"postgresql": [], "sqlite": ["W004"], "mysql": ["W005"]}[connection.vendor]
    said = [message for message in found() if message.id[-4:] in {"W004", "W005"}]

    assert ids(said) == weaker
    for message in said:
        assert f'SILENCED_SYSTEM_CHECKS = ["{message.id}"]' in (message.hint or "")


@pytest.mark.django_db
def test_a_warning_that_is_silenced_is_not_shown(settings: Any, capsys: Any) -> None:
    """By the setting that the hint names."""
    shown = {message.id for message in run_checks(databases=["default"])}
    settings.SILENCED_SYSTEM_CHECKS = sorted(shown)

    call_command("check", databases=["default"], fail_level="WARNING")

    assert f"({len(shown)} silenced)" in "".join(capsys.readouterr())


def test_without_a_connection_nothing_is_asked() -> None:
    """A plain ``check`` opens none; pytest-django would refuse one here."""
    assert checks.check_database(databases=None) == []
    assert checks.check_database(databases=["other"]) == []


@pytest.mark.postgres
def test_one_hint_sets_all_time_outs(entry: dict[str, Any]) -> None:
    """W002, W003: both show the same line; pasted, it ends both and keeps what was there."""
    without_timeouts(entry)
    first, second = found()
    assert ids([first, second]) == ["W002", "W003"]
    pasted = options_of(first.hint)
    assert pasted == options_of(second.hint)

    connection.close()
    entry.update(pasted)

    assert found() == []
    with connection.cursor() as cursor:
        cursor.execute("SHOW statement_timeout")
        assert cursor.fetchone() == ("50s",)


@pytest.mark.postgres
@pytest.mark.parametrize("spelling", ["-c {}=30s", "-c{}=30s", "--{}=30s"])
def test_a_time_out_that_is_set_stays_as_it_is(entry: dict[str, Any], spelling: str) -> None:
    """The hint adds the missing one."""
    entry["options"] = "-c client_connection_check_interval=0 " + spelling.format(
        "idle_in_transaction_session_timeout"
    )

    (message,) = found()

    assert ids([message]) == ["W003"]
    assert "idle_in_transaction_session_timeout=30s" in options_of(message.hint)["options"]
    connection.close()
    entry.update(options_of(message.hint))
    assert found() == []


@pytest.mark.skipif(connection.vendor != "mysql", reason="asks for variables of MySQL")
@pytest.mark.parametrize(
    ("is_mariadb", "variable"), [(True, "idle_transaction_timeout"), (False, "wait_timeout")]
)
@pytest.mark.parametrize(
    "command", [None, "SET SESSION lock_wait_timeout = 7", 'SET @a = "b", lock_wait_timeout = 7']
)
def test_the_time_out_of_mysql_is_asked_for(
    entry: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
    is_mariadb: bool,
    variable: str,
    command: str | None,
) -> None:
    """W006: pasted, the hint ends it and keeps the command that was there; MariaDB has both."""
    if is_mariadb and not connections["default"].mysql_is_mariadb:
        pytest.skip("this MySQL lacks the variable of MariaDB")
    monkeypatch.setitem(vars(connections["default"]), "mysql_is_mariadb", is_mariadb)
    without_timeouts(entry)
    if command:
        entry["init_command"] = command
    (message,) = (message for message in found() if message.id.endswith("W006"))

    connection.close()
    entry.update(options_of(message.hint))

    assert ids(found()) == ["W005"]
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT @@{variable}, @@lock_wait_timeout = 7")
        assert cursor.fetchone() == (60, bool(command))


@pytest.mark.skipif(connection.vendor != "mysql", reason="asks for variables of MySQL")
@pytest.mark.parametrize(
    "command", ["SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED", "SET @a = 1; SET @b = 2"]
)
def test_what_cannot_be_added_to_is_left_alone(entry: dict[str, Any], command: str) -> None:
    """The hint names the variable, and shows no command that the server would refuse."""
    without_timeouts(entry)
    entry["init_command"] = command.partition(";")[0]
    connection.ensure_connection()
    entry["init_command"] = command

    hint = next(message.hint for message in found() if message.id.endswith("W006"))

    assert "SESSION idle_transaction_timeout = 60" in (hint or "")
    assert '"OPTIONS": {' not in (hint or "")


@pytest.mark.skipif(connection.vendor != "mysql", reason="asks for variables of MySQL")
@pytest.mark.parametrize("others", ["", ", SESSION wait_timeout = 60"])
def test_mysqls_patience_is_asked_for(
    entry: dict[str, Any], monkeypatch: pytest.MonkeyPatch, others: str
) -> None:
    """W009, and its hint ends it. MariaDB has the variable, and bounds single statements."""
    entry["init_command"] = f"SET SESSION innodb_lock_wait_timeout = 50{others}"
    with monkeypatch.context() as patch:
        patch.setitem(vars(connections["default"]), "mysql_is_mariadb", True)
        assert "W009" not in ids(found())
    monkeypatch.setitem(vars(connections["default"]), "mysql_is_mariadb", False)
    connection.close()
    messages = found()
    assert ids(messages) == ["W005", *["W006"] * (not others), "W009"]

    connection.close()
    entry.update(options_of(messages[-1].hint))

    assert ids(found()) == ["W005"]


@pytest.mark.row_locks
def test_the_time_out_of_the_hint_frees_the_key_of_a_worker_that_hangs(
    entry: dict[str, Any], send: Sender, after: Any
) -> None:
    """Another request may run while the first still hangs, and only that one counts."""
    without_timeouts(entry)
    hint = next(message.hint for message in found() if message.id[-4:] in {"W002", "W006"})
    connection.close()
    entry.update(
        {
            name: re.sub(r"\b60(?=s|$)", "1", value)  # nobody has time for the usual minute
            for name, value in options_of(hint).items()
        }
    )
    key, gate = new_key(), Gate()
    after(gate)

    with gate.hold("/plain/", key=key) as first:
        after(lambda request, order: None)
        deadline = time.monotonic() + PATIENCE
        while (second := send("/plain/", key=key)).status_code == 409:
            assert time.monotonic() < deadline, "the key of the hung worker is still locked"
        assert second.status_code == 201
        hung = first.answer()

    assert hung.status_code in {500, 503}
    assert Order.objects.count() == 1


def test_what_commits_by_itself_is_as_the_warning_says(send: Any, after: Any) -> None:
    """W005: of a view that raises after a CREATE TABLE, MySQL keeps what came before."""

    def fail(request: Any, order: Order) -> None:
        with connection.cursor() as cursor:
            cursor.execute("CREATE TABLE made_by_a_view (id integer)")
        raise RuntimeError

    after(fail)
    try:
        assert send("/plain/", key=new_key()).status_code == 500
        assert Order.objects.exists() == (connection.vendor == "mysql")
    finally:
        with connection.cursor() as cursor:
            cursor.execute("DROP TABLE IF EXISTS made_by_a_view")
