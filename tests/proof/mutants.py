"""Faults that somebody could plant in the package, each with the tests that must notice it."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["LOCKS", "TRANSACTION", "C", "Mutant", "S", "mutant"]

C = "tests/conformance/"
S = "tests/test_second_lines.py::"
T = "tests/proof/test_take_overs.py::"


@dataclass(frozen=True, slots=True)
class Mutant:
    """``changes`` are (file in the package, old text, new text); each old text occurs once."""

    name: str
    killers: tuple[str, ...]  # node ids; every one of them must fail
    changes: tuple[tuple[str, str, str], ...]


def mutant(name: str, killers: str | tuple[str, ...], *changes: tuple[str, str, str]) -> Mutant:
    return Mutant(name, (killers,) if isinstance(killers, str) else killers, changes)


# What follows the engine's transaction, and the block inside, which two mutants take apart.
_PATIENCE = (
    "                if ours and patience and (isinstance(decision, InFlight) or "
    "store.is_free(record)):\n"
)
_EXECUTION = """\
                        response, stored = codec.dump(execute(record.attempt, store))
                        if request.is_final(stored.status):
                            store.complete(stored, duration_ms=trail.duration_ms)
                            trail.became(Outcome.EXECUTED, stored.status)
                        else:
                            store.abandon()
                            trail.became(Outcome.FAILED, stored.status)
                        return response
