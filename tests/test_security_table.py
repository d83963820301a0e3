"""Each row of the security table has its tests; each statement of docs/security.md, too.

python -m tests.test_security_table     prints the rows with their tests
"""

from __future__ import annotations

import ast
import re
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

TESTS = Path(__file__).resolve().parent
PAGE = TESTS.parent / "docs" / "security.md"
THREATS = {
    "S1": "another caller replays my key and reads my response",
    "S2": "another caller claims my key before me",
    "S3": "a replay to one who has lost the right to it",
    "S4": "answers tell that a foreign key exists",
    "S5": "keys that can be guessed",
    "S6": "one key in several spellings, or two keys in one request",
    "S7": "keys of hostile bytes, or endless ones",
    "S8": "one key for another request",
    "S9": "two requests with one fingerprint",
    "S10": "values guessed from the fingerprints of a leaked table",
    "S11": "personal data at rest",
    "S12": "cookies stored and replayed",
    "S13": "replays that skip the CSRF check",
    "S14": "pages with a CSRF token stored",
    "S15": "headers injected through stored ones",
    "S16": "pickles in the store",
    "S17": "a table filled with keys",
    "S18": "huge bodies and responses",
    "S19": "a pile-up of twins",
    "S20": "a request that kills its worker each time",
    "S21": "script in the admin, formulas in its exports",
    "S22": "staff who see or change more than they may",
    "S23": "forged lines and keys in the log",
    "S24": "keys found by the time an answer takes",
    "S25": "replays and refusals in shared caches",
    "S26": "bytes that are taken for another type",
    "S27": "searches that read the whole table",
    "S28": "dependencies that nobody has looked at",
    "S29": "one-time tokens at rest",
    "S30": "tenants that share a database",
    "S31": "protection that gives way when the store fails",
}


def every_test() -> dict[str, ast.FunctionDef]:
    """All tests by name, of all files."""
    return {
        node.name: node
        for file in sorted(TESTS.rglob("test_*.py"))
        for node in ast.walk(ast.parse(file.read_text()))
        if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")
    }


def rows_of(name: str) -> list[str]:
    """``test_s1_s2_a_key_is`` is of the rows S1 and S2."""
    found = re.match(r"test((?:_s\d+)+)_", name)
    return [] if found is None else found[1].upper().strip("_").split("_")


def table() -> dict[str, list[str]]:
    found: dict[str, list[str]] = defaultdict(list)
    for name in every_test():
        for row in rows_of(name):
            found[row].append(name)
    return found


def test_every_row_has_a_test_and_no_test_another_row() -> None:
    """By the tests' names."""
    assert set(table()) == set(THREATS)


# -- docs/security.md: after each statement stands, as a comment, who proves it


def statements() -> Iterator[tuple[str, list[str]]]:
    """(text, tests) of each paragraph and each point of a list."""
    text = re.sub(r"^```.*?^```\n", "", PAGE.read_text(), flags=re.MULTILINE | re.DOTALL)
    for block in re.split(r"\n\n|\n(?=- )", text):
        if block.strip() and not block.startswith(("#", "|")):
            comments = re.findall(r"<!-- (.*?) -->", block, re.DOTALL)
            yield block.strip(), " ".join(comments).split()


def test_each_statement_of_the_page_is_tested() -> None:
    """What it promises to a user has a test, and that test exists."""
    known = every_test()
    found = list(statements())
    assert len(found) > 20
    for text, names in found:
        assert names, f"nobody proves: {text}"
        assert not [name for name in names if name not in known], text


def test_the_page_speaks_of_each_row() -> None:
    """No threat is passed over."""
    spoken = {row for _, names in statements() for name in names for row in rows_of(name)}

    assert spoken == set(THREATS)


def test_the_page_is_short() -> None:
    """One can read it before a release."""
    assert len(PAGE.read_text().splitlines()) < 150


if __name__ == "__main__":
    for row, names in sorted(table().items(), key=lambda item: int(item[0][1:])):
        print(f"{row}: {THREATS[row]}", *names, sep="\n    ")  # noqa: T201 - a command
