"""The page of reports: self-contained, with every report, failures open and first."""

import re
import xml.etree.ElementTree as ET

import numpy as np
import pytest
from browser import assert_contrast, assert_readable, needs_chromium, probed

import tinylm
from tinylm.verify import Report, gradcheck
from tinylm.verify.check_pages import page
from tinylm.verify.reports import Row


def parsed(text):
    """Returns the main part parsed as XML: every tag is closed, every text escaped."""
    return ET.fromstring(text[text.index("<main>") : text.index("<script>")])


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
    for outside in ("http", "src=", "@import", "url("):
        assert outside not in text
    assert re.findall(r'href="([^"]*)"', text) == ["data:,"]
    assert "noscript" not in text, "it can be read without JavaScript, which only opens everything at once"
    assert '<meta charset="utf-8">' in text
    assert "width=device-width" in text


def test_the_curve_is_drawn_as_it_is():
    report = Report("r", 1e-6, (), (), ((1e-1, 1e-4), (1e-5, 1e-12), (1e-10, float("nan"))))
    (line,) = parsed(page("t", [("r", [report])])).findall(".//polyline")
    points = [tuple(map(float, p.split(","))) for p in line.get("points").split()]
    assert [x for x, _ in points] == sorted((x for x, _ in points), reverse=True)  # large steps to the right
    assert points[2][1] < points[0][1] < points[1][1]  # the smaller the error the lower; a NaN at the top


def test_the_page_word_for_word():
    nan = float("nan")
    rows = (
        Row("a", 5e-9),
        Row("b<", 0.25, "worst here", "sign & all"),
        Row("c", nan, "few", decided="undecided"),
        Row("d", 1.0, cause="a factor"),
    )
    right, undecided, none = Report("r", 1e-5, rows[:1]), Report("u", 1e-6, rows[2:3]), Report("n", 1e-6, ())
    wrong = Report("w", 1e-6, rows, ("a <remark>",))
    text = page("T & U", [("good", [right, none]), ("no", []), ("open", [right, undecided]), ("bad", [wrong])])
    body = parsed(text)
    assert body.find("p").text == "4 functions, 5 checks, 1 failed, 1 undecided."
    assert "<title>T &amp; U</title>" in text
    assert [(s.get("open"), " ".join(s.find("summary").itertext())) for s in body.findall("details")] == [
        ("open", "FAILED   bad : 1 checks, largest relative error nan"),
        ("open", "UNDECIDED   open : 2 checks, largest relative error nan"),
        (None, "ok   good : 2 checks, largest relative error 5.0e-09"),
        (None, "ok   no : no derivative"),
    ]
    (report,) = body.findall("details")[0].findall("div[@class='checks report']/div")
    assert ["".join(p.itertext()) for p in (report.find("h3"), *report.findall("p"))] == ["FAILED w, tolerance 1e-06", "a <remark>"]
    assert [["".join(cell.itertext()) for cell in line] for line in report.find("table")] == [
        ["", "argument", "error"],
        ["ok", "a", "5.0e-09"],
        ["FAILED", "b<", "2.5e-01"],
        ["", "worst herelikely cause: sign & all"],
        ["UNDECIDED", "c", "nan"],
        ["", "few"],
        ["FAILED", "d", "1.0e+00"],
        ["", "likely cause: a factor"],
    ]
    assert body.findall(".//svg") == []
    assert [p.text for p in body.findall(".//h3/span[@class='failed']")] == ["FAILED"]
    for verdict, shown in (("ok", "ok"), ("undecided", "UNDECIDED"), ("failed", "FAILED")):
        assert {span.text for span in body.findall(f".//span[@class='{verdict}']")} == {shown}


def grid(section):
    """Returns the texts of the table of what passed, its head first."""
    table = section.find("div[@class='checks']/div/table[@class='grid']")
    return [["".join(cell.itertext()) for cell in line] for line in table.iter("tr")]