"""

TRANSACTION = (
    mutant(
        "render after commit",
        C + "test_errors.py::test_e8_a_response_that_cannot_be_rendered_undoes_the_view[/apiview/]",
        (
            "engine.py",
            _EXECUTION,
            "                        answer = execute(record.attempt, store)\n",
        ),
        (
            "engine.py",
            _PATIENCE,
            "                if isinstance(decision, Execute):\n"
            "                    response, stored = codec.dump(answer)\n"
            "                    store.complete(stored, duration_ms=trail.duration_ms)\n"
            "                    trail.became(Outcome.EXECUTED, stored.status)\n"
            "                    return response\n" + _PATIENCE,
        ),
    ),
    mutant(
        "response stored outside the transaction",
        C + "test_crashes.py::test_x2_killed_after_the_commit[/apiview/]",
        (
            "engine.py",
            _EXECUTION,
            "                        answer, stored = codec.dump(execute(record.attempt, store))\n"
            "                        if not request.is_final(stored.status):\n"
            "                            store.abandon()\n",
        ),
        (
            "engine.py",
            _PATIENCE,
            "                if isinstance(decision, Execute):\n"
            "                    if request.is_final(stored.status):\n"
            "                        store.complete(stored, duration_ms=trail.duration_ms)\n"
            "                    trail.became(Outcome.EXECUTED, stored.status)\n"
            "                    return answer\n" + _PATIENCE,
        ),
    ),
    mutant(
        "no transaction around the view",
        C + "test_first_and_replay.py::test_e5_an_exception_undoes_everything_and_frees_the_key"
        "[/plain/]",
        (
            "store.py",
            "                    self._listen()\n"
            "                    yield found\n"
            "                    committing = True\n",
            "                    self._listen()\n"
            "                yield found\n"
            "                committing = True\n",
        ),
    ),
    mutant(
        "claim not committed first",
        C + "test_crashes.py::test_x3_killed_between_claim_and_work[/apiview/]",
        (
            "engine.py",
            "    with Trail(store, events=events) as trail:\n",
            "    from django.db import transaction\n\n"
            "    with transaction.atomic(using=store.alias), "
            "Trail(store, events=events) as trail:\n",
        ),
        ("store.py", "        self._refuse_enclosing_transaction()\n", ""),
        ("store.py", "durable=True)\n", "durable=False)\n"),
    ),
    mutant(
        "clean-up of the claim in an except",
        C + "test_commit.py::test_x8_lost_after_the_commit_it_took_place[/apiview/]",
        (
            "store.py",
            "            except (OperationalError, InterfaceError, InternalError) as error:\n",
            "            except (OperationalError, InterfaceError, InternalError) as error:\n"
            "                IdempotencyKey.objects.filter(pk=self.request.id).delete()\n",
        ),
    ),
    mutant(
        "swallowed store error",
        "tests/test_traps.py::test_a_swallowed_database_error_is_no_phantom_success",
        (
            "store.py",
            "            raise BrokenTransaction from error\n        if not stored:\n",
            "            return self.abandon()\n",
        ),
    ),
    mutant(
        "a key deleted while its request ran",
        "tests/proof/test_model_races.py::test_a_key_that_vanished_undoes_its_request",
        ("store.py", "        if not stored:\n", "        if False:\n"),
    ),
    mutant(
        "returned 5xx committed",
        C + "test_errors.py::test_e6_a_returned_5xx",
        ("store.py", "set_rollback(True, using=self.alias)", "get_rollback(self.alias)"),
    ),
    mutant(
        "NEVER_STORE ignored",
        C + "test_errors.py::test_e4_some_returned_statuses_are_never_stored",
        ("protocol.py", " or status in self.never_store:", ":"),
    ),
    mutant(
        "conflict counted inside the request's transaction",
        C + "test_first_and_replay.py::test_m1_another_body_is_refused_and_recorded",
        (
            "engine.py",
            "        trail.conflicted(record)\n        raise KeyReused",
            "        trail.conflicted(record)\n"
            "        with trail.store._transaction():\n"
            "            trail._note()\n"
            "            trail.outcome = Outcome.REFUSED\n"
            "            raise KeyReused",
        ),
    ),
    mutant(
        "the wish not to flush outlives the claim",
        "tests/proof/test_model_races.py::test_the_commit_of_a_request_is_flushed",
        (
            "sql.py",
            "set_config('synchronous_commit', 'off', true)",
            "set_config('synchronous_commit', 'off', false)",
        ),
    ),
    mutant(
        "claims and counts wait for the disk",
        "tests/test_statements.py::test_only_the_request_itself_waits_for_the_disk",
        (
            "sql.py",
            """_UNFLUSHED = "set_config('synchronous_commit', 'off', true) = 'off'\"""",
            '_UNFLUSHED = "true"',
        ),
    ),
    mutant(
        "the limit of a claim's wait outlives the claim",
        "tests/test_databases.py::test_a_claim_does_not_shorten_what_the_view_waits",
        ("sql.py", "'{LOCK_TIMEOUT}', true)", "'{LOCK_TIMEOUT}', false)"),
    ),
    mutant(
        "a lost commit is called undone",
        C + "test_commit.py::test_x8_lost_after_the_commit_it_took_place[/apiview/]",
        ("store.py", "unknown = committing and is_lost(error)", "unknown = False"),
    ),
    mutant(
        "an error after the commit is called undone",
        "tests/test_traps_database.py::test_a_database_error_after_the_commit_undoes_nothing",
        ("store.py", "if self.committed or not is_transient", "if not is_transient"),
    ),
    mutant(
        "a time-out of the server is the view's fault",
        "tests/test_traps_database.py"
        "::test_a_transaction_that_was_idle_for_too_long_is_a_failure_of_the_server",
        ("failures.py", "return sqlstate(error) in _ENDED", "return False"),
    ),
    mutant(
        "a serialization failure of the claim is final",
        "tests/proof/test_model_races.py::test_what_cannot_be_serialized_is_tried_again",
        ("store.py", "ATTEMPTS_TO_CLAIM = 3", "ATTEMPTS_TO_CLAIM = 1"),
    ),
    mutant(
        "a count that cannot be serialized is lost",
        "tests/test_databases.py::test_replays_of_a_hot_key_are_all_counted"
        "[repeatable read, of every statement]",
        (
            "rows.py",
            "                if not may_begin_again(error):\n",
            "                if True:\n",
        ),
    ),
)

