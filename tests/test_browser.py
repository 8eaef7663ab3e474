"""The committed book in a real browser, from files and without a network: every page, as wide as a
desk and as a phone.

Where chromium is installed (Debian: `apt-get install chromium-driver`). Screenshots for whoever
wants to look: build/screenshots/.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from urllib.parse import unquote, urlsplit

import numpy as np
import pytest

from medddist import figures

ROOT = Path(__file__).resolve().parent.parent
CHROMIUM = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)
DRIVER = shutil.which("chromedriver")
WIDTHS_PX = {1280: 900, 390: 844}  # a desk's and a phone's, with their heights
LOOKED_AT = (
    "intro",
    "intro_ja",
    "method",
    "method_ja",
    "results",
    "performance",
    "limits",
    "api",
    "glossary",
    "train",
    "notebooks/04_evaluation",
    "notebooks/05_images",
)
CONTRAST = 4.5  # WCAG 2.2, level AA, for text of ordinary size; 3 for large

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(1200),
    pytest.mark.skipif(
        not (CHROMIUM and DRIVER),
        reason="no chromium with its chromedriver here: the book was not looked at in a browser",
    ),
]

# What a page shows once it is laid out and its mathematics is drawn.
FACTS = """
const images = [...document.images], seen = e => e.getClientRects().length > 0;
return {
  overflow_px: document.documentElement.scrollWidth - document.documentElement.clientWidth,
  figures: images.length,
  without_alt: images.filter(i => !i.alt.trim()).map(i => i.src.slice(0, 90)),
  not_drawn: images.filter(i => seen(i) && !i.naturalWidth).map(i => i.src.slice(0, 90)),
  links: [...document.links].map(a => a.href),
  anchors: [...document.querySelectorAll('[id]')].map(e => e.id),
  equations: document.querySelectorAll('.math').length,
  drawn_equations: document.querySelectorAll('.math mjx-container').length,
  wrong_equations: document.querySelectorAll('[data-mjx-error], [data-mml-node="merror"]').length,
};
"""
DRAWN = "return !window.MathJax || !MathJax.startup || MathJax.startup.promise.then(() => true)"

# A change of theme is not faded in.
AT_ONCE = """
const style = document.head.appendChild(document.createElement('style'));
style.textContent = '*, *::before, *::after { transition: none !important }';
"""

# Texts whose contrast with what lies behind them is too low: [ratio, text]. Colours with
# transparency are laid over one another.
FAINT = """
const rgba = text => { const n = text.match(/[\\d.]+/g).map(Number); return n.length > 3 ? n : [...n, 1]; };
const over = (a, b) => [0, 1, 2].map(k => a[k] * a[3] + b[k] * (1 - a[3])).concat(1);
const linear = v => (v /= 255) <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4;
const light = c => 0.2126 * linear(c[0]) + 0.7152 * linear(c[1]) + 0.0722 * linear(c[2]);
const behind = e => e ? over(rgba(getComputedStyle(e).backgroundColor), behind(e.parentElement)) : [255, 255, 255, 1];
const shown = e => e.checkVisibility({opacityProperty: true, visibilityProperty: true}) && getComputedStyle(e).clip === 'auto';
const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT), faint = [];
while (texts.nextNode()) {
  const text = texts.currentNode.data.trim(), e = texts.currentNode.parentElement;
  if (!text || e.closest('script, style, noscript, mjx-container') || !shown(e)) continue;
  const style = getComputedStyle(e), ground = behind(e), colour = over(rgba(style.color), ground);
  const [high, low] = [light(colour), light(ground)].sort((a, b) => b - a), ratio = (high + 0.05) / (low + 0.05);
  const size = parseFloat(style.fontSize), large = size >= 24 || (size >= 18.66 && style.fontWeight >= 700);
  if (ratio < (large ? 3 : arguments[0]) - 0.05) faint.push([ratio.toFixed(2), text.slice(0, 40), e.className]);
}
return faint;
"""

# What the keyboard is at, "" once it has left the page's links and buttons, and whether one sees it
# there.
FOCUS = """
const e = document.activeElement;
// the theme marks the arrow of a list that can be folded, not its line
const parts = [e, ...(e.tagName === 'SUMMARY' ? e.children : [])];
const marks = parts.map(part => getComputedStyle(part));
const name = e === document.body ? '' : e.innerText || e.title || e.ariaLabel || e.querySelector('img')?.alt || e.className || e.tagName;
return [name, marks.some(style => style.outlineStyle != 'none' || style.boxShadow != 'none')];
"""


@pytest.fixture(scope="module")
def browser():
    """Chromium without a head and without a network: any other host's name is unknown to it."""
    from selenium import webdriver

    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for flag in (
        "headless",
        "no-sandbox",
        "disable-gpu",
        "disable-background-networking",
        "host-resolver-rules=MAP * ~NOTFOUND",
    ):
        options.add_argument(f"--{flag}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(
        options=options, service=webdriver.ChromeService(executable_path=DRIVER)
    )
    yield driver
    driver.quit()


