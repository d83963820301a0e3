"""Everything that is known to have happened to a key, in order: no HTML."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from .spelling import age, duration, offset
from .story import Life, Mark, State, own_mark

if TYPE_CHECKING:
    from django_idempotency.models import IdempotencyKey, KeyEvent

__all__ = ["Moment", "timeline"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Moment:
    """One thing that happened to a key."""

    mark: Mark
    title: str
    at: datetime
    offset: str = ""  # from when the key was first seen
    status: int | None = None
    duration: str = ""
    source: tuple[str, ...] = ()  # user agent, address, request id, as far as known
    request: str = ""  # method and path, where they are not the key's
    event_id: int | None = None  # of a conflict that is compared further down
    note: str = ""


def timeline(life: Life, key: IdempotencyKey, events: Iterable[KeyEvent]) -> list[Moment]:
    """Everything known, in order: what came before a reuse of the key is said to be so."""
    listed = list(events)
    moments = [_own_moment(life, key), *(_moment(life, key, event) for event in listed)]
    moments.sort(key=lambda moment: moment.at)
    return [*moments, *_unlisted(life, listed), _expiry(life)]


def _own_moment(life: Life, key: IdempotencyKey) -> Moment:
    completed = life.state is State.COMPLETED
    return Moment(
        mark=own_mark(life),
        title=_("Executed, response stored") if completed else _("First seen"),
        at=life.began_at,
        offset=offset(life.began_at - life.created_at),
        status=life.status,
        duration=duration(life.duration_ms or 0) if completed else "",
        source=_source(key),
    )


def _moment(life: Life, key: IdempotencyKey, event: KeyEvent) -> Moment:
    other = (event.method, event.path) != (key.method, key.path)
    earlier = event.at < life.created_at
    return Moment(
        mark=Mark(event.kind),
        title=_titles()[Mark(event.kind)],
        at=event.at,
        offset=offset(event.at - life.created_at),
        status=event.status,
        duration=duration(event.duration_ms),
        source=_source(event),
        request=f"{event.method} {event.path}" if other else "",
        event_id=event.pk if event.kind == Mark.CONFLICT else None,
        note=_("An earlier use of this key, before it expired.") if earlier else "",
    )


def _titles() -> dict[Mark, str]:
    return {
        Mark.REPLAYED: _("Stored response replayed"),
        Mark.IN_FLIGHT: _("Refused: the first request was still running"),
        Mark.CONFLICT: _("Refused: the same key with a different request"),
        Mark.FAILED: _("Failed, everything rolled back"),
    }


def _source(row: IdempotencyKey | KeyEvent) -> tuple[str, ...]:
    return tuple(part for part in (row.user_agent, row.remote_addr, row.request_id) if part)


def _unlisted(life: Life, events: Sequence[KeyEvent]) -> list[Moment]:
    """What the tally counted beyond the events that are kept."""
    listed = Counter(event.kind for event in events if event.at >= life.created_at)
    counted = {
        Mark.REPLAYED: life.replays,
        Mark.IN_FLIGHT: life.in_flight,
        Mark.CONFLICT: life.conflicts,
        Mark.FAILED: life.failures,
    }
    more = ((mark, count - listed[mark]) for mark, count in counted.items())
    return [
        Moment(
            mark=mark,
            title=_titles()[mark],
            at=life.now,
            note=ngettext("%(count)d more, counted only.", "%(count)d more, counted only.", count)
            % {"count": count},
        )
        for mark, count in more
        if count > 0
    ]


def _expiry(life: Life) -> Moment:
    if life.reusable:
        note = _("From then on the key may be used for a new request.")
    else:
        note = _("From then on the key is refused.")
    return Moment(
        mark=Mark.EXPIRES,
        title=_("Expired") if life.expired else _("Expires"),
        at=life.expires_at,
        offset=age(life.expires_at, life.now),
        note=note,
    )
