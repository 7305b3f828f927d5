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


_WRAPPER = """<!doctype html><iframe id="page" style="border: 0; width: {width}px; height: 900px" srcdoc="{page}"></iframe>
<pre id="found"></pre>
<script>
const probe = (document, window) => {{ {probe} }};
addEventListener("load", () => setTimeout(() => {{
  const frame = document.getElementById("page");
  document.getElementById("found").textContent = JSON.stringify(probe(frame.contentDocument, frame.contentWindow));
}}, 500));
</script>"""


def probed(page: Path, probe: str, width: int, folder: Path) -> tuple[Any, list[str]]:
    """Returns what `probe`, the body of a function of the page's document and window, returns in a window of `width`
    pixels; and the lines of the console. The page is shown in a frame, since Chromium's own windows cannot be that
    narrow."""
    wrapper = folder / f"wrapper-{width}.html"
    text = page.read_text(encoding="utf-8")
    wrapper.write_text(_WRAPPER.format(width=width, page=html.escape(text), probe=probe), encoding="utf-8")
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
    assert found["width"] == width
    assert found["texts"] > 5
    assert found["smallest"] >= 13
    assert found["left"] >= 0
    assert found["right"] <= width
    assert found["scroll"] <= 0
