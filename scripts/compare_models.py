"""Trains every language model on the same text and prints them side by side."""

import dataclasses
import shutil
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import console
from rich.console import Console
from rich.table import Table

from tinylm.data import Corpus, open_corpus
from tinylm.errors import ConfigError
from tinylm.files.json_files import read_json
from tinylm.train import Counting, Run, default_config
from tinylm.train.tasks.language_model_config import MODEL_DEFAULTS


@dataclass(frozen=True)
class Arguments:
    """Trains the n-gram model, RNN, LSTM, GRU, Transformer and GPT with their default settings, one
    after the other, and prints validation loss, parameters and training time. Models whose run is
    finished already are not trained again."""

    out: Path = Path("runs/compare")
    """the folder for the runs"""
    data: str = "tinyshakespeare"
    """a shipped corpus, a UTF-8 text file, or a folder of .txt files"""
    models: tuple[str, ...] = ("ngram", "rnn", "lstm", "gru", "transformer", "gpt")
    """which of them"""
    seed: int = 0
    """of weights, batches and dropout"""
    dry_run: bool = False
    """two steps each on the first 20,000 characters, in a temporary folder"""


def main() -> None:
    arguments = console.parse(Arguments, description=Arguments.__doc__)
    for model in arguments.models:
        if model not in MODEL_DEFAULTS:
            raise ConfigError(f"model {model!r}: expected one of {', '.join(MODEL_DEFAULTS)}")
    text: str | Corpus = open_corpus(arguments.data)
    folder = arguments.out
    if arguments.dry_run:
        text, folder = text.beginning(20_000), Path(tempfile.mkdtemp(prefix="tinylm-"))
    screen = Console(width=None if sys.stdout.isatty() else 100)
    table = Table("model", "nats/token", "parameters", "training", "tokens/s", box=None)
    try:
        for model in arguments.models:
            config = dataclasses.replace(default_config(model), data=arguments.data, seed=arguments.seed)
            if arguments.dry_run and model != "ngram":
                config = dataclasses.replace(config, steps=2)
            here = folder / model
            if (here / "summary.json").exists():
                summary = read_json(here / "summary.json")
            else:
                print(f"{model} ...", file=sys.stderr, flush=True)
                summary = (Counting(config, here, text) if model == "ngram" else Run(config, here, text)).train()
            table.add_row(
                model, f"{summary['val_loss']:.4f}", f"{summary['parameters']:,}", f"{summary['train_seconds']:.0f} s",
                f"{summary['tokens_per_second']:,.0f}",
            )  # fmt: skip
    finally:
        if arguments.dry_run:
            shutil.rmtree(folder)
    screen.print(table)


if __name__ == "__main__":
    console.run(main)
