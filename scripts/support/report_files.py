"""The reports of a checker as files: JSON for programs, one HTML page for people."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tinylm.files.atomic import write_atomically
from tinylm.files.json_files import write_json
from tinylm.verify import Report
from tinylm.verify.check_pages import page

Checked = Sequence[tuple[str, Sequence[Report]]]  # (name of a function or model, its reports)


def write_reports(done: Checked, how: Mapping[str, Any], title: str, json_out: Path | None, html_out: Path | None) -> None:
    """Writes the files that were asked for. how: what was checked and in which way, for the JSON; title: of the page."""
    if json_out is not None:
        functions = [{"name": name, "ok": all(r.ok for r in rs), "reports": [r.record() for r in rs]} for name, rs in done]
        write_json(json_out, {**how, "functions": functions})
    if html_out is not None:
        write_atomically(html_out, page(title, done).encode("utf-8"))
