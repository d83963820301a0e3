"""``make mutate`` takes minutes; what can be checked of it in a second is checked here."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.proof import mutations
from tests.proof.mutants import Mutant
from tests.proof.mutants_more import MUTANTS


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_the_patch_still_applies_and_compiles(mutant: Mutant, tmp_path: Path) -> None:
    """Each text is there once, and what comes of it is Python."""
    for name in {name for name, _, _ in mutant.changes}:
        (tmp_path / name).write_text((mutations.ROOT / mutations.PACKAGE / name).read_text())

    mutations.apply(mutant, tmp_path)

    for path in tmp_path.iterdir():
        compile(path.read_text(), path.name, "exec")
        assert path.read_text() != (mutations.ROOT / mutations.PACKAGE / path.name).read_text()


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_the_tests_that_must_notice_exist(mutant: Mutant) -> None:
    """By file and function; parameters are for ``make mutate`` to check."""
    assert mutant.killers
    for killer in mutant.killers:
        path, _, name = killer.partition("::")
        function = name.partition("[")[0]
        assert re.search(rf"^def {function}\(", (mutations.ROOT / path).read_text(), re.MULTILINE)


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_the_page_about_the_proof_names_it(mutant: Mutant) -> None:
    """With the tests that find it."""
    names = ", ".join(re.sub(r"^.*::test_|\[.*", "", killer) for killer in mutant.killers)
    row = f"| {mutant.name} | {names} |"
    assert row in (mutations.ROOT / "docs" / "proof.md").read_text().replace("`", "").splitlines()


@pytest.mark.parametrize("text", ["nowhere in the file", "return"])
def test_a_stale_patch_is_refused(text: str, tmp_path: Path) -> None:
    """Negative control: a text that is missing, or not unique, is no patch."""
    (tmp_path / "a.py").write_text("def f():\n    return 1\n\ndef g():\n    return 2\n")

    with pytest.raises(mutations.DoesNotApply, match=r"occurs [02] times in a\.py"):
        mutations.apply(Mutant("stale", (), (("a.py", text, "x"),)), tmp_path)


def test_names_are_unique_and_many() -> None:
    assert len({mutant.name for mutant in MUTANTS}) == len(MUTANTS) >= 14


def test_only_a_failure_counts(tmp_path: Path) -> None:
    """Negative control: what passes, is skipped, cannot start or is missing shows nothing."""
    (tmp_path / "report.xml").write_text(
        '<testsuite><testcase classname="t" name="a[1]"><failure/></testcase>'
        '<testcase classname="t" name="a[2]"/><testcase classname="t" name="b"/>'
        '<testcase classname="t" name="c"><error/></testcase>'
        '<testcase classname="t" name="d"><skipped/></testcase></testsuite>'
    )
    found = dict(mutations._outcomes(tmp_path / "report.xml"))

    verdicts = {name: mutations._verdict(f"t.py::{name}", found) for name in "abcde"}

    assert verdicts == {
        "a": "failed",
        "b": "passed",
        **dict.fromkeys("cde", "did not run"),
    }
