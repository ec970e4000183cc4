"""Every page: readable contrast in both colour schemes, no sideways scrolling on a phone, reachable by keyboard."""

from __future__ import annotations

import re

import pytest

from avem.text.pages import page_style
from tests.evaluate.report.pages import PAGES
from tests.evaluate.report.test_bench_page import page, results, run_folder  # noqa: F401 (fixtures)

TEXT, GRAPHICS = 4.5, 3.0
"""Least contrast of WCAG 2.2 AA: text (1.4.3), and what controls are recognised by (1.4.11)."""


def channel(value):
    return value / 12.92 if value <= 0.04045 else ((value + 0.055) / 1.055) ** 2.4


def luminance(colour):
    red, green, blue = (channel(part / 255) for part in colour)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(one, other):
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


def hexadecimal(text):
    return [int(text[at : at + 2], 16) for at in (1, 3, 5)]


def schemes():
    """The style's colours for light and for dark."""
    blocks = re.findall(r":root \{(.*?)\}", page_style(), re.DOTALL)
    assert len(blocks) == 2
    return [{name: hexadecimal(code) for name, code in re.findall(r"--([\w-]+): (#\w{6});", block)} for block in blocks]


def test_contrast_is_what_it_is():
    assert contrast((0, 0, 0), (255, 255, 255)) == pytest.approx(21)
    assert contrast((119, 119, 119), (255, 255, 255)) == pytest.approx(4.48, abs=0.01)


@pytest.mark.parametrize("colours", schemes(), ids=["light", "dark"])
def test_the_styles_colours_are_readable(colours):
    tones = [f"tone-{number}" for number in range(6)]
    for name in ("ink", "soft", "right", "wrong", *tones):
        for ground in ("page", "card"):
            assert contrast(colours[name], colours[ground]) >= TEXT, (name, ground)
    for name in ("ink", "soft", "right"):
        assert contrast(colours[name], colours["mark"]) >= TEXT, name
    for name in ("focus", "control"):
        for ground in ("page", "card"):
            assert contrast(colours[name], colours[ground]) >= GRAPHICS, (name, ground)


FAINT = """
const parse = text => {  // a mixed colour comes as color(srgb r g b / a), with parts from 0 to 1
  const parts = (text.match(/[\\d.]+/g) || []).map(Number);
  return text.startsWith("color(") ? parts.map((part, i) => i < 3 ? 255 * part : part) : parts;
};
const luminance = c => [0, 1, 2].map(i => c[i] / 255).map(v => v <= .04045 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4)
  .reduce((sum, v, i) => sum + v * [.2126, .7152, .0722][i], 0);
const over = (top, below) => { const a = top[3] ?? 1; return [0, 1, 2].map(i => a * top[i] + (1 - a) * below[i]); };
const ground = node => {
  if (!node || node === document) return [255, 255, 255];
  const colour = parse(getComputedStyle(node).backgroundColor);
  return (colour[3] ?? 1) === 1 ? colour : over(colour, ground(node.parentElement));
};
const found = [], walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
while (walker.nextNode()) {
  const node = walker.currentNode.parentElement, style = getComputedStyle(node);
  if (!walker.currentNode.data.trim() || /^(SCRIPT|STYLE|OPTION|TITLE)$/i.test(node.tagName)) continue;
  if (!node.getClientRects().length || style.visibility === "hidden" || node.closest(":disabled")) continue;
  const below = ground(node), svg = node instanceof SVGElement;
  const own = over(parse(svg ? style.fill : style.color), below);
  const [a, b] = [luminance(own), luminance(below)].sort((x, y) => y - x);
  const ratio = (a + .05) / (b + .05);
  const text = walker.currentNode.data.trim().slice(0, 30);
  if (ratio < 4.5) found.push(`${node.tagName}.${node.className} "${text}" ${ratio.toFixed(2)}`);
}
return found;
"""
"""Texts whose colour is too close to what is painted below them."""


def unfold(browser, name):
    """Show everything that the page can show."""
    if name == "survey":
        browser.execute_script("begin('ann', 1)")
    browser.execute_script("document.querySelectorAll('details').forEach(each => { each.open = true; })")


SIDEWAYS = "return document.documentElement.scrollWidth - document.documentElement.clientWidth"


def look(browser, path, width, scheme):
    size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 600}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    feature = {"name": "prefers-color-scheme", "value": scheme}
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [feature]})
    browser.get(path.as_uri())


@pytest.fixture(scope="module", params=PAGES)
def each(request, tmp_path_factory):
    """Every kind of page, by its name."""
    return request.param, PAGES[request.param](tmp_path_factory.mktemp(request.param))


