"""One offline HTML file: the shared style, and whatever style, script and data a page adds."""

import html
import json
from collections.abc import Sequence
from importlib import resources
from typing import Any

from tinylm.files.json_files import without_nan

_PAGE = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<link rel="icon" href="data:,">
<title>{title}</title>
<style>
{style}</style>
{body}
{scripts}</html>
"""


def document(title: str, body: str, *, styles: Sequence[str] = (), scripts: Sequence[str] = (), data: Any = None) -> bytes:
    """Returns an HTML file that needs no other file.

    body: its markup. styles: CSS after the shared one. scripts: JavaScript, run in order after the body, in strict mode.
    data: anything JSON can hold, found by the scripts in the element #data; NaN and infinities become strings.
    """
    inside = [f'<script>\n"use strict";\n{text}</script>\n' for text in scripts]
    if data is not None:
        record = json.dumps(without_nan(data), ensure_ascii=False, allow_nan=False).replace("<", "\\u003c")  # no text ends the script
        inside.insert(0, f'<script type="application/json" id="data">{record}</script>\n')
    if scripts:
        inside.insert(0, '<noscript><p class="notice">This page needs JavaScript, which is switched off in this browser.</p></noscript>\n')
    style = "".join([resource("tinylm.pages", "style.css"), *styles])
    page = _PAGE.format(title=html.escape(title), style=style, body=body, scripts="".join(inside))
    return page.encode("utf-8", "backslashreplace")


def resource(package: str, name: str) -> str:
    """Returns the text of a file that lies in a package."""
    return resources.files(package).joinpath(name).read_text(encoding="utf-8")
