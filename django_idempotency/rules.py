"""Rules for values that people write: each says what is wrong with one, or nothing."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Collection, Mapping
from datetime import timedelta
from typing import Any

from django.utils.module_loading import import_string

__all__ = [
    "Rule",
    "address",
    "boolean",
    "called",
    "calls",
    "cure",
    "duration",
    "header",
    "methods",
    "names",
    "one_of",
    "optional",
    "pattern",
    "secret_list",
    "statuses",
    "text",
    "whole",
]

_NAMES = "must be a list, tuple or set of strings"
_PATH = "a function that takes the request, or the dotted path of one"
_DURATION = "must be a datetime.timedelta"

UUID = "uuid"  # stands for the form of one, in KEY_PATTERN
LONGEST = timedelta(days=36_500)  # a century; the databases' calendars end some time

Rule = Callable[[Any], "str | None"]  # what is wrong with a value; None = nothing


def cure(wrong: str, value: Any) -> str:
    """What to write instead of a value that a rule refused; "" where nobody can guess."""
    if wrong == _NAMES and isinstance(value, str) and value:
        return f"Write [{value!r}]."
    if wrong == _DURATION and isinstance(value, (int, float)):
        return f"Write timedelta(seconds={value})."
    if isinstance(value, str) and value.lower() == UUID:
        return f"Write {UUID!r}."
    if wrong.endswith(_PATH) and isinstance(value, str):
        try:
            import_string(value)
        except ImportError as error:
            return f"It cannot be imported: {error}. A path is written 'package.module.function'."
    return ""


def one_of(*allowed: object) -> Rule:
    spelled = ", ".join(repr(value) for value in allowed)
    return lambda value: None if value in allowed else f"must be one of {spelled}"


def boolean(value: Any) -> str | None:
    return None if isinstance(value, bool) else "must be True or False"


def whole(least: int, most: int) -> Rule:
    def rule(value: Any) -> str | None:
        fits = isinstance(value, int) and not isinstance(value, bool) and least <= value <= most
        return None if fits else f"must be a whole number from {least} to {most}"

    return rule


def optional(rule: Rule) -> Rule:
    """None, or what ``rule`` allows."""

    def either(value: Any) -> str | None:
        wrong = None if value is None else rule(value)
        return wrong and wrong.replace("must be", "must be None or", 1)

    return either


def duration(value: Any) -> str | None:
    if not isinstance(value, timedelta):
        return _DURATION
    if value <= timedelta(0):
        return "must be longer than zero"
    return None if value <= LONGEST else f"must be no longer than {LONGEST.days} days"


def text(value: Any) -> str | None:
    return None if isinstance(value, str) and value else "must be a non-empty string"


def address(value: Any) -> str | None:
    """What a name is appended to."""
    fits = isinstance(value, str) and value.endswith(("/", "#", "="))
    return None if fits else 'must be an address that ends with "/", "#" or "="'


def header(value: Any) -> str | None:
    """A request header of one's own, as it is sent."""
    if not isinstance(value, str) or re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9-]*", value) is None:
        # Servers drop headers with an underscore: it could be mistaken for a hyphen.
        return "must be a header's name as it is sent: letters, digits and hyphens"
    taken = value.lower() in {"authorization", "content-length", "content-type", "cookie", "host"}
    return "must be a header that has no other use" if taken else None


def names(value: Any) -> str | None:
    is_list = isinstance(value, Collection) and not isinstance(value, (str, bytes, Mapping))
    fits = is_list and all(isinstance(name, str) and name for name in value)
    return None if fits else _NAMES


def methods(value: Any) -> str | None:
    allowed = {"POST", "PATCH", "PUT", "DELETE"}
    fits = names(value) is None and value and set(value) <= allowed
    return None if fits else "must name some of POST, PATCH, PUT, DELETE"


def statuses(value: Any) -> str | None:
    fits = isinstance(value, Collection) and all(
        isinstance(status, int) and 400 <= status <= 599 for status in value
    )
    # A 201 or a redirect to the thanks would be given, and what it announces rolled back.
    return None if fits else "must be a set of HTTP statuses from 400 to 599"


def pattern(value: Any) -> str | None:
    if value is None or value == UUID:
        return None
    try:
        # In other letters the word would be an expression that no key fits.
        if isinstance(value, str) and value.lower() != UUID:
            re.compile(value)
            return None
    except re.error:
        pass
    return 'must be None, "uuid" or a regular expression in a string'


def called(*arguments: str) -> Rule:
    """A function that can be called with ``arguments``, whose names are for the message."""

    def rule(value: Any) -> str | None:
        if not callable(value):
            return "must be a function"
        if inspect.iscoroutinefunction(value):
            return "must not be async: it is called like any function, by async views, too"
        try:
            inspect.signature(value).bind(*arguments)
        except TypeError:
            return f"must be callable with {' and '.join(arguments)}"
        except ValueError:
            pass  # written in C: it does not say what it takes
        return None

    return rule


def calls(*words: str | None) -> Rule:
    """One of ``words``, a function of the request, or the path that it is imported by."""
    fits = called("request")

    def rule(value: Any) -> str | None:
        if value in words:
            return None
        try:
            found = import_string(value) if isinstance(value, str) else value
        except ImportError:
            found = None
        spelled = ", ".join(repr(word) for word in words)
        return fits(found) if callable(found) else f"must be {spelled}, {_PATH}"

    return rule


def secret_list(value: Any) -> str | None:
    if value is None:
        return None
    fits = names(value) is None and isinstance(value, (list, tuple)) and value
    return None if fits else "must be None or a non-empty list of strings, the current one first"
