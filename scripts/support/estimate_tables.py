"""What `--estimate` prints: the time and memory that a run will take, and what another size or more data would change."""

import contextlib
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from rich.table import Table

from support.tables import screen
from tinylm.data import Corpus
from tinylm.errors import ConfigError
from tinylm.studies.estimates import (
    GOOD_PASSES,
    MOST_PASSES,
    TOKENS_PER_PARAMETER,
    Estimate,
    compute_optimal,
    estimate,
    worth_in_passes,
)
from tinylm.studies.measured_runs import RunEstimate
from tinylm.studies.sizes import config_of_size
from tinylm.train.distributed import Ranks
from tinylm.train.run_folder import saved_checkpoints
from tinylm.train.tasks.language_model_config import TrainConfig
from tinylm.train.tasks.loading import read_config
from tinylm.train.tasks.settings import Settings


def show_estimate(config: TrainConfig, text: str | Corpus, resume: Path | None, ranks: Ranks) -> int:
    """Measures the first steps in a temporary folder and prints the tables. resume: estimate the remaining steps of this run."""
    if config.model == "ngram":
        raise ConfigError("--estimate and --model ngram do not go together: counting n-grams takes seconds")
    if ranks.size > 1:
        raise ConfigError("--estimate measures one process: leave out --distributed")
    tokenizer = None if resume is None else read_config(resume, TrainConfig)[1]
    with trial_folder(resume) as folder:
        found = estimate(config, folder, text, tokenizer, resume=resume is not None)
    table, lines = advice(found)
    show_tables(time_table(found), memory_table(found), table)
    print(lines)
    return 0


def show_run_estimate(measure: Callable[..., RunEstimate], config: Settings, data: Any, resume: Path | None) -> int:
    """As `show_estimate`, for a task whose estimate `measure` makes: it is given the config, the folder, the data, and `resume`."""
    with trial_folder(resume) as folder:
        found = measure(config, folder, data, resume=resume is not None)
    return show_tables(time_table(found), memory_table(found))


@contextlib.contextmanager
def trial_folder(resume: Path | None) -> Iterator[Path]:
    """Gives a folder for a run that is removed afterwards; resume: with a copy of what a resume of this run reads."""
    with tempfile.TemporaryDirectory(prefix="tinylm-") as name:
        folder = Path(name) / "run"
        if resume is not None:
            copy_for_resume(resume, folder)
        yield folder


def show_tables(*tables: Table) -> int:
    output = screen()
    for table in tables:
        output.print(table)
        output.print()
    return 0


def copy_for_resume(run: Path, folder: Path) -> None:
    """Makes a folder with what a resume reads: the config, and links to the checkpoints, which may be large."""
    (folder / "checkpoints").mkdir(parents=True)
    shutil.copy(run / "config.json", folder)
    for path in saved_checkpoints(run):
        (folder / "checkpoints" / path.name).symlink_to(path.resolve())


def duration(seconds: float) -> str:
    """Returns the time in the unit that a person would use."""
    if seconds < 120:
        return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def time_table(found: RunEstimate) -> Table:
    config, parts = found.config, found.seconds
    table = Table("time", "", box=None)
    some = "" if found.trained == found.parameters else f", {found.trained:,} of them trained"
    table.add_row("parameters", f"{found.parameters:,}{some}")
    speed = f", {found.tokens_per_step / found.step_seconds:,.0f} tokens/s" if found.tokens_per_step and found.step_seconds else ""
    table.add_row("one step", f"{1e3 * found.step_seconds:.1f} ms{speed}")
    most = ", at most" if config.patience else ""
    table.add_row(f"{found.steps:,} steps{most}", duration(parts.steps))
    table.add_row(f"records every {config.log_every}", duration(parts.records))
    if parts.validations:
        table.add_row(f"validations every {config.eval_every}", duration(parts.validations))
    table.add_row(f"checkpoints every {config.save_every}", duration(parts.checkpoints))
    if parts.end > 0.05:
        table.add_row("the test at the end", duration(parts.end))
    table.add_row(f"in all{most}", duration(parts.total))
    if parts.validations > parts.steps:
        table.caption = "most of the time goes into validations: --eval-tokens N reads only the first N tokens of the validation part"
    return table


def memory_table(found: RunEstimate) -> Table:
    memory = found.memory
    table = Table("memory", "MB", box=None)
    rows = {
        "Python, libraries, text": memory.base,
        "parameters": memory.held.parameters,
        "gradients": memory.held.gradients,
        "optimiser": memory.held.optimizer,
        **({"averaged weights": memory.average} if memory.average else {}),
        "activations": memory.step.activations,
        "backward pass": memory.step.backward,
        "a validation, instead of both": memory.validation,
        **({"the test at the end, instead of both": memory.end} if memory.end else {}),
        "a checkpoint, twice, instead of these": memory.checkpoint,
        "predicted peak": memory.predicted,
        "measured peak" if found.config.device == "cpu" else "measured on the device": memory.peak,
    }
    if memory.start == memory.predicted:
        rows = {"the most before the first step": memory.start, **rows}
    for name, count in rows.items():
        table.add_row(name, f"{count / 2**20:,.1f}")
    return table


def advice(found: Estimate) -> tuple[Table, str]:
    """Returns a table, and lines below it, of what Hoffmann et al. 2022 and Muennighoff et al. 2023 would change.

    Of a run that goes on from a trained model they tell the passes alone, since what that model has read before is not known. A
    row that would read its text more often than any repeating is worth is left out, and a line says so.
    """
    tokens, data = found.config.steps * found.tokens_per_step, found.train_tokens
    passes = found.passes
    table = Table("data", "steps", "parameters", "--n-embd", "--lr", "passes", "about", box=None)
    left_out: list[str] = []

    def row(name: str, config: TrainConfig, parameters: int, read: float) -> None:
        if read > MOST_PASSES * data and name != "as configured":
            left_out.append(name)
            return
        steps = found.steps_for(read)
        seconds = steps * found.step_seconds * parameters / found.parameters
        table.add_row(name, f"{steps:,}", f"{parameters:,}", str(config.n_embd), f"{config.lr:g}", f"{read / data:.2f}", duration(seconds))

    row("as configured", found.config, found.parameters, tokens)
    fresh = not found.config.init
    if fresh:
        enough = TOKENS_PER_PARAMETER * found.parameters
        row(f"this model, {TOKENS_PER_PARAMETER} tokens per parameter", found.config, found.parameters, enough)
        size, read = compute_optimal(found.parameters, tokens)
        row("the same work, best divided", *config_of_size(found.config, found.vocab_size, size), read)
    row(f"this model, {GOOD_PASSES} passes", found.config, found.parameters, GOOD_PASSES * data)
    if fresh:
        best = config_of_size(found.config, found.vocab_size, GOOD_PASSES * data / TOKENS_PER_PARAMETER)
        row(f"best size for {GOOD_PASSES} passes", *best, GOOD_PASSES * data)
    worth = f"{passes:.2f} passes over {data:,} tokens are worth {worth_in_passes(passes):.2f} over new data (arXiv:2305.16264)"
    rule = f"{TOKENS_PER_PARAMETER} tokens per parameter: arXiv:2203.15556, found on models 100 times as large"
    lines = [f"{worth}; {rule}" if fresh else worth]
    if left_out:
        lines.append(f"left out, since no text is worth so many passes: {'; '.join(left_out)}; more text would help, or a smaller model")
    return table, "\n".join(lines)
