"""The report as a browser shows it: on a phone, a tablet and a desk, by light and by dark."""

import asyncio
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from tests.browser import Page, browser, find_browser
from tests.tuning.made_up_sweep import HOSTILE, write_made_up_report

BROWSER = find_browser()
pytestmark = pytest.mark.skipif(BROWSER is None, reason="no chromium or chrome is installed")

WIDTHS, SCHEMES = (360, 800, 1400), ("light", "dark")
MIN_CONTRAST = 4.5

# What a person sees, element by element. An element of a box that scrolls on purpose may lie
# beyond the box's edge, but neither such a box nor a text may be cut within itself.
LOOK = """(() => {
  const root = document.scrollingElement, cut = [], contrasts = [];
  const numbers = colour => colour.match(/[\\d.]+/g).map(Number);
  const channel = v => (v /= 255) <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4;
  const light = rgb => rgb.slice(0, 3).map(channel)
    .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
  const behind = element => {
    for (let e = element; e; e = e.parentElement) {
      const colour = getComputedStyle(e).backgroundColor;
      if (colour.startsWith('color(')) return numbers(colour).map(v => v * 255);
      const rgb = numbers(colour);
      if (rgb.length < 4 || rgb[3] === 1) return rgb;
    }
    return [255, 255, 255];
  };
  const said = element => `${element.tagName} ${element.textContent.trim().slice(0, 60)}`;
  for (const element of document.querySelectorAll('main, main *')) {
    const own = [...element.childNodes].some(n => n.nodeType === 3 && n.data.trim());
    const inSvg = element instanceof SVGElement;
    if (!own || ['TITLE', 'title', 'STYLE'].includes(element.tagName)) continue;
    const style = getComputedStyle(element), box = element.getBoundingClientRect();
    const scroller = element.closest('.scroll');
    if (!inSvg && style.display !== 'inline' && element.scrollWidth > element.clientWidth + 1)
      cut.push(said(element));
    if (style.textOverflow === 'ellipsis') cut.push(said(element));
    if (!scroller && (box.left < -1 || box.right > innerWidth + 1)) cut.push(said(element));
    if (inSvg) {
      const card = element.closest('section').getBoundingClientRect();
      if (box.left < card.left || box.right > card.right || box.top < card.top ||
          box.bottom > card.bottom) cut.push(said(element));
    }
    const colours = [numbers(inSvg ? style.fill : style.color), behind(element)].map(light);
    const contrast = (Math.max(...colours) + 0.05) / (Math.min(...colours) + 0.05);
    contrasts.push([contrast, said(element)]);
  }
  for (const box of document.querySelectorAll('.scroll')) {
    const shown = box.getBoundingClientRect();
    if (shown.left < 0 || shown.right > innerWidth) cut.push(said(box));
    if (!['auto', 'scroll'].includes(getComputedStyle(box).overflowX)) cut.push(said(box));
  }
  return {
    wide: root.scrollWidth, width: innerWidth, cut, contrasts,
    page: getComputedStyle(document.body).backgroundColor,
    levels: [...document.querySelectorAll('h1, h2, h3')].map(h => Number(h.tagName[1])),
    unnamed: [...document.querySelectorAll('svg[role=img], [role=region], nav')]
      .filter(e => !e.getAttribute('aria-label')).length,
    heads: [...document.querySelectorAll('th')].filter(e => !e.getAttribute('scope')).length,
    strangers: document.querySelectorAll('script, img, iframe, link, [onerror]').length,
    text: document.body.innerText,
  };
})()"""


async def seen(file: Path) -> tuple[dict[tuple[int, str], Any], list[dict[str, Any]]]:
    """What every width and scheme shows, and all that the browser said and asked for."""
    assert BROWSER is not None
    looks = {}
    async with browser(BROWSER) as page:
        for domain in ("Page", "Network", "Runtime", "Log"):
            await page.send(f"{domain}.enable")
        for scheme in SCHEMES:
            await show(page, WIDTHS[0], scheme)
            await page.open(file.as_uri())
            await page.text_when(lambda text: "Versions and machine" in text)
            for width in WIDTHS:
                await show(page, width, scheme)
                looks[width, scheme] = await page.evaluate(LOOK)
        return looks, page.events


async def show(page: Page, width: int, scheme: str) -> None:
    size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 500}
    await page.send("Emulation.setDeviceMetricsOverride", **size)
    wanted = [{"name": "prefers-color-scheme", "value": scheme}]
    await page.send("Emulation.setEmulatedMedia", features=wanted)


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_made_up_report(tmp_path_factory.mktemp("report"))


@pytest.fixture(scope="module")
def all_seen(report: Path) -> tuple[dict[tuple[int, str], Any], list[dict[str, Any]]]:
    return asyncio.run(seen(report))


All = tuple[dict[tuple[int, str], Any], list[dict[str, Any]]]


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("width", WIDTHS)
def test_nothing_is_cut_and_nothing_is_pale(width: int, scheme: str, all_seen: All) -> None:
    look = all_seen[0][width, scheme]
    assert look["width"] == width
    assert look["wide"] <= width, "the page must not scroll sideways"
    assert look["cut"] == []
    assert len(look["contrasts"]) > 200
    assert [entry for entry in look["contrasts"] if entry[0] < MIN_CONTRAST] == []


def test_the_schemes_differ(all_seen: All) -> None:
    light, dark = (all_seen[0][360, scheme]["page"] for scheme in SCHEMES)
    assert light != dark


def test_the_page_asks_for_itself_alone_and_complains_of_nothing(
    report: Path, all_seen: All
) -> None:
    events = all_seen[1]
    requests = {
        event["params"]["request"]["url"]
        for event in events
        if event["method"] == "Network.requestWillBeSent"
    }
    assert requests == {report.as_uri()}
    told = ("Runtime.consoleAPICalled", "Runtime.exceptionThrown", "Log.entryAdded")
    assert [event for event in events if event["method"] in told] == []
    assert not any(event["method"] == "Page.javascriptDialogOpening" for event in events)


def test_texts_from_outside_are_texts(all_seen: All) -> None:
    look = all_seen[0][800, "light"]
    assert look["strangers"] == 0
    assert HOSTILE in look["text"]
    assert "<script>alert('reason')</script>" in look["text"]


def test_who_cannot_see_it_is_told(all_seen: All) -> None:
    look = all_seen[0][800, "light"]
    assert look["unnamed"] == look["heads"] == 0
    levels = look["levels"]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after <= before + 1 for before, after in pairwise(levels))