@pytest.fixture(scope="module")
def pages(strict) -> dict[str, Path]:
    """Name to file of every page of the committed book; index.html, which only leads to the first
    one, among them.
    """
    _, html = strict
    found = sorted(page for page in html.rglob("*.html") if "_static" not in page.parts)
    return {page.relative_to(html).with_suffix("").as_posix(): page for page in found}


@pytest.fixture(scope="module")
def seen(browser, pages) -> dict[tuple[str, int], dict]:
    """Each page at each width: what it shows, what it asked for, what the console said, and which
    texts are faint by theme.
    """
    shots = ROOT / "build" / "screenshots"
    shots.mkdir(parents=True, exist_ok=True)
    found = {}
    for name, page in pages.items():
        loaded = load(browser, page)
        for width, height in WIDTHS_PX.items():
            resize(browser, width, height)
            found[name, width] = loaded | facts(browser)
            if name in LOOKED_AT:
                browser.save_screenshot(str(shots / f"{name.replace('/', '-')}-{width}.png"))
    return found


def resize(browser, width: int, height: int) -> None:
    """The page's own width, which a window cannot be made as narrow as."""
    metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)


def load(browser, page: Path) -> dict:
    """The page with its mathematics drawn: what it asked for, and what the console said."""
    browser.get(page.as_uri())
    browser.execute_script(DRAWN)
    browser.execute_script(AT_ONCE)
    said = [
        line["message"]
        for line in browser.get_log("browser")
        if line["level"] in ("SEVERE", "WARNING")
    ]
    events = (json.loads(line["message"])["message"] for line in browser.get_log("performance"))
    return {
        "console": said,
        "asked": [
            event["params"]["request"]["url"]
            for event in events
            if event["method"] == "Network.requestWillBeSent"
        ],
    }


def facts(browser) -> dict:
    """What the page shows at the width that it has."""
    shown = browser.execute_script(FACTS)
    for theme in ("dark", "light"):
        browser.execute_script("document.documentElement.dataset.theme = arguments[0]", theme)
        shown[f"faint_{theme}"] = browser.execute_script(FAINT, CONTRAST)
    return shown


def wrong(seen: dict, of) -> dict[str, object]:
    """By page and width: what `of` finds on it, where it finds something."""
    return {
        f"{name} at {width} px": of(shown) for (name, width), shown in seen.items() if of(shown)
    }


def test_every_page_was_looked_at(seen, pages, capsys):
    once = [shown for (_, width), shown in seen.items() if width == 1280]
    counts = {what: sum(shown[what] for shown in once) for what in ("figures", "equations")}
    with capsys.disabled():
        print(
            f"\nbrowser: {len(pages)} pages at {len(WIDTHS_PX)} widths, "
            f"{sum(len(shown['links']) for shown in once)} links,"
            f" {counts['figures']} figures, {counts['equations']} equations, "
            f"{sum(len(shown['console']) for shown in once)} errors"
        )
    assert (
        len(seen) == len(WIDTHS_PX) * len(pages) and len(pages) > 15 and min(counts.values()) > 20
    )


