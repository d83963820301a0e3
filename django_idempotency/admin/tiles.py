"""Figures in large: above the list each a link to its keys, on the overview with its share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from django.utils.formats import date_format
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from django_idempotency.protocol import Outcome

from .charts import Series, spark
from .figures import about, age, number, percent, short_estimate
from .reports import Day, Overview, Tiles

__all__ = ["Tile", "list_note", "list_tiles", "overview_tiles"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Tile:
    """One figure in large; with a link where it leads on."""

    label: str
    value: str
    hint: str
    css: str = ""
    url: str = ""
    picture: SafeString | str = ""


def list_tiles(found: Tiles, overview_url: str) -> list[Tile]:
    """The links are query strings of the list's own filters."""
    return [
        Tile(
            label=_("Keyed requests"),
            value=_counted(found, "requests"),
            hint=_("last 24 hours"),
            url="?since=24h",
        ),
        Tile(
            label=_("Replays served"),
            value=_counted(found, "replayed"),
            hint=_("not executed twice"),
            css="idem-t-replayed",
            url="?replayed=yes&since=24h",
        ),
        Tile(
            label=_("Conflicts refused"),
            value=_counted(found, "conflicts"),
            hint=_("same key, other request"),
            css="idem-t-conflict" if found.conflicts else "",
            url="?conflicts=yes",  # also of keys that were first seen before
        ),
        Tile(
            label=_("In progress"),
            value=_counted(found, "in_progress"),
            hint=_("right now"),
            url="?state=in_progress",
        ),
        Tile(
            label=_("Unfinished"),
            value=_counted(found, "unfinished"),
            hint=_("free for the next retry"),
            css="idem-t-in_flight" if found.unfinished else "",
            url="?state=unfinished&since=24h",
        ),
        Tile(
            label=_("Overview"),
            value="",
            hint=_("14 days in charts, estimated")
            if any(day.estimated for day in found.days)
            else _("14 days in charts"),
            url=overview_url,
            picture=_spark(found.days),
        ),
    ]


def list_note(found: Tiles) -> str:
    """What the plus of a figure means, where one has it."""
    if not found.more:
        return ""
    return _("Figures with + are at least that high: only the newest keys and uses were counted.")


def overview_tiles(found: Overview) -> list[Tile]:
    traffic, total = found.traffic, found.traffic.total

    def figure(outcome: Outcome) -> str:
        spell = short_estimate if outcome in traffic.estimated else number
        return spell(traffic.of(outcome))

    def share(outcome: Outcome) -> str:
        part = percent(traffic.of(outcome), total)
        return about(part) if traffic.estimated else part

    spelled = (
        (Outcome.REPLAYED, _("Replays served"), _("%(share)s, not executed twice")),
        (Outcome.CONFLICT, _("Conflicts refused"), _("%(share)s, same key, other request")),
        (Outcome.IN_FLIGHT, _("Refused in flight"), _("%(share)s, first request still running")),
        (Outcome.FAILED, _("Failed"), _("%(share)s, rolled back")),
    )
    executed = traffic.of(Outcome.EXECUTED)
    first = Tile(
        label=_("Keyed requests"),
        value=short_estimate(total) if traffic.estimated else number(total),
        hint=ngettext("%(number)s executed", "%(number)s executed", executed)
        % {"number": figure(Outcome.EXECUTED)},
    )
    others = [
        Tile(
            label=label,
            value=figure(outcome),
            hint=hint % {"share": share(outcome)},
            css=f"idem-t-{outcome.value}" if traffic.of(outcome) else "",
        )
        for outcome, label, hint in spelled
    ]
    median = Tile(
        label=_("Median replay age"),
        value=age(found.ages.median),
        hint=_("95 %% within %(age)s") % {"age": age(found.ages.p95)}
        if found.ages.p95 is not None
        else _("since its key was first seen"),
    )
    return [first, *others, median]


def _counted(found: Tiles, name: str) -> str:
    spelled = number(getattr(found, name))
    return _("%(number)s+") % {"number": spelled} if name in found.more else spelled


def _spark(days: Sequence[Day]) -> SafeString:
    title = _("New keys a day from %(first)s to %(last)s, conflicts on top") % {
        "first": date_format(days[0].start, "j M"),
        "last": date_format(days[-1].start, "j M"),
    }
    series = [
        Series("idem-c-executed", _("New keys"), [day.keys for day in days]),
        Series("idem-c-conflict", _("Conflicts"), [day.conflicts for day in days]),
    ]
    return spark(title, series)
