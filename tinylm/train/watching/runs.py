"""What every run shows of itself: what it is, and while it trains how far it is."""

from collections.abc import Callable
from typing import TypeVar

from tinylm.train.records import Report
from tinylm.train.state import Progress, RunState
from tinylm.train.watching.bars import shown_bar
from tinylm.train.watching.descriptions import Described, described_model

T = TypeVar("T")


class WatchedRun(Described):
    """A run that tells what it is and how far it is, and trains with a progress bar in a terminal and in a notebook."""

    state: RunState

    @property
    def progress(self) -> Progress:
        return self.state.progress

    def facts(self) -> dict[str, str]:
        """Returns model, data, step, losses in nats per token as far as they are known, and folder."""
        state = self.state
        model, data = state.task.about()
        progress, steps, loss = state.progress, state.task.config.steps, None if state.log is None else state.log.loss
        facts = {"model": described_model(model, state.task.model), "data": data, "step": f"{progress.step:,} of {steps:,}"}
        if loss is not None:
            facts["loss"] = f"{loss:.4f}"
        if progress.val_loss is not None:
            best = f" (best {progress.best_val_loss:.4f} at step {progress.best_step:,})" if progress.best_step < progress.step else ""
            facts["validation loss"] = f"{progress.val_loss:.4f}{best}"
        return {name: fact for name, fact in {**facts, "folder": str(state.folder)}.items() if fact}

    def with_bar(self, train: Callable[[Report], T]) -> T:
        """Returns what `train` does with a function that takes records: the progress bar, or one that does nothing where there is none."""
        with shown_bar(self.state) as bar:
            return train(bar or (lambda record: None))
