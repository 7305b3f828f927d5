"""Trains every kind of language model on the same text and compares them in a table."""

import dataclasses
import sys
from dataclasses import dataclass
from pathlib import Path

from rich.table import Table
from support import console
from support.run_folders import folder_or_temporary
from support.tables import screen

from tinylm.data import Corpus, open_corpus
from tinylm.errors import ConfigError, DataError
from tinylm.files.json_files import read_json
from tinylm.train import Counting, Run, default_config
from tinylm.train.tasks.data_note import data_note, what_changed
from tinylm.train.tasks.language_model_config import MODEL_DEFAULTS


@dataclass(frozen=True)
class Arguments:
    """Trains the n-gram model, RNN, LSTM, GRU, Transformer and GPT with their default settings, one after the other,
    and prints validation loss, parameters and training time. A model whose run is finished is not trained again."""

    out: Path = Path("runs/compare")
    """the folder for the runs"""
    data: str = "tinyshakespeare"
    """a shipped corpus, a text file, or a folder of .txt, .text and .md files"""
    encoding: str = "utf-8"
    """of the text files, by Python's name: utf-8, latin-1, utf-16, cp1252, ..."""
    models: tuple[str, ...] = ("ngram", "rnn", "lstm", "gru", "transformer", "gpt")
    """which models"""
    seed: int = 0
    """seed of weights, batches and dropout"""
    dry_run: bool = False
    """two steps per model on the first 20,000 characters, in a temporary folder"""


def main() -> None:
    arguments = console.parse(Arguments)
    for model in arguments.models:
        if model not in MODEL_DEFAULTS:
            raise ConfigError(f"model {model!r}: expected one of {', '.join(MODEL_DEFAULTS)}")
    text: str | Corpus = open_corpus(arguments.data, arguments.encoding)
    if arguments.dry_run:
        text = text.beginning(20_000)
    table = Table("model", "nats/token", "parameters", "training", "tokens/s", box=None)
    with folder_or_temporary(arguments.out, arguments.dry_run) as folder:
        for model in arguments.models:
            config = dataclasses.replace(default_config(model), data=arguments.data, encoding=arguments.encoding, seed=arguments.seed)
            if arguments.dry_run and model != "ngram":
                config = dataclasses.replace(config, steps=2)
            here = folder / model
            if (here / "summary.json").exists():
                if problem := what_changed(here, data_note(text, arguments.data)):
                    raise DataError(f"{problem}: choose another --out")
                summary = read_json(here / "summary.json")
            else:
                print(f"{model} ...", file=sys.stderr, flush=True)
                summary = (Counting(config, here, text) if model == "ngram" else Run(config, here, text)).train()
            table.add_row(
                model, f"{summary['val_loss']:.4f}", f"{summary['parameters']:,}", f"{summary['train_seconds']:.0f} s",
                f"{summary['tokens_per_second']:,.0f}",
            )  # fmt: skip
    screen(100).print(table)


if __name__ == "__main__":
    console.run(main)
