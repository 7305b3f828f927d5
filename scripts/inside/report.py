"""explain.py report: a run's curves and settings as one page."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from tinylm import explain
from tinylm.explain.run_report import run_record
from tinylm.train import load_run


@dataclass(frozen=True)
class Report:
    """Writes report.html into a run folder: result, training curves, gradient norms, learning rate, settings."""

    run: Annotated[Path, tyro.conf.Positional]
    """a run folder that 'train' wrote"""
    ngram: Path | None = None
    """also draw the loss of the n-gram model in this run folder; it must have the same tokens"""
    torch: Path | None = None
    """also draw PyTorch's curves from this run folder, which 'train_torch' wrote"""
    text: str | None = None
    """show the attention or the gates on this text"""
    dry_run: bool = False
    """read the run, and write nothing"""


def report(arguments: Report) -> None:
    if arguments.dry_run:
        run_record(arguments.run)
        load_run(arguments.run)
        print(f"would write {arguments.run / 'report.html'}")
        return
    print(f"written: {explain.report(arguments.run, ngram=arguments.ngram, torch=arguments.torch, text=arguments.text)}")
