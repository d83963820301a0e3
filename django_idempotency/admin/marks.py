"""Marks for the uses of a key: told apart by shape first, by colour second."""

from __future__ import annotations

from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _

from .story import Mark, State, Strip

__all__ = ["badge", "dot", "legend", "number", "status_badge", "strip_svg"]

_STEP = 14  # width of one mark
_SHAPES: dict[Mark, SafeString] = {
    Mark.EXECUTED: SafeString('<circle class="idem-m-executed" cx="7" cy="8" r="4.6"/>'),
    Mark.REPLAYED: SafeString('<circle class="idem-m-replayed" cx="7" cy="8" r="3.9"/>'),
    Mark.IN_FLIGHT: SafeString('<path class="idem-m-in_flight" d="M4.8 4v8m4.4-8v8"/>'),
    Mark.CONFLICT: SafeString('<path class="idem-m-conflict" d="M3.4 4.4l7.2 7.2m0-7.2-7.2 7.2"/>'),
    Mark.FAILED: SafeString('<path class="idem-m-failed" d="M7 3l5 9.2H2z"/>'),
    Mark.EXPIRES: SafeString('<circle class="idem-m-expires" cx="7" cy="8" r="4.2"/>'),
    Mark.BEGUN: SafeString('<circle class="idem-m-begun" cx="7" cy="8" r="3.9"/>'),
}


def strip_svg(strip: Strip) -> SafeString:
    """The marks of one key; a screen reader gets them in words."""
    marks = format_html_join(
        "",
        '<g transform="translate({} 0)">{}</g>',
        ((index * _STEP, _SHAPES[mark]) for index, mark in enumerate(strip.marks)),
    )
    width = len(strip.marks) * _STEP
    image = format_html(
        '<svg class="idem-strip" role="img" width="{0}" height="16" viewBox="0 0 {0} 16">'
        "<title>{1}</title>{2}</svg>",
        width,
        strip.label,
        marks,
    )
    if not strip.more:
        return image
    return format_html('{}<span class="idem-more" aria-hidden="true">+{}</span>', image, strip.more)


def dot(mark: Mark) -> SafeString:
    """The mark at the side of the timeline; its title says the same in words."""
    svg = '<svg class="idem-dot" width="18" height="20" viewBox="0 0 14 16" aria-hidden="true">{}'
    return format_html(svg + "</svg>", _SHAPES[mark])


def legend() -> list[tuple[SafeString, str]]:
    """(mark, its meaning) for all marks of the list."""
    words = {
        Mark.EXECUTED: _("executed"),
        Mark.REPLAYED: _("replayed"),
        Mark.IN_FLIGHT: _("refused in flight"),
        Mark.CONFLICT: _("conflicting reuse"),
        Mark.FAILED: _("failed, rolled back"),
        Mark.BEGUN: _("not finished"),
    }
    svg = '<svg width="14" height="16" viewBox="0 0 14 16" aria-hidden="true">{}</svg>'
    return [(format_html(svg, _SHAPES[mark]), word) for mark, word in words.items()]


def badge(state: State, status: int | None) -> SafeString:
    """How a request came out, in one word or number."""
    if state is State.IN_PROGRESS:
        return format_html('<span class="idem-badge idem-run">{}</span>', _("In progress"))
    if state is State.UNFINISHED:
        return format_html('<span class="idem-badge idem-warn">{}</span>', _("Unfinished"))
    return status_badge(status)


def status_badge(status: int | None) -> SafeString:
    """An HTTP status; a dash where an exception left none."""
    if status is None:
        return SafeString('<span class="idem-quiet">&ndash;</span>')
    tone = "ok" if status < 400 else "warn" if status < 500 else "bad"
    return format_html('<span class="idem-badge idem-{}">{}</span>', tone, status)


def number(count: int, css: str = "idem-some") -> SafeString:
    """A count; zero steps back."""
    return format_html('<span class="{}">{}</span>', css if count else "idem-zero", count)
