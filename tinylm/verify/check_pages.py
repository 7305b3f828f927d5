"""Reports as one self-contained HTML page: one line per function, which opens to show its reports and error curves."""

import math
import re
from collections.abc import Sequence
from html import escape

from tinylm.pages.document import document, resource
from tinylm.verify.reports import Report, Row, worst_verdict

_ORDER = ("wrong", "undecided", "ok")
_BAR = (
    '<div class="details-bar screen-only" hidden=""><button type="button">Expand all</button>'
    '<button type="button">Collapse all</button></div>'
)


_V = (
    "A curve shows the relative error between the tape's gradient and the difference (f(x + h) - f(x - h)) / 2h, at each step h. Of a "
    "right gradient it is a V. Its right arm, at large steps, is the error of the formula, which grows with h²; its left arm, at small "
    "steps, is the rounding of f's values, which is divided by h. Both belong to the difference, not to the gradient, and the "
    "lowest point lies well below the red line, the tolerance. The curve of a wrong gradient stays level above that line: the error is "
    "in the tape, and no step makes the two agree."
)

_SHORT = "a V: right at this point; level, above the red line: wrong"


def page(title: str, checks: Sequence[tuple[str, Sequence[Report]]]) -> str:
    """Returns the page. checks: (name of a function, its reports); the failed and then the undecided ones come first and are open.

    What passed is one table per function, with the curves of all its checks beside it; each failed or undecided report has a
    table and a curve of its own. The page needs no JavaScript, which only opens and closes everything at once.
    """
    ordered = sorted(checks, key=lambda check: _ORDER.index(worst_verdict(check[1])))
    verdicts = [report.verdict for _, reports in checks for report in reports]
    undecided = f", {verdicts.count('undecided')} undecided" if "undecided" in verdicts else ""
    total = sum(len(reports) for _, reports in checks)
    counts = f"<p>{len(checks)} function{'s' * (len(checks) != 1)}, {total} checks, {verdicts.count('wrong')} failed{undecided}.</p>"
    sections = "\n".join(_section(name, reports) for name, reports in ordered)
    script = resource("tinylm.pages", "details.js")
    curves = any(report.curve for _, reports in checks for report in reports)
    reading = f'<p class="reading"><b>How to read a curve.</b> {escape(_V)}</p>' if curves else ""
    body = f"<main><h1>{escape(title)}</h1>\n{counts}\n{reading}\n{_BAR}\n{sections}\n</main>\n<script>\n{script}</script>"
    return document(title, body, styles=[resource("tinylm.verify", "check_page.css")]).decode("utf-8")


def _section(name: str, reports: Sequence[Report]) -> str:
    verdict = worst_verdict(reports)
    worst = max((r.error for r in reports), key=lambda e: math.inf if math.isnan(e) else e, default=0.0)
    summary = f"<b>{escape(name)}</b>: " + (f"{len(reports)} checks, largest relative error {worst:.1e}" if reports else "no derivative")
    details = "<details>" if verdict == "ok" else '<details open="open">'
    shown = [_report(report) for verdict in _ORDER[:2] for report in reports if report.verdict == verdict]
    passed = [report for report in reports if report.ok]
    if passed:
        shown.append(_passed(passed))
    return f"{details}<summary>{_verdict(verdict)} {summary}</summary>{''.join(shown)}</details>"


def _verdict(verdict: str) -> str:
    return {
        "ok": '<span class="ok">ok</span>',
        "undecided": '<span class="undecided">UNDECIDED</span>',
        "wrong": '<span class="failed">FAILED</span>',
    }[verdict]


def _report(report: Report) -> str:
    rows = "".join(
        f"<tr><td>{_verdict(row.verdict(report.tolerance))}</td><td>{escape(row.label)}</td><td>{row.error:.1e}</td></tr>{_explanation(row)}"
        for row in report.rows
    )
    head = "<tr><th></th><th>argument</th><th>error</th></tr>"
    remarks = "".join(f"<p>{escape(remark)}</p>" for remark in report.remarks)
    title = f"{_verdict(report.verdict)} {escape(report.title)}, tolerance {report.tolerance:.0e}"
    return f'<div class="checks report"><div><h3>{title}</h3><table>{head}{rows}</table>{remarks}</div>{_chart([report])}</div>'


def _explanation(row: Row) -> str:
    """Returns what stands below the row of a failure: where it is worst, and the likely cause."""
    kind, _, explained = row.explanation.partition(": ")
    words = [escape(row.detail), f"<b>{kind}:</b> {escape(explained)}" if explained else ""]
    shown = "<br/>".join(filter(None, words))
    return f'<tr><td></td><td colspan="2">{shown}</td></tr>' if shown else ""


