"""explain.py report: a run's curves and settings as one page, or several runs side by side."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from tinylm import explain
from tinylm.errors import ConfigError
from tinylm.explain.run_report import run_record
from tinylm.train import load_run


@dataclass(frozen=True)
class Report:
    """Writes report.html into a run folder: result, training curves, gradient norms, learning rate, samples, settings. Of several
    runs, writes one page with their results, their losses in one picture, the settings that differ, and their samples side by side."""

    runs: Annotated[tuple[Path, ...], tyro.conf.Positional]
    """run folders that 'train', 'translate train' or 'classify train' wrote"""
    out: Path | None = None
    """the page; by default report.html in the run folder, of several runs comparison.html beside the first"""
    ngram: Path | None = None
    """of one run: also draw the loss of the n-gram model in this run folder; it must have the same tokens"""
    torch: Path | None = None
    """of one run: also draw PyTorch's curves from this run folder, which 'train_torch' wrote"""
    text: str | None = None
    """of one run: show the attention or the gates on this text"""
    dry_run: bool = False
    """read the runs, and write nothing"""


def report(arguments: Report) -> None:
    runs = arguments.runs
    if not runs:
        raise ConfigError("no run folder given: expected at least one")
    for name in ("ngram", "torch", "text"):
        if len(runs) > 1 and getattr(arguments, name) is not None:
            raise ConfigError(f"--{name} is for a report of one run, and {len(runs)} are given")
    if arguments.dry_run:
        for run in runs:
            run_record(run)
        if len(runs) == 1:
            load_run(runs[0])
        usual = runs[0] / "report.html" if len(runs) == 1 else runs[0].resolve().parent / "comparison.html"
        print(f"would write {arguments.out or usual}")
    elif len(runs) > 1:
        print(f"written: {explain.compare_runs(runs, arguments.out)}")
    else:
        print(f"written: {explain.report(runs[0], arguments.out, ngram=arguments.ngram, torch=arguments.torch, text=arguments.text)}")
