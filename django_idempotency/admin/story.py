"""What happened to a key, told from its row and its events: values in, texts out, no HTML."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import TYPE_CHECKING

from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from django_idempotency.protocol import Outcome

from .spelling import age, duration
from .states import IN_PROGRESS_FOR

if TYPE_CHECKING:
    from django_idempotency.conf import Settings
    from django_idempotency.models import IdempotencyKey, KeyEvent

__all__ = [
    "Life",
    "Mark",
    "Phrase",
    "State",
    "Strip",
    "life_of",
    "own_mark",
    "sentence",
    "strip",
]

STRIP_LENGTH = 8  # marks in the list, so that its columns fit 1440 px; the rest is a number


class State(StrEnum):
    """What the row says of its request."""

    COMPLETED = "completed"
    # Begun a short while ago, and not known to have failed: probably running. Nobody can see
    # another worker's lock without taking it, and taking it would refuse a retry.
    IN_PROGRESS = "in_progress"
    UNFINISHED = "unfinished"  # failed, or begun so long ago that its worker died; free


class Mark(StrEnum):
    """What stands for one use of a key."""

    EXECUTED = Outcome.EXECUTED
    REPLAYED = Outcome.REPLAYED
    IN_FLIGHT = Outcome.IN_FLIGHT
    CONFLICT = Outcome.CONFLICT
    FAILED = Outcome.FAILED
    BEGUN = "begun"
    EXPIRES = "expires"


@dataclass(frozen=True, slots=True, kw_only=True)
class Life:
    """The facts of one key. ``now`` is the database's, as are all times."""

    now: datetime
    created_at: datetime
    expires_at: datetime
    completed_at: datetime | None
    status: int | None
    duration_ms: int | None
    replays: int
    conflicts: int
    in_flight: int
    failures: int
    given_way: int  # to a twin that was quicker
    attempts: int
    reusable: bool  # ON_EXPIRED="execute": an expired key runs again
    max_crashes: int

    @property
    def state(self) -> State:
        if self.completed_at is not None:
            return State.COMPLETED
        young = self.now - self.created_at < IN_PROGRESS_FOR
        return State.IN_PROGRESS if young and not self.all_ended else State.UNFINISHED

    @property
    def all_ended(self) -> bool:
        """Whether each execution that was begun is known to have failed, or to have given way."""
        return self.failures + self.given_way >= self.attempts

    @property
    def silent(self) -> int:
        """Executions that were begun, are not running, and neither succeeded nor failed."""
        accounted = self.failures + self.given_way + (self.state is not State.UNFINISHED)
        return max(self.attempts - accounted, 0)

    @property
    def exhausted(self) -> bool:
        """Whether no more are begun."""
        return self.state is State.UNFINISHED and self.silent >= self.max_crashes

    @property
    def expired(self) -> bool:
        return self.expires_at <= self.now

    @property
    def began_at(self) -> datetime:
        """When the execution that counts began: after failures, later than first seen."""
        if self.completed_at is None:
            return self.created_at
        began = self.completed_at - timedelta(milliseconds=self.duration_ms or 0)
        return max(began, self.created_at)

    @property
    def time_left(self) -> int:
        """Per cent of its retention."""
        whole = (self.expires_at - self.created_at).total_seconds()
        left = (self.expires_at - self.now).total_seconds()
        return round(100 * min(max(left / whole, 0), 1)) if whole > 0 else 0


def life_of(key: IdempotencyKey, *, now: datetime, settings: Settings) -> Life:
    return Life(
        now=now,
        created_at=key.created_at,
        expires_at=key.expires_at,
        completed_at=key.completed_at,
        status=key.response_status,
        duration_ms=key.duration_ms,
        replays=key.replay_count,
        conflicts=key.conflict_count,
        in_flight=key.in_flight_count,
        failures=key.failure_count,
        given_way=key.given_way_count,
        attempts=key.attempts,
        reusable=settings.ON_EXPIRED == "execute",
        max_crashes=settings.MAX_CRASHES,
    )


# -- one sentence


@dataclass(frozen=True, slots=True)
class Phrase:
    text: str
    tone: str = ""  # "good", "bad" or "quiet"


def sentence(life: Life) -> list[Phrase]:
    """What a person on the phone needs to hear; phrases to be read one after the other."""
    lead = _completed(life) if life.state is State.COMPLETED else _open(life)
    return [*lead, *_reuses(life), *_future(life)]


