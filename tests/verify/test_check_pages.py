"""The page of reports: self-contained, with every report, failures open and first."""

import xml.etree.ElementTree as ET

import numpy as np
import pytest
from browser import assert_readable, needs_chromium, probed

import tinylm
from tinylm.verify import Report, gradcheck
from tinylm.verify.check_pages import page
from tinylm.verify.reports import Row


def parsed(text):
    """Returns the body parsed as XML: every tag is closed, every text escaped."""
    return ET.fromstring(text[text.index("<body>") : text.index("</html>")])


def test_it_shows_every_report_and_the_failed_ones_first_and_open():
    good = gradcheck(tinylm.exp, np.array([0.5, 1.0]), thorough=True)
    bad = Report("bad <b> & co", 1e-6, (Row("argument 0", float("nan"), "worst at [0]", "a factor of 2"),), ("a remark",))
    text = page("A title", [("exp", [good]), ("wrong", [bad]), ("none", [])])
    body = parsed(text)
    sections = body.findall("details")
    assert [s.find("summary/b").text for s in sections] == ["wrong", "exp", "none"]
    assert [s.get("open") for s in sections] == ["open", None, None]
    assert "3 functions, 2 checks, 1 failed." in text
    words = "".join(body.itertext())
    for word in ("bad <b> & co", "argument 0", "a factor of 2", "a remark", "nan", "exp (full, order 1)"):
        assert word in words
    assert len(body.findall(".//polyline")) == 1


def test_it_needs_no_other_file():
    report = gradcheck(tinylm.exp, np.ones(2), thorough=True)
    text = page("A title", [("exp", [report])])
    for outside in ("http", "src=", "href=", "<script", "@import", "url("):
        assert outside not in text
    assert '<meta charset="utf-8">' in text
    assert "width=device-width" in text


def test_the_curve_is_drawn_as_it_is():
    report = Report("r", 1e-6, (), (), ((1e-1, 1e-4), (1e-5, 1e-12), (1e-10, float("nan"))))
    (line,) = parsed(page("t", [("r", [report])])).findall(".//polyline")
    points = [tuple(map(float, p.split(","))) for p in line.get("points").split()]
    assert [x for x, _ in points] == sorted((x for x, _ in points), reverse=True)  # large steps to the right
    assert points[2][1] < points[0][1] < points[1][1]  # the smaller the error the lower; a NaN at the top


@needs_chromium()
@pytest.mark.parametrize("width", [1280, 400])
def test_the_page_in_chromium(tmp_path, width):
    """With failures, causes, remarks, long names and curves; closed sections open at a click."""
    good = gradcheck(tinylm.exp, np.array([0.5, 1.0]), thorough=True)
    kinked = gradcheck(tinylm.abs, np.array([0.0, 1.0]), thorough=True)
    worst = Row("transformer_encoder.layers.0.self_attn.in_proj_weight", 0.5, "worst at [0, 1]: 1.234567891 by the tape", "a factor of 1/2")
    bad = Report("a_model (directions, order 1)", 1e-6, (worst, Row("argument 0", float("nan"))), ("a remark",), good.curve)
    path = tmp_path / "page.html"
    path.write_text(page("Gradients", [("exp", [good]), ("abs", [kinked]), ("a_model", [bad]), ("none", [])]), encoding="utf-8")
    assert_readable(path, width, tmp_path)
    probe = """
      for (const summary of document.querySelectorAll("details:not([open]) summary")) summary.click();
      const charts = [...document.querySelectorAll("svg")].map(e => e.getBoundingClientRect());
      const lines = e => {
        const range = document.createRange();
        range.selectNodeContents(e);
        return new Set([...range.getClientRects()].map(b => b.top)).size;
      };
      const words = [...document.querySelectorAll("td:first-child span, td:nth-child(3), th")];
      const broken = words.filter(e => lines(e) > 1);
      return {open: document.querySelectorAll("details[open]").length, charts: charts.map(b => [b.left, b.right, b.width]),
        broken: broken.length, words: words.length, scroll: document.documentElement.scrollWidth - document.documentElement.clientWidth};
    """
    found, console = probed(path, probe, width, tmp_path)
    assert console == []
    assert found["open"] == 4
    assert len(found["charts"]) == 3
    for left, right, wide in found["charts"]:
        assert 0 <= left < right <= width
        assert wide == pytest.approx(330, abs=1)
    assert found["words"] >= 12
    assert found["broken"] == 0
    assert found["scroll"] <= 0
