"""Trains the language model of a run once more, with PyTorch, to compare the two curves."""

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro
from support import console
from support.display import train_watched
from support.run_folders import folder_or_temporary
from support.texts import warn_of_changes

from tinylm.data import Corpus
from tinylm.errors import ConfigError
from tinylm.train import TrainConfig
from tinylm.train.tasks.language_model_config import corpus_of
from tinylm.train.tasks.loading import read_config


@dataclass(frozen=True)
class Arguments:
    """Trains the language model of a run once more, with PyTorch: the settings, initial weights, batches, learning rates
    and validations are the same; the model, the gradients and the optimiser are PyTorch's, in float32, and dropout masks differ.
    Writes another run folder, which 'explain report RUN --torch FOLDER' draws together with the run."""

    run: Annotated[Path, tyro.conf.Positional]
    """a run folder that 'train' wrote"""
    out: Path | None = None
    """the new run folder; by default RUN-torch"""
    steps: int | None = None
    """the step to stop at; by default the run's own"""
    dry_run: bool = False
    """three steps on the first 20,000 characters, in a temporary folder"""


def main() -> None:
    arguments = console.parse(Arguments)
    config, tokenizer = read_config(arguments.run, TrainConfig)
    console.require_torch()
    from tinylm.verify.torch.training import TorchRun

    text: str | Corpus = corpus_of(config)
    warn_of_changes(arguments.run, text)
    chosen = arguments.out or arguments.run.with_name(f"{arguments.run.resolve().name}-torch")
    config = dataclasses.replace(config, precision="float32")  # whatever the run's
    if arguments.steps is not None:
        config = dataclasses.replace(config, steps=arguments.steps)
    if arguments.dry_run:
        config, text = dataclasses.replace(config, steps=3, log_every=1), text.beginning(20_000)
    with folder_or_temporary(chosen, arguments.dry_run) as folder:
        summary = train_watched(TorchRun(config, folder, text, tokenizer))
        if summary is None:
            raise ConfigError("stopped: a run by PyTorch cannot be continued")
        print(f"validation loss {summary['val_loss']:.4f} nats/token, {summary['train_seconds']:.0f} s of training")
        if not arguments.dry_run:
            print(f"run folder {folder}")


if __name__ == "__main__":
    console.run(main)