LOCKS = (
    mutant(
        "no row lock",
        C + "test_concurrency.py::test_c1_a_twin_in_flight_is_refused_at_once[/apiview/]",
        ("statements.py", "if not features.has_select_for_update:", "if True:"),
    ),
    mutant(
        "a claim inserts before it looks",
        "tests/test_races.py::test_a_twin_does_not_wait_for_a_commit",
        ("sql.py", "WHERE NOT EXISTS (SELECT 1 FROM found) ", "WHERE TRUE "),
    ),
    mutant(
        "the lock is waited for",
        C + "test_concurrency.py::test_c1_a_twin_in_flight_is_refused_at_once[/apiview/]",
        ("sql.py", "FOR NO KEY UPDATE SKIP LOCKED", "FOR NO KEY UPDATE"),
    ),
    mutant(
        "not judged again under the lock",
        "tests/proof/test_model_races.py::test_what_completed_before_the_lock_is_replayed",
        (
            "engine.py",
            "                    decision = decide(record)  # it may have completed meanwhile\n",
            "",
        ),
    ),
    mutant(
        "begin again without its compare-and-set",
        "tests/proof/test_model_races.py::test_of_twins_that_begin_again_one_is_counted",
        ("statements.py", "AND {attempts} = %s AND {seed}", "AND {attempts} <> -(%s) AND {seed}"),
    ),
    mutant(
        "take-over waits for the lock",
        C + "test_mismatch.py::test_m15_a_mismatch_is_told_while_the_first_is_in_flight[/apiview/]",
        ("sql.py", "WHERE {seen} FOR NO KEY UPDATE SKIP LOCKED", "WHERE {seen}"),
    ),
    mutant(
        "take-over of what completed meanwhile",
        T + "test_nobody_takes_over_a_first_execution_that_completed_meanwhile",
        (
            "statements.py",
            'finished = "IS NOT NULL" if expired else "IS NULL"',
            'finished = "IS NOT DISTINCT FROM completed_at"',
        ),
    ),
    mutant(
        "take-over of what a twin made new",
        (
            "tests/proof/test_model_races.py::test_an_expired_key_that_a_twin_made_new_is_replayed",
            S + "test_a_take_over_does_not_rely_on_an_old_look",
        ),
        ("statements.py", "AND {seed} = %s ", "AND ({seed} = %s OR TRUE) "),
    ),
    mutant(
        "take-over without a second look",
        T + "test_who_meets_a_take_over_hears_whose_the_key_is_then",
        ("store.py", "and found.attempt == seen.attempt:", "and False:"),
    ),
    mutant(
        "an expired key that is held is refused for good",
        T + "test_an_expired_key_that_is_held_is_in_flight",
        ("store.py", "(found.expired or self.rows", "(self.rows"),
    ),
    mutant(
        "take-over keeps the outbound seed",
        "tests/proof/test_model_races.py::test_another_request_has_other_outbound_keys",
        (
            "rows.py",
            "*(self._uuid(request.seed), number,",
            "*(self._uuid(seen.attempt.seed), number,",
        ),
    ),
    mutant(
        "no patience with who only looks",
        "tests/proof/test_model_races.py::test_an_owner_waits_for_who_is_only_looking",
        ("engine.py", "_PATIENCE = 3", "_PATIENCE = 0"),
    ),
    mutant(
        "the purge does not pass over what is locked",
        "tests/test_purge.py::test_a_key_in_flight_is_never_purged",
        ("upkeep.py", "return keys.select_for_update(skip_locked=skip)", "return keys"),
    ),
    mutant(
        "crashes are not counted",
        C + "test_crashes.py::test_s20_a_request_that_kills_its_workers_is_not_tried_for_ever"
        "[/apiview/]",
        ("store.py", "return begun >= limit and", "return False and"),
    ),
    mutant(
        "failures count as crashes",
        C + "test_crashes.py::test_s20_a_request_that_kills_its_workers_is_not_tried_for_ever"
        "[/apiview/]",
        ("store.py", "begun - self.rows.accounted() >= limit", "begun >= limit"),
    ),
    mutant(
        "crashes of a forgotten key count for the next",
        "tests/proof/test_overtaken.py::test_crashes_of_a_forgotten_key_are_not_those_of_the_next",
        ("store.py", "if self._is_exhausted(found):", "if self._is_exhausted(seen):"),
    ),
    mutant(
        "upkeep's lock is taken for another request's",
        "tests/proof/test_overtaken.py::test_a_key_that_is_being_deleted_refuses_nobody_for_good",
        ("store.py", "(found.expired or self.rows.is_being_deleted())", "found.expired"),
    ),
)
