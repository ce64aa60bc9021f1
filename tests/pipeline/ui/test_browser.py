"""The pages in a real browser: nothing is refused, nothing sticks out, everything can be read and reached."""

from __future__ import annotations

import re

import pytest

PAGES = [
    *(
        "/",
        "/runs",
        "/runs/{run}",
        "/lineage",
        "/files",
        "/drops",
        "/row?id={id}",
        "/clusters",
        "/clusters/{family}",
    ),
    *("/policies", "/costs?label=0.05", "/schedules", "/health", "/nope"),
]
TAB, ENTER = ("Tab", 9), ("Enter", 13, "\r")

# The least contrast of any text with the nearest background behind it (WCAG 2.2), and where it is.
CONTRAST = """(() => {
  const parse = c => c.match(/[\\d.]+/g).map(Number);
  const light = c => {
    const [r, g, b] = c.map(v => (v /= 255) <= .04045 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4);
    return .2126 * r + .7152 * g + .0722 * b; };
  const behind = e => { for (; e; e = e.parentElement) { const c = parse(getComputedStyle(e).backgroundColor);
    if (c.length < 4 || c[3] === 1) return c.slice(0, 3); } return [255, 255, 255]; };
  let least = [99, ''];
  for (const e of document.querySelectorAll('body *')) {
    if (![...e.childNodes].some(n => n.nodeType === 3 && n.data.trim()) || !e.getClientRects().length) continue;
    if (e.closest('svg, .over')) continue;  // what is struck out is not in use
    const style = getComputedStyle(e), a = light(parse(style.color).slice(0, 3)), b = light(behind(e));
    const ratio = (Math.max(a, b) + .05) / (Math.min(a, b) + .05);
    if (ratio < least[0]) least = [ratio, e.outerHTML.slice(0, 120) + ' ' + style.color + ' on ' + behind(e)];
  }
  return least;
})()"""

# Controls without a name, headings that skip a level, pictures without a description.
NAMES = """(() => {
  const bad = [];
  for (const e of document.querySelectorAll('a, button, input, img, [role=img], nav, section'))
    if (!(e.textContent.trim() || e.getAttribute('aria-label') || e.getAttribute('alt') || e.type === 'hidden'
        || (e.labels && e.labels.length))) bad.push(e.outerHTML.slice(0, 120));
  let last = 0;
  for (const h of document.querySelectorAll('h1, h2, h3, h4')) {
    const level = +h.tagName[1]; if (level > last + 1) bad.push('heading ' + h.textContent); last = level; }
  if (!document.documentElement.lang) bad.push('no language');
  for (const t of document.querySelectorAll('th')) if (!t.scope) bad.push('th ' + t.textContent);
  return bad;
})()"""

# What reaches over the right edge, tables that scroll by themselves left out.
WIDE = """[...document.querySelectorAll('body *')].filter(e => !e.closest('.scroll, pre, svg, .skip, .sr')
  && e.getBoundingClientRect().right > innerWidth + 1).map(e => e.outerHTML.slice(0, 120))"""


@pytest.fixture(scope="module")
def places(shown) -> dict[str, str]:
    family = shown.settled("/clusters").json["families"][0]
    row = family["members"][-1]["id"]
    for path in (f"/row?id={row}", "/drops", "/health"):
        shown.settled(path)
    return {
        "run": shown.get("/api/runs").json["lines"][-1]["run"],
        "family": family["name"],
        "id": row,
        "base": f"http://127.0.0.1:{shown.server.port}",
    }


@pytest.mark.parametrize(("width", "dark"), [(1280, False), (390, True)], ids=["wide-light", "narrow-dark"])
@pytest.mark.parametrize("page", PAGES)
def test_page(browser, places: dict[str, str], page: str, width: int, dark: bool) -> None:
    tab = browser.open(places["base"] + page.format(**places), width=width, dark=dark)
    expected = [text for text in tab.complaints if "404" in text] if page == "/nope" else []
    assert tab.complaints == expected
    assert tab.evaluate("document.documentElement.scrollWidth <= innerWidth")
    assert tab.evaluate(WIDE) == []
    ratio, where = tab.evaluate(CONTRAST)
    assert ratio >= 4.5, where
    assert tab.evaluate(NAMES) == []
    # The style sheet was taken, and the scheme followed.
    paper = tab.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (int(re.findall(r"\d+", paper)[0]) < 100) == dark
    tab.leave()


def test_the_report_keeps_its_looks(browser, places: dict[str, str]) -> None:
    tab = browser.open(f"{places['base']}/runs/{places['run']}/report")
    assert tab.complaints == []
    assert tab.evaluate("getComputedStyle(document.body).maxWidth") == "1088px"
    tab.leave()


def test_by_keyboard(browser, places: dict[str, str]) -> None:
    tab = browser.open(f"{places['base']}/")
    tab.press(*TAB)
    assert tab.evaluate("document.activeElement.className") == "skip"
    seen = []
    for _ in range(14):
        tab.press(*TAB)
        seen.append(tab.evaluate("document.activeElement.textContent || document.activeElement.name"))
        style = "getComputedStyle(document.activeElement)"
        assert tab.evaluate(f"{style}.outlineStyle") == "solid", seen
        assert tab.evaluate(f"parseFloat({style}.outlineWidth)") >= 2
    assert seen[:4] == ["Gristmill", "Overview", "Runs", "Lineage"]
    assert {"Health", "id", "Why?"} <= set(seen)
    tab.leave()


def test_without_scripts(browser, places: dict[str, str]) -> None:
    tab = browser.open(f"{places['base']}/drops", scripts=False)
    assert "More rows" in tab.html() or "rows looked at" in tab.html()
    root = tab.call("DOM.getDocument", depth=0)["root"]["nodeId"]
    field = tab.call("DOM.querySelector", nodeId=root, selector="input[name=id]")["nodeId"]
    tab.call("DOM.focus", nodeId=field)
    tab.call("Input.insertText", text=places["id"])
    tab.follow(lambda: tab.press(*ENTER))
    assert f"Row <code>{places['id']}" in tab.html()
    assert tab.complaints == []
    tab.leave()


def test_what_records_hold_is_not_run(browser, shown, places: dict[str, str]) -> None:
    for page in ("/drops", "/drops?rule=too-short", "/files", "/clusters/{family}"):
        tab = browser.open(places["base"] + page.format(**places))
        assert tab.evaluate("document.scripts.length") == 0
        assert tab.evaluate("document.querySelectorAll('img:not([src^=\"data:image/\"])').length") == 0
        assert tab.complaints == []
        tab.leave()
    # Were a script there all the same, the policy would not let it run.
    tab = browser.open(f"{places['base']}/")
    tab.evaluate(
        "{const s = document.createElement('script'); s.textContent = 'window.ran = 1'; "
        "document.body.append(s)}"
    )
    assert tab.evaluate("window.ran === undefined")
    assert any("Content Security Policy" in text for text in tab.complaints)
    tab.leave()
