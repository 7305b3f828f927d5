"""Reports as one self-contained HTML page: one row per function, which opens to show its reports and error curves."""

import math
from collections.abc import Sequence
from html import escape

from tinylm.verify.reports import Report, Row, worst_verdict

_ORDER = ("wrong", "undecided", "ok")
_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; max-width: 70rem; margin: 2rem auto; padding: 0 1rem; color: #222; background: #fff; }
details { border-bottom: 1px solid #ddd; padding: .3rem 0; } summary { cursor: pointer; overflow-wrap: anywhere; }
table { border-collapse: collapse; } td, th { text-align: left; padding: .1rem .8rem .1rem 0; vertical-align: top; }
td:first-child, td:nth-child(3) { white-space: nowrap; } td:nth-child(2) { min-width: 6rem; }
.undecided { color: #8a5a00; font-weight: bold; }
.ok { color: #17692f; } .failed { color: #b00020; font-weight: bold; } .report { margin: .5rem 0 1rem 1.2rem; overflow-wrap: anywhere; }
svg { max-width: 100%; height: auto; } svg text { font-size: 13px; fill: #555; }
@media (prefers-color-scheme: dark) {
  body { background: #16181c; color: #ddd; } .undecided { color: #ffc66d; }
  .ok { color: #7fd197; } .failed { color: #ff8a8a; } svg text { fill: #aaa; }
  details { border-color: #444; } }
"""


def page(title: str, checks: Sequence[tuple[str, Sequence[Report]]]) -> str:
    """Returns the page. checks: (name of a function, its reports); the failed and then the undecided ones come first and are open."""
    ordered = sorted(checks, key=lambda check: _ORDER.index(worst_verdict(check[1])))
    verdicts = [report.verdict for _, reports in checks for report in reports]
    undecided = f", {verdicts.count('undecided')} undecided" if "undecided" in verdicts else ""
    total = sum(len(reports) for _, reports in checks)
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{escape(title)}</title>'
        f'<meta name="viewport" content="width=device-width, initial-scale=1"><style>{_STYLE}</style></head>\n<body>'
        f"<h1>{escape(title)}</h1>\n<p>{len(checks)} functions, {total} checks, {verdicts.count('wrong')} failed{undecided}.</p>\n"
        + "\n".join(_section(name, reports) for name, reports in ordered)
        + "\n</body></html>\n"
    )


def _section(name: str, reports: Sequence[Report]) -> str:
    verdict = worst_verdict(reports)
    worst = max((r.error for r in reports), key=lambda e: math.inf if math.isnan(e) else e, default=0.0)
    summary = f"<b>{escape(name)}</b>: " + (f"{len(reports)} checks, largest relative error {worst:.1e}" if reports else "no derivative")
    details = "<details>" if verdict == "ok" else '<details open="open">'
    return f"{details}<summary>{_verdict(verdict)} {summary}</summary>{''.join(map(_report, reports))}</details>"


def _verdict(verdict: str) -> str:
    return {
        "ok": '<span class="ok">ok</span>',
        "undecided": '<span class="undecided">UNDECIDED</span>',
        "wrong": '<span class="failed">FAILED</span>',
    }[verdict]


def _report(report: Report) -> str:
    rows = "".join(
        f"<tr><td>{_verdict(row.verdict(report.tolerance))}</td><td>{escape(row.name)}</td><td>{row.error:.1e}</td></tr>{_explanation(row)}"
        for row in report.rows
    )
    head = "<tr><th></th><th>argument</th><th>error</th></tr>"
    remarks = "".join(f"<p>{escape(remark)}</p>" for remark in report.remarks)
    curve = _curve(report) if report.curve else ""
    title = f"{_verdict(report.verdict)} {escape(report.title)}, tolerance {report.tolerance:.0e}"
    return f'<div class="report"><p>{title}</p><table>{head}{rows}</table>{remarks}{curve}</div>'


def _explanation(row: Row) -> str:
    """Returns what stands below the row of a failure: where it is worst, and the likely cause."""
    words = [escape(row.detail), f"<b>likely cause:</b> {escape(row.cause)}" if row.cause else ""]
    shown = "<br/>".join(filter(None, words))
    return f'<tr><td></td><td colspan="2">{shown}</td></tr>' if shown else ""


def _curve(report: Report) -> str:
    """Returns an inline drawing of the error by step, both on logarithmic axes, the error from 10^-16 to 10^4."""
    width, height, left, bottom = 330, 220, 48, 46  # not wider than a phone, so that the text keeps its size

    def x(step: float) -> float:
        return left + (width - left - 10) * (math.log10(step) + 10.5) / 10

    def y(error: float) -> float:
        exponent = 4 if math.isnan(error) else math.log10(min(max(error, 1e-16), 1e4))
        return 10 + (height - bottom - 10) * (4 - exponent) / 20

    points = " ".join(f"{x(h):.1f},{y(e):.1f}" for h, e in report.curve)
    lines = "".join(
        f'<line x1="{left}" x2="{width - 10}" y1="{y(10.0**n):.1f}" y2="{y(10.0**n):.1f}" stroke="#8884"/>'
        f'<text x="2" y="{y(10.0**n) + 4:.1f}">1e{n}</text>'
        for n in (-16, -12, -8, -4, 0, 4)
    )
    ticks = "".join(f'<text x="{x(10.0**n) - 12:.1f}" y="{height - 28}">1e{n}</text>' for n in (-10, -8, -6, -4, -2))
    limit = f'<line x1="{left}" x2="{width - 10}" y1="{y(report.tolerance):.1f}" y2="{y(report.tolerance):.1f}" stroke="#b00020"/>'
    drawn = f'<polyline points="{points}" fill="none" stroke="#3366cc" stroke-width="2"/>'
    label = f'<text x="{left}" y="{height - 5}">relative error by step; red: the tolerance</text>'
    size = f'viewBox="0 0 {width} {height}" width="{width}"'
    return f'<svg {size} role="img" aria-label="error by step">{lines}{ticks}{limit}{drawn}{label}</svg>'