def _passed(reports: Sequence[Report]) -> str:
    """Returns one table of the errors of all arguments in all checks; the longer side runs down."""
    titles = _without_common_name([report.title for report in reports])
    arguments = list(dict.fromkeys(row.name for report in reports for row in report.rows))
    errors = {(i, row.name): f"{row.error:.1e}" if row.error else "0" for i, report in enumerate(reports) for row in report.rows}
    down, across = list(enumerate(titles)), [(argument, argument) for argument in arguments]
    tolerances = [f"{report.tolerance:.0e}" for report in reports]
    if len(arguments) > max(9, len(reports)):
        lines = [(argument, [(title, errors.get((i, argument), "")) for i, title in down]) for argument in arguments]
        lines.append(("tolerance", list(zip(titles, tolerances, strict=True))))
        head = ["argument", *titles]
    else:
        lines = [
            (title, [(shown, errors.get((i, argument), "")) for argument, shown in across] + [("tolerance", tolerances[i])])
            for i, title in down
        ]
        head = ["check", *(argument.replace("argument ", "arg. ") for argument in arguments), "tolerance"]
    first = f"<thead><tr>{''.join(f'<th>{escape(text)}</th>' for text in head)}</tr></thead>"
    rows = "".join(
        f'<tr><th scope="row">{escape(text)}</th>' + "".join(f'<td data-of="{escape(of)}">{error}</td>' for of, error in line) + "</tr>"
        for text, line in lines
    )
    remarks = "".join(
        f"<li>{escape(title)}: {escape(r)}</li>" for title, report in zip(titles, reports, strict=True) for r in report.remarks
    )
    table = f'<table class="grid">{first}<tbody>{rows}</tbody></table>'
    return f'<div class="checks"><div>{table}{f"<ul>{remarks}</ul>" if remarks else ""}</div>{_chart(reports)}</div>'


def _without_common_name(titles: list[str]) -> list[str]:
    """Returns 'full, order 1' for 'exp (full, order 1)' if all the titles begin with the same name."""
    parts = [re.fullmatch(r"([^(]+) \((.*)\)", title) for title in titles]
    if len({part and part[1] for part in parts}) > 1:
        return titles
    return [title if part is None else part[2] for title, part in zip(titles, parts, strict=True)]


def _chart(reports: Sequence[Report]) -> str:
    """Returns an inline drawing of the error by step, both on logarithmic axes, the error from 10^-16 to 10^4: one curve per report."""
    drawn = [report for report in reports if report.curve]
    if not drawn:
        return ""
    width, height, left, bottom = 330, 220, 48, 46  # not wider than a phone, so that the text keeps its size

    def x(step: float) -> float:
        return left + (width - left - 10) * (math.log10(step) + 10.5) / 10

    def y(error: float) -> float:
        exponent = 4 if math.isnan(error) else math.log10(min(max(error, 1e-16), 1e4))
        return 10 + (height - bottom - 10) * (4 - exponent) / 20

    def across(error: float, kind: str) -> str:
        return f'<line class="{kind}" x1="{left}" x2="{width - 10}" y1="{y(error):.1f}" y2="{y(error):.1f}"/>'

    lines = "".join(f'{across(10.0**n, "axis")}<text x="2" y="{y(10.0**n) + 4:.1f}">1e{n}</text>' for n in (-16, -12, -8, -4, 0, 4))
    ticks = "".join(f'<text x="{x(10.0**n) - 12:.1f}" y="{height - 28}">1e{n}</text>' for n in (-10, -8, -6, -4, -2))
    limits = "".join(across(tolerance, "limit") for tolerance in sorted({report.tolerance for report in drawn}))
    points = [" ".join(f"{x(h):.1f},{y(e):.1f}" for h, e in report.curve) for report in drawn]
    curves = "".join(
        f'<polyline class="curve" points="{p}"><title>{escape(report.title)}</title></polyline>'
        for p, report in zip(points, drawn, strict=True)
    )
    label = f'<text x="{left}" y="{height - 5}">relative error by step; red: the tolerance</text>'
    size = f'viewBox="0 0 {width} {height}" width="{width}"'
    drawing = f'<svg {size} role="img" aria-label="error by step">{lines}{ticks}{limits}{curves}{label}</svg>'
    return f"<figure>{drawing}<figcaption>{_SHORT}</figcaption></figure>"