def _completed(life: Life) -> list[Phrase]:
    facts = {
        "ago": age(life.began_at, life.now),
        "duration": duration(life.duration_ms or 0),
        "status": life.status,
    }
    told = [
        Phrase(
            _("Executed once, %(ago)s, in %(duration)s, and answered %(status)s.") % facts, "good"
        )
    ]
    if life.failures:
        text = ngettext(
            "%(count)d attempt before it failed and was rolled back.",
            "%(count)d attempts before it failed and were rolled back.",
            life.failures,
        )
        told.append(Phrase(text % {"count": life.failures}))
    told += _silent(life)
    if life.replays:
        text = ngettext(
            "That answer was replayed %(count)d time; nothing was done again.",
            "That answer was replayed %(count)d times; nothing was done again.",
            life.replays,
        )
        told.append(Phrase(text % {"count": life.replays}))
    return told


def _open(life: Life) -> list[Phrase]:
    since = {"ago": age(life.created_at, life.now)}
    if life.state is State.IN_PROGRESS:
        told = [Phrase(_("Begun %(ago)s and not finished: probably still running.") % since)]
    elif life.all_ended:
        told = [Phrase(_("First seen %(ago)s and not executed.") % since, "bad")]
    else:
        told = [
            Phrase(
                _(
                    "Begun %(ago)s and never finished: it failed, or its worker died. Nothing of "
                    "it was kept."
                )
                % since,
                "bad",
            )
        ]
    if life.failures:
        text = ngettext(
            "%(count)d attempt failed and was rolled back.",
            "%(count)d attempts failed and were rolled back.",
            life.failures,
        )
        told.append(Phrase(text % {"count": life.failures}))
    told += _silent(life)
    if life.exhausted:
        told.append(Phrase(_("No more are begun. Forget the key when the cause is mended."), "bad"))
    elif life.state is State.UNFINISHED:
        told.append(Phrase(_("The next retry executes.")))
    return told


def _silent(life: Life) -> list[Phrase]:
    """Of an unfinished key the lead has already spoken of one."""
    if life.silent <= (life.state is State.UNFINISHED):
        return []
    text = ngettext(
        "%(count)d attempt ended without a word: its worker died.",
        "%(count)d attempts ended without a word: their workers died.",
        life.silent,
    )
    return [Phrase(text % {"count": life.silent})]


def _reuses(life: Life) -> list[Phrase]:
    told = []
    if life.in_flight:
        text = ngettext(
            "%(count)d retry came while it ran and was refused.",
            "%(count)d retries came while it ran and were refused.",
            life.in_flight,
        )
        told.append(Phrase(text % {"count": life.in_flight}))
    if life.conflicts:
        text = ngettext(
            "%(count)d reuse for a different request was refused.",
            "%(count)d reuses for a different request were refused.",
            life.conflicts,
        )
        told.append(Phrase(text % {"count": life.conflicts}, "bad"))
    return told


def _future(life: Life) -> list[Phrase]:
    if life.state is not State.COMPLETED or not life.expired:
        return []
    when = {"ago": age(life.expires_at, life.now)}
    if life.reusable:
        text = _("The key expired %(ago)s: the same request sent now would be executed again.")
    else:
        text = _("The key expired %(ago)s: the same request sent now would be refused.")
    return [Phrase(text % when, "quiet")]


# -- the strip of the list


@dataclass(frozen=True, slots=True)
class Strip:
    """Marks in order, how many more there are, and the same in words."""

    marks: tuple[Mark, ...]
    more: int
    label: str


def strip(life: Life, events: Sequence[KeyEvent], *, limit: int = STRIP_LENGTH) -> Strip:
    """The uses of a key as a row of marks; ``events`` may be the first few only."""
    own = own_mark(life)
    uses = [(event.at, Mark(event.kind)) for event in events if event.at >= life.created_at]
    uses.append((life.began_at, own))
    uses.sort(key=lambda use: use[0])  # stable: a failure at the same moment came before
    shown = [mark for _at, mark in uses][:limit]
    total = 1 + life.replays + life.conflicts + life.in_flight + life.failures
    return Strip(tuple(shown), max(total - len(shown), 0), _in_words(life, own))


def own_mark(life: Life) -> Mark:
    return Mark.EXECUTED if life.state is State.COMPLETED else Mark.BEGUN


def _in_words(life: Life, own: Mark) -> str:
    words = [_("executed") if own is Mark.EXECUTED else _("not finished")]
    counted = (
        (life.failures, _("%(count)d failed")),
        (life.replays, _("%(count)d replayed")),
        (life.in_flight, _("%(count)d refused in flight")),
        (life.conflicts, _("%(count)d conflicting")),
    )
    words += [text % {"count": count} for count, text in counted if count]
    return ", ".join(words)
