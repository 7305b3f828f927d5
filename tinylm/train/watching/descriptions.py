"""What a run is, in one line, and in a notebook as a table."""

from html import escape
from typing import Any

from tinylm.train.state import RunState


class Described:
    """An object that tells what it is: its `facts` in one line, and in a notebook as a table."""

    def facts(self) -> dict[str, str]:
        """Returns what there is to tell, by name."""
        raise NotImplementedError

    def __repr__(self) -> str:
        return f"<{type(self).__name__}: {'; '.join(f'{name} {fact}' for name, fact in self.facts().items())}>"

    def _repr_html_(self) -> str:
        left = 'style="text-align: left"'
        rows = "".join(f"<tr><th {left}>{escape(name)}</th><td {left}>{escape(fact)}</td></tr>" for name, fact in self.facts().items())
        return f"<table><caption {left}>{escape(type(self).__name__)}</caption>{rows}</table>"


def facts_of(state: RunState) -> dict[str, str]:
    """Returns what a run is and how far it is: model, data, step, losses in nats per token as far as they are known, and folder."""
    model, data = state.task.about()
    progress, steps, loss = state.progress, state.task.config.steps, None if state.log is None else state.log.loss
    facts = {"model": described_model(model, state.task.model), "data": data, "step": f"{progress.step:,} of {steps:,}"}
    if loss is not None:
        facts["loss"] = f"{loss:.4f}"
    if progress.val_loss is not None:
        best = f" (best {progress.best_val_loss:.4f} at step {progress.best_step:,})" if progress.best_step < progress.step else ""
        facts["validation loss"] = f"{progress.val_loss:.4f}{best}"
    return {name: fact for name, fact in {**facts, "folder": str(state.folder)}.items() if fact}


def described_model(name: str, model: Any) -> str:
    """Returns a model's name and size; n-grams that are not counted yet have none."""
    size = model.num_parameters()
    return f"{name}, {size:,} parameters" if size else name
