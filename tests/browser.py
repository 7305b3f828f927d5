"""Pages in headless Chromium: what it says on its console, and what a script finds in the page."""

import functools
import html
import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any, NamedTuple

import pytest

_SWITCHES = (
    "--headless", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr", "--window-size=1400,1000", "--virtual-time-budget=5000",
)  # fmt: skip


class Opened(NamedTuple):
    """The lines of the console, and the document at the end."""

    console: list[str]
    dom: str


@functools.cache
def _chromium() -> str | None:
    return next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


def needs_chromium() -> Any:
    """Returns a mark that skips the test, with a reason, if there is no Chromium."""
    return pytest.mark.skipif(_chromium() is None, reason="needs chromium to open the page (apt-get install chromium)")


def opened(path: Path, fragment: str = "") -> Opened:
    """Opens the page at `path`, with a #fragment after its address."""
    command = [str(_chromium()), *_SWITCHES, "--dump-dom", f"{path.as_uri()}{fragment}"]
    result = subprocess.run(command, capture_output=True, text=True, encoding="utf-8", check=True, timeout=300)
    return Opened([line for line in result.stderr.splitlines() if ":CONSOLE" in line], result.stdout)


_WRAPPER = """<!doctype html>
<iframe id="page" style="border: 0; width: {width}px; height: 900px; color-scheme: {scheme}" srcdoc="{page}"></iframe>
<pre id="found"></pre>
<script>
const probe = (document, window) => {{ {probe} }};
addEventListener("load", () => setTimeout(() => {{
  const frame = document.getElementById("page");
  document.getElementById("found").textContent = JSON.stringify(probe(frame.contentDocument, frame.contentWindow));
}}, 500));
</script>"""


def probed(page: Path, probe: str, width: int, folder: Path, scheme: str = "light") -> tuple[Any, list[str]]:
    """Returns what `probe`, the body of a function of the page's document and window, returns in a window of `width`
    pixels; and the lines of the console. The page is shown in a frame, since Chromium's own windows cannot be that
    narrow. scheme: "light" or "dark", which the page sees as the reader's preference."""
    wrapper = folder / f"wrapper-{width}-{scheme}.html"
    text = page.read_text(encoding="utf-8")
    wrapper.write_text(_WRAPPER.format(width=width, scheme=scheme, page=html.escape(text), probe=probe), encoding="utf-8")
    console, dom = opened(wrapper)
    found = re.search(r'<pre id="found">(.*?)</pre>', dom, re.S)
    assert found is not None
    assert found[1], f"the script did not end: {console}"
    return json.loads(html.unescape(found[1])), console


READABLE = """
  const shown = [...document.querySelectorAll("body *")].filter(e => e.checkVisibility() && e.tagName !== "SCRIPT"
    && [...e.childNodes].some(n => n.nodeType === Node.TEXT_NODE && n.textContent.trim()));
  const boxes = shown.map(e => e.getBoundingClientRect());
  return {
    width: window.innerWidth,
    texts: shown.length,
    smallest: Math.min(...shown.map(e => parseFloat(window.getComputedStyle(e).fontSize))),
    left: Math.min(...boxes.map(b => b.left)),
    right: Math.max(...boxes.map(b => b.right)),
    scroll: document.documentElement.scrollWidth - document.documentElement.clientWidth,
  };
"""  # a probe


def assert_readable(page: Path, width: int, folder: Path) -> None:
    """Asserts that every text is at least 13 pixels high and inside the window, that nothing scrolls sideways, and that
    the console is empty."""
    found, console = probed(page, READABLE, width, folder)
    assert console == []
    assert_found_readable(found, width)


def assert_found_readable(found: dict[str, float], width: int) -> None:
    """Asserts the same of what READABLE found as a part of another probe."""
    assert found["width"] == width
    assert found["texts"] > 5
    assert found["smallest"] >= 13
    assert found["left"] >= 0
    assert found["right"] <= width
    assert found["scroll"] <= 0


CONTRASTS = """
  const canvas = document.createElement("canvas").getContext("2d", {willReadFrequently: true});
  const read = colour => { // red, green, blue, opacity from 0 to 1, of any CSS colour
    canvas.clearRect(0, 0, 1, 1);
    canvas.fillStyle = colour;
    canvas.fillRect(0, 0, 1, 1);
    return [...canvas.getImageData(0, 0, 1, 1).data].map(x => x / 255);
  };
  const over = (top, below, opacity) => below.map((c, i) => top[i] * opacity + c * (1 - opacity));
  const light = colour => colour.map(c => c <= .04045 ? c / 12.92 : ((c + .055) / 1.055) ** 2.4)
    .reduce((sum, c, i) => sum + c * [.2126, .7152, .0722][i], 0);
  const style = element => window.getComputedStyle(element);
  const chain = element => element === null ? [] : [...chain(element.parentElement), element];
  const page = window.matchMedia("(prefers-color-scheme: dark)").matches ? [0, 0, 0] : [1, 1, 1];
  const background = element => {
    let colour = page;
    for (const at of chain(element)) {
      const [r, g, b, a] = read(style(at).backgroundColor);
      colour = over([r, g, b], colour, a);
    }
    const drawing = element.closest("svg"), box = element.getBoundingClientRect();
    const x = box.left + box.width / 2, y = box.top + box.height / 2;
    for (const shape of drawing === null ? [] : drawing.querySelectorAll("rect, circle")) { // painted below the text
      const inside = shape.getBoundingClientRect(), fill = style(shape).fill;
      const before = shape.compareDocumentPosition(element) & Node.DOCUMENT_POSITION_FOLLOWING;
      if (!before || fill === "none" || x < inside.left || x > inside.right || y < inside.top || y > inside.bottom) continue;
      const [r, g, b, a] = read(fill);
      colour = over([r, g, b], colour, a * style(shape).fillOpacity * style(shape).opacity);
    }
    return colour;
  };
  const shown = [...document.querySelectorAll("body *")].filter(e => e.checkVisibility({opacityProperty: true, visibilityProperty: true})
    && !e.closest("script, style, :disabled") && [...e.childNodes].some(n => n.nodeType === Node.TEXT_NODE && n.textContent.trim()));
  return shown.map(e => {
    const below = background(e), [r, g, b, a] = read(e.closest("svg") ? style(e).fill : style(e).color);
    const opacity = chain(e).reduce((product, at) => product * style(at).opacity, a);
    const [low, high] = [light(over([r, g, b], below, opacity)), light(below)].sort((a, b) => a - b);
    return [(high + .05) / (low + .05), `${e.tagName.toLowerCase()}.${e.getAttribute("class") ?? ""}: ${e.textContent.trim().slice(0, 9)}`];
  });
"""  # a probe: of each visible text the contrast ratio of WCAG 2.2 with what is behind it, and what it is


def assert_contrast(page: Path, width: int, folder: Path, prepare: str = "") -> None:
    """Asserts that each visible text stands out from what is behind it by at least 4.5 to 1, in light and in dark, and that
    the console is empty. prepare: JavaScript that runs first, a function's body of document and window, to open what is closed."""
    for scheme in ("light", "dark"):
        found, console = probed(page, f"{prepare};\n{CONTRASTS}", width, folder, scheme)
        assert console == []
        assert len(found) > 5, "texts were found"
        faint = [f"{what} ({ratio:.2f})" for ratio, what in found if ratio < 4.5]
        assert faint == [], f"{scheme}: {faint}"