def test_pages_are_readable_and_fit(browser, each):
    name, path = each
    for scheme in ("light", "dark"):
        for width in (390, 1300):
            look(browser, path, width, scheme)
            unfold(browser, name)
            assert browser.execute_script(SIDEWAYS) <= 0
            assert browser.execute_script(FAINT) == []


CONTROLS = """
const shown = node => node.getClientRects().length && getComputedStyle(node).visibility !== "hidden" && !node.disabled;
const scrolls = node => /auto|scroll/.test(getComputedStyle(node).overflowX) && node.scrollWidth > node.clientWidth + 1;
const controls = "a[href], button, input, select, textarea, summary, audio[controls], video[controls], [tabindex]";
const groups = new Set();  // Tab enters a group of radio buttons once
window.expected = [...document.querySelectorAll("body *")].filter(node => shown(node) && (scrolls(node)
  || node.onclick || node.matches(controls)) && !(node.matches("[tabindex='-1']"))).filter(node => {
  if (node.type !== "radio") return true;
  const before = groups.has(node.name); groups.add(node.name); return !before; });
return window.expected.length;
"""
"""Marks whatever is used with the mouse: controls, and boxes that scroll sideways; gives their number."""
FOCUSED = """
const node = document.activeElement, style = getComputedStyle(node);
const around = [style, node.parentElement ? getComputedStyle(node.parentElement) : style];
const seen = around.some(each => each.outlineStyle !== "none" || each.boxShadow !== "none");
const text = `${node.tagName}.${node.className} "${node.textContent.trim().slice(0, 30)}"`;
return [window.expected.findIndex(each => each === node || each.contains(node) && each.matches("audio, video")),
  seen ? "" : text];
"""
MOST = 60
"""Controls of a page that are visited; further ones are of the same kinds."""


def test_everything_is_reached_by_keyboard_and_seen_there(browser, each):
    from selenium.webdriver import ActionChains, Keys

    name, path = each
    look(browser, path, 390, "light")
    unfold(browser, name)
    browser.execute_script("document.activeElement.blur(); scrollTo(0, 0)")
    count = browser.execute_script(CONTROLS)
    reached, unseen = set(), set()
    for _ in range(2 * min(count, MOST) + 10):  # players have several stops
        ActionChains(browser).send_keys(Keys.TAB).perform()
        number, text = browser.execute_script(FOCUSED)
        reached.add(number)
        unseen |= {text} if number >= 0 and text else set()
        if set(range(min(count, MOST))) <= reached:
            break
    missed = sorted(set(range(min(count, MOST))) - reached)
    names = browser.execute_script("return window.expected.map(each => each.outerHTML.slice(0, 120))")
    assert [names[number] for number in missed] == []
    assert unseen == set(), "no sign of where the focus is"


def test_the_look_finds_faint_text(browser, tmp_path):
    faint = tmp_path / "faint.html"
    faint.write_text('<body style="background:#fff"><p style="color:#999">faint</p><p style="color:#000">clear</p>')
    look(browser, faint, 390, "light")
    assert [each.split('"')[1] for each in browser.execute_script(FAINT)] == ["faint"]


def test_wide_tables_scroll_in_their_own_box_and_keep_the_rows_name(browser, page):  # noqa: F811
    look(browser, page, 390, "light")
    box = "document.getElementById('details').parentElement"
    assert browser.execute_script(f"return {box}.scrollWidth > {box}.clientWidth && {box}.tabIndex === 0")
    before, after = browser.execute_script(
        f"const name = document.querySelector('#details tbody th'), left = () => name.getBoundingClientRect().left;"
        f"const first = left(); {box}.scrollLeft = 200; return [first, left()];"
    )
    assert abs(before - after) <= 1
    assert "gradient" in browser.execute_script(f"return getComputedStyle({box}).backgroundImage"), "no cue"


def test_a_case_leads_to_its_questions_by_keyboard(browser, page):  # noqa: F811
    from selenium.webdriver import ActionChains, Keys
    from selenium.webdriver.support.ui import WebDriverWait

    browser.set_window_size(1300, 900)
    browser.get(page.as_uri())
    for _ in range(12):
        ActionChains(browser).send_keys(Keys.TAB).perform()
        if browser.switch_to.active_element.get_attribute("data-outcome") == "gained":
            break
    ActionChains(browser).send_keys(Keys.ENTER).perform()
    shown = "return document.getElementById('shown').textContent"
    WebDriverWait(browser, 5).until(lambda _: browser.execute_script(shown).startswith("7 of 12"))
    WebDriverWait(browser, 5).until(lambda _: browser.execute_script("return scrollY > 300"))


def test_the_clip_stays_in_sight_beside_its_questions(browser, page):  # noqa: F811
    look(browser, page, 1300, "light")
    style = "return getComputedStyle(document.querySelector('.clip .media')).position"
    assert browser.execute_script(style) == "sticky"