def test_the_console_stays_silent(seen):
    assert not wrong(seen, lambda shown: shown["console"])


def test_nothing_is_asked_of_a_network(seen):
    assert not wrong(
        seen,
        lambda shown: [
            url[:90]
            for url in shown["asked"]
            if urlsplit(url).scheme not in ("file", "data", "blob")
        ],
    )


def test_no_page_is_wider_than_its_window(seen):
    assert not wrong(seen, lambda shown: shown["overflow_px"] > 0)


def test_every_figure_is_drawn_and_has_alternative_text(seen):
    assert not wrong(seen, lambda shown: shown["without_alt"] + shown["not_drawn"])


def test_every_equation_is_drawn(seen):
    assert not wrong(
        seen,
        lambda shown: shown["equations"] - shown["drawn_equations"] or shown["wrong_equations"],
    )


def test_every_link_within_the_book_leads_somewhere(seen, pages):
    anchors = {pages[name]: set(shown["anchors"]) for (name, _), shown in seen.items()}

    def broken(shown):
        links = [urlsplit(link) for link in set(shown["links"]) if link.startswith("file:")]
        return [
            link.geturl()
            for link in links
            if not leads(Path(unquote(link.path)), unquote(link.fragment), anchors)
        ]

    assert not wrong(seen, broken)


def leads(file: Path, fragment: str, anchors: dict[Path, set[str]]) -> bool:
    return file.is_file() and (not fragment or file not in anchors or fragment in anchors[file])


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_every_text_stands_out_from_what_is_behind_it(seen, theme):
    assert not wrong(seen, lambda shown: shown[f"faint_{theme}"])


def test_the_tabulator_reaches_every_page_and_shows_where_it_is(browser, pages):
    from selenium.webdriver.common.keys import Keys

    resize(browser, 1280, WIDTHS_PX[1280])
    browser.get(pages["intro"].as_uri())
    browser.execute_script(AT_ONCE)
    wanted = browser.execute_script(
        "return [...document.querySelectorAll('.bd-links a')]"
        ".filter(a => a.getClientRects().length).map(a => a.innerText)"  # unfolded ones
    )
    reached, unmarked = [], []
    while "" not in reached and len(reached) < 200:
        browser.switch_to.active_element.send_keys(Keys.TAB)
        where, marked = browser.execute_script(FOCUS)
        reached.append(where)
        unmarked += [] if marked or not where else [where]
    assert reached[0] == "Skip to main content" and len(wanted) > 15
    assert not set(wanted) - set(reached)
    assert not unmarked


def test_the_slider_of_iterations_works_by_keyboard_and_has_a_name(browser, tmp_path):
    from selenium.webdriver.common.keys import Keys

    frames = {k: np.full((4, 1, 8, 8), k / 100, np.float32) for k in (0, 25, 50)}
    shown = figures.slider(frames, {k: f"{k}, score" for k in frames}, "Distilled images", 2)
    page = tmp_path / "slider.html"
    page.write_text(f"<!doctype html><html lang='en'><body>{shown._repr_html_()}</body></html>")
    browser.get(page.as_uri())
    slider = browser.find_element("css selector", "input[type=range]")
    visible = lambda: [
        image.get_attribute("alt")
        for image in browser.find_elements("css selector", "img")
        if image.is_displayed()
    ]
    assert slider.accessible_name.startswith("Iteration")
    assert visible() == ["Distilled images, iteration 50"]
    slider.send_keys(Keys.ARROW_LEFT)
    assert visible() == ["Distilled images, iteration 25"]
    assert slider.get_attribute("aria-valuetext") == "25, score"
    assert browser.find_element("css selector", "output").text == "25, score"
    slider.send_keys(Keys.HOME)
    assert visible() == ["Distilled images, iteration 0"]
