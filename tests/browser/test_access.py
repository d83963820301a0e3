"""Who sees little, or has no mouse, works here as well: contrast, focus, names."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from django_idempotency.models import IdempotencyKey
from tests.browser.conftest import SignIn

Visit = Callable[..., Page]
PAGES = ("", "overview/", "{key}/change/")

# Of each element of ours that holds text, [contrast, what WCAG's level AA asks for, the text]. A
# canvas reads colours in any notation and lays one over the other as the browser does.
CONTRASTS = """() => {
  const canvas = document.createElement('canvas');
  canvas.width = canvas.height = 1;
  const pen = canvas.getContext('2d', {willReadFrequently: true});
  const paint = (colour) => { pen.fillStyle = colour; pen.fillRect(0, 0, 1, 1); };
  const luminance = () => {
    const [r, g, b] = [...pen.getImageData(0, 0, 1, 1).data].slice(0, 3).map((value) => {
      const part = value / 255;
      return part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4;
    });
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const measure = (element) => {
    const around = [];
    for (let at = element; at; at = at.parentElement) around.unshift(getComputedStyle(at));
    paint('white');
    around.forEach((style) => paint(style.backgroundColor));
    const behind = luminance();
    const style = around.at(-1);
    paint(element instanceof SVGElement ? style.fill : style.color);
    const [dark, light] = [behind, luminance()].sort((a, b) => a - b);
    const size = parseFloat(style.fontSize);
    const large = size >= 24 || (size >= 18.66 && style.fontWeight >= 700);
    return [(light + 0.05) / (dark + 0.05), large ? 3 : 4.5, element.textContent.trim()];
  };
  const ours = document.querySelectorAll('[class*="idem-"], [class*="idem-"] *');
  const hasText = (node) => node.nodeType === Node.TEXT_NODE && node.data.trim();
  return [...ours]
    .filter((element) => [...element.childNodes].some(hasText) && element.checkVisibility())
    .filter((element) => element.localName !== 'title')
    .map(measure);
}"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("where", PAGES)
def test_text_stands_out_from_what_is_behind_it(
    sign_in: SignIn,
    visit: Visit,
    page: Page,
    talked_about: IdempotencyKey,
    where: str,
    scheme: Any,
) -> None:
    """4.5 to 1, large text 3 to 1; tables behind a key press included."""
    page.emulate_media(color_scheme=scheme)
    sign_in()
    visit(where.format(key=talked_about.pk))
    page.locator("details").evaluate_all("all => all.forEach(one => { one.open = true; })")

    measured = page.evaluate(CONTRASTS)

    assert len(measured) > 50
    assert [found for found in measured if found[0] < found[1]] == []


@pytest.mark.parametrize("where", PAGES)
def test_everything_is_reached_by_the_tab_key_and_shows_it(
    sign_in: SignIn, visit: Visit, page: Page, talked_about: IdempotencyKey, where: str
) -> None:
    """In the order of the page, each with an outline and a name."""
    sign_in()
    visit(where.format(key=talked_about.pk))
    ours = "a[href], button, summary, input:not([type=hidden]), [tabindex='0']"
    wanted = page.locator("[class*='idem-']").locator(ours)
    total = wanted.evaluate_all(
        """(all) => {
          const unique = [...new Set(all)].filter((one) => one.checkVisibility());
          unique.forEach((one, index) => { one.dataset.place = index; });
          return unique.length;
        }"""
    )
    assert total >= 6
    page.locator("[data-place='0']").focus()
    reached = [0]
    for _ in range(total * 6):  # a field for a date has several stops
        page.keyboard.press("Tab")
        place, outline, name = page.evaluate(
            """() => {
              const at = document.activeElement;
              const text = at.labels?.[0]?.textContent ?? at.ariaLabel ?? at.textContent;
              const by = document.getElementById(at.getAttribute('aria-labelledby'));
              const title = at.querySelector?.('[title], title');
              const name = text.trim() || by?.textContent || title?.textContent;
              return [at.dataset.place ?? null, getComputedStyle(at).outlineStyle, name];
            }"""
        )
        if place is None:
            continue
        if int(place) != reached[-1]:
            reached.append(int(place))
        assert outline != "none", (place, name)
        assert name, place
        if len(reached) == total:
            break
    assert reached == list(range(total))


def test_regions_of_a_page_have_different_names(
    sign_in: SignIn, visit: Visit, page: Page, talked_about: IdempotencyKey
) -> None:
    """A list of landmarks with three equal entries leads nowhere."""
    sign_in()
    visit(f"{talked_about.pk}/change/")
    regions = page.get_by_role("main").get_by_role("region")

    expect(regions.first).to_be_visible()
    names = regions.evaluate_all(
        """(all) => all.map((one) => one.ariaLabel
          ?? document.getElementById(one.getAttribute('aria-labelledby')).textContent)"""
    )
    assert len(set(names)) == len(names) >= 5
