"""The helpers that open pages in Chromium notice what is wrong."""

from pathlib import Path

import pytest
from browser import assert_contrast, needs_chromium, opened

from tinylm.pages.document import document


@needs_chromium()
def test_errors_on_the_console_are_noticed(tmp_path: Path) -> None:
    """Otherwise an empty console would not mean that the pages have no errors."""
    (tmp_path / "bad.html").write_text("<!doctype html><script>undefined_function()</script>", encoding="utf-8")
    assert "undefined_function is not defined" in "".join(opened(tmp_path / "bad.html").console)


@needs_chromium()
def test_faint_text_is_noticed(tmp_path: Path) -> None:
    """Otherwise `assert_contrast` would say nothing: grey on paper, half transparent, and in a drawing on a dark shape."""
    drawing = '<svg><rect width="90" height="50" fill="#222"/><text y="20">in</text></svg>'
    words = '<p style="color: #999">grey</p><p style="opacity: .4">half</p><p style="background: #000; color: #fff">white</p>'
    (tmp_path / "page.html").write_bytes(document("Faint", words + drawing + "<p>ink</p>" * 6))
    with pytest.raises(AssertionError, match=r"light: .'p\.: grey \(2\.\d+\)', 'p\.: half \(2\.\d+\)', 'text\.: in \(1\.\d+\)'.$"):
        assert_contrast(tmp_path / "page.html", 800, tmp_path)
