"""Charts are pictures with a name, drawn without style or script, that show their values."""

from __future__ import annotations

import re
from xml.etree import ElementTree

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from django_idempotency.admin.charts import (
    PLOT,
    Scale,
    Series,
    bar,
    linear_scale,
    lines,
    log_scale,
    spark,
    stacked_bars,
)

MARKS = [(1.0, "1 s"), (10.0, "10 s"), (60.0, "1 min"), (3600.0, "1 h")]


def parse(markup: str) -> ElementTree.Element:
    return ElementTree.fromstring(markup)  # noqa: S314 -- our own output


def rects(markup: str, css: str) -> list[dict[str, str]]:
    return [e.attrib for e in parse(markup).iter("rect") if e.get("class") == css]


def two_bars() -> str:
    series = [Series("a", "Executed", [10, 0]), Series("b", "Replayed", [5, 20])]
    return stacked_bars("Requests", ["11 Nov", "12 Nov"], ["one", "two"], series, linear_scale(20))


def test_parts_of_a_bar_stand_on_each_other() -> None:
    """In the order of the series, each as high as its value."""
    (first,), second = rects(two_bars(), "a"), rects(two_bars(), "b")

    assert float(first["height"]) == pytest.approx(PLOT * 10 / 20)
    assert [float(part["height"]) for part in second] == pytest.approx([PLOT * 5 / 20, PLOT])
    assert float(second[0]["y"]) + float(second[0]["height"]) == pytest.approx(float(first["y"]))
    assert first["x"] == second[0]["x"] != second[1]["x"]


def test_one_of_a_million_is_still_seen() -> None:
    """A single conflict must not vanish below the executions."""
    series = [Series("a", "A", [1_000_000]), Series("b", "B", [1])]
    (part,) = rects(stacked_bars("n", ["l"], ["t"], series, linear_scale(1_000_001)), "b")

    assert float(part["height"]) >= 1


def test_a_chart_has_a_name_and_each_bar_a_title() -> None:
    """One picture is announced; its axis is not."""
    chart = parse(two_bars())

    named = [e for e in chart.iter("svg") if e.get("role") == "img"]
    assert [e.get("aria-label") for e in named] == ["Requests"]
    assert [e.get("aria-hidden") for e in chart.iter("svg")] == ["true", None]
    assert [e.text for e in chart.iter("title")] == ["one", "two"]


def test_every_text_is_escaped() -> None:
    """Labels may come from a table that strangers write to."""
    evil = "<script>alert(1)</script>\"'&"
    series = [Series(evil, evil, [1.0])]
    charts = (
        stacked_bars(evil, [evil], [evil], series, Scale(((0, evil),), float)),
        lines(evil, [evil], [evil], series, Scale(((0, evil),), float)),
        spark(evil, series),
        bar(0.5, evil),
    )
    for chart in charts:
        assert "<script" not in chart
        parse(chart)  # and what is left is well-formed


def test_nothing_needs_a_looser_content_security_policy() -> None:
    """No style attribute, no style element, no handler, no link."""
    series = [Series("a", "A", [1, None, 3])]
    chart = lines("n", ["x", "y", "z"], ["x", "y", "z"], series, linear_scale(3))
    for markup in (two_bars(), chart, spark("n", series), bar(1, "a")):
        names = {name for e in parse(f"<p>{markup}</p>").iter() for name in (e.tag, *e.attrib)}
        assert not names & {"style", "script", "href", "onclick", "onload"}


def test_a_line_breaks_where_there_is_no_value() -> None:
    """Nothing is drawn across a gap, and a lonely value is a dot."""
    series = [Series("a", "A", [1, 2, None, 4])]
    chart = parse(lines("n", list("wxyz"), list("wxyz"), series, linear_scale(4)))

    assert len([e for e in chart.iter("line") if e.get("class") == "a"]) == 1
    assert len([e for e in chart.iter("circle") if e.get("class") == "a"]) == 3


def test_labels_thin_out() -> None:
    """No more than asked for, and every other one may go on a narrow screen."""
    labels = [str(number) for number in range(24)]
    series = [Series("a", "A", [1] * 24)]
    markup = stacked_bars("n", labels, labels, series, linear_scale(1), most_labels=7)

    shown = re.findall(r'<text class="(idem-label[^"]*)"[^>]*>(\d+)<', markup)
    assert [text for _css, text in shown] == ["0", "4", "8", "12", "16", "20"]
    assert [css for css, _text in shown] == ["idem-label", "idem-label idem-minor"] * 3


@pytest.mark.parametrize(
    ("most", "labels"),
    [
        (0, ["0", "1"]),
        (1, ["0", "1"]),
        (3, ["0", "1", "2", "3"]),
        (7, ["0", "2", "4", "6", "8"]),
        (173, ["0", "50", "100", "150", "200"]),
        (143_000, ["0", "50000", "100000", "150000"]),
    ],
)
def test_counts_are_read_off_round_numbers(most: int, labels: list[str]) -> None:
    """Whole ones: there is no half a request."""
    assert [label for _share, label in linear_scale(most).ticks] == labels


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])  # on a busy machine
@given(most=st.integers(0, 10**15), value=st.integers(0, 10**15))
def test_a_linear_scale_holds_every_value(most: int, value: int) -> None:
    """The largest stands at or below the top, and zero at the base."""
    scale = linear_scale(most)

    assert scale.place(0) == 0
    assert 0 <= scale.place(min(value, most)) <= 1
    assert 2 <= len(scale.ticks) <= 7


def test_a_logarithmic_scale_shows_what_is_needed() -> None:
    """From the mark below the least value to the one above the greatest."""
    scale = log_scale(MARKS, 2, 50)

    assert [label for _share, label in scale.ticks] == ["1 s", "10 s", "1 min"]
    assert [scale.place(value) for value in (1, 60)] == [0, 1]
    assert scale.place(10) == pytest.approx(0.562, abs=0.001)


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])  # on a busy machine
@given(least=st.floats(0, 1e9), most=st.floats(0, 1e9), value=st.floats(0, 1e12))
def test_a_logarithmic_scale_survives_any_value(least: float, most: float, value: float) -> None:
    """Below the first mark and above the last it stops at the edge."""
    scale = log_scale(MARKS, least, most)

    assert 0 <= scale.place(value) <= 1
    assert len(scale.ticks) >= 2


def test_empty_charts_are_drawn() -> None:
    """A site without a single key has an overview, too."""
    assert "svg" in stacked_bars("n", [], [], [Series("a", "A", [])], linear_scale(0))
    assert "svg" in spark("n", [Series("a", "A", [])])