def test_what_passed_is_one_table_and_one_chart():
    """One line per check; one per argument where there are many of these. The curves of all checks are in one chart beside it."""
    curve = ((1e-1, 1e-4), (1e-5, 1e-12))
    first = Report("f (full, order 1, small)", 1e-6, (Row("argument 0", 1e-9), Row("weight", 0.0)), ("a remark",), curve)
    second = Report("f (full, order 2)", 1e-5, (Row("argument 0", 2e-8), Row("cotangent", 3e-8)), (), curve)
    many = Report("model (directions)", 1e-6, tuple(Row(f"layer.{i}", 1e-9 * i) for i in range(12)))
    bad = Report("f (full, order 1, large)", 1e-6, (Row("argument 0", 1.0),))
    mixed, good, model = parsed(page("t", [("f", [first, second]), ("model", [many]), ("mixed", [first, bad])])).findall("details")
    assert grid(good) == [
        ["check", "arg. 0", "weight", "cotangent", "tolerance"],
        ["full, order 1, small", "1.0e-09", "0", "", "1e-06"],
        ["full, order 2", "2.0e-08", "", "3.0e-08", "1e-05"],
    ]
    assert [item.text for item in good.iter("li")] == ["full, order 1, small: a remark"]
    (chart,) = good.iter("svg")
    assert [title.text for title in chart.iter("title")] == [first.title, second.title]
    assert len(chart.findall("line[@class='limit']")) == 2
    lines = grid(model)
    assert (lines[0], lines[4], lines[-1]) == (["argument", "directions"], ["layer.3", "3.0e-09"], ["tolerance", "1e-06"])
    assert len(lines) == 14
    assert grid(mixed)[1][:2] == ["full, order 1, small", "1.0e-09"], "beside a failure, which has a table of its own"
    assert len(mixed.findall("div[@class='checks report']")) == 1


def test_the_axes_of_a_curve():
    """Lines at every fourth power of ten of the error, 16.4 high each; labels at every second one of the step, 54.4 apart."""
    curve = tuple((10.0**-n, 10.0**e) for n, e in ((2, 5), (4, 4), (6, 0), (8, -8), (10, -17)))
    (svg,) = parsed(page("t", [("r", [Report("r", 1e-6, (), (), curve)])])).findall(".//svg")
    assert (svg.get("viewBox"), svg.get("width")) == ("0 0 330 220", "330")
    lines = [tuple(float(line.get(k)) for k in ("x1", "x2", "y1", "y2")) for line in svg.findall("line")]
    heights = [10 + 8.2 * n for n in (20, 16, 12, 8, 4, 0)]
    assert lines == [(48, 320, pytest.approx(y), pytest.approx(y)) for y in (*heights, 92)]  # the last one: the tolerance
    assert svg.findall("line")[-1].get("class") == "limit"
    labels = [(t.text, float(t.get("x")), float(t.get("y"))) for t in svg.findall("text")]
    steps = [61.6 + 54.4 * n for n in range(5)]
    assert labels == [
        *((f"1e{n}", 2, pytest.approx(y + 4)) for n, y in zip((-16, -12, -8, -4, 0, 4), heights, strict=True)),
        *((f"1e{n}", pytest.approx(x - 12), 192) for n, x in zip((-10, -8, -6, -4, -2), steps, strict=True)),
        ("relative error by step; red: the tolerance", 48, 215),
    ]
    drawn = [tuple(map(float, p.split(","))) for p in svg.find("polyline").get("points").split()]
    assert drawn == [pytest.approx(p) for p in zip(steps[::-1], (10, 10, 42.8, 108.4, 174), strict=True)]


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
      document.querySelector(".details-bar button").click();
      const charts = [...document.querySelectorAll("svg")].map(e => e.getBoundingClientRect());
      const lines = e => {
        const range = document.createRange();
        range.selectNodeContents(e);
        return new Set([...range.getClientRects()].map(b => b.top)).size;
      };
      const words = [...document.querySelectorAll(
        ".report td:first-child span, .report td:nth-child(3), .report th, .grid thead th, .grid td")];
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
    if width == 1280:
        assert_contrast(path, width, tmp_path, "document.querySelector('.details-bar button').click()")
