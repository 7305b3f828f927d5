"""Sentiment analysis: trains classifiers of short texts, compares them with naive Bayes, and uses them."""

import dataclasses
import shutil
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import tyro
from rich.console import Console
from rich.table import Table
from support import console
from support.display import stopped_by_signals
from train import value_of

from tinylm.data.corpora import read_text
from tinylm.data.labelled import MAX_WORDS, SPLITS, LabelledTexts, encode_words, load_labelled
from tinylm.errors import ConfigError, DataError
from tinylm.train.run_folder import new_folder
from tinylm.train.tasks.classification import (
    accuracy,
    load_classifier,
    logits_of,
    mean_interval,
    naive_bayes_accuracy,
    prepare_split,
    start_classifier,
)
from tinylm.train.tasks.classifier_config import MODEL_DEFAULTS, ClassifierConfig, default_config
from tinylm.train.tasks.classifier_run import ClassifierRun, train_classifier
from tinylm.train.tasks.loading import read_config


@dataclass(frozen=True)
class Train(ClassifierConfig):
    """Trains a classifier on one split of labelled sentences, prints its accuracy on the rest, and
    writes a run folder: config.json, metrics.jsonl, summary.json, model.safetensors, checkpoints/.
    --model lstm --help shows the defaults of another model."""

    out: Path | None = None
    """the run folder; runs/<model>-<data> by default"""
    resume: Path | None = None
    """continue the run in this folder, with its settings"""
    dry_run: bool = False
    """one epoch of one model on about 200 texts, in a temporary folder"""


@dataclass(frozen=True)
class Compare:
    """Trains the models on each of the five fixed 80/20 splits and prints their accuracies beside those of
    naive Bayes on words, with the mean paired difference and its 95 % confidence interval (Student's t)."""

    models: tuple[str, ...] = tuple(MODEL_DEFAULTS)
    """which models"""
    data: str = "uci-sentences"
    """the shipped sentences, or a UTF-8 file of lines 'label TAB text'"""
    seed: int = 0
    """of weights, batches and dropout"""
    dry_run: bool = False
    """one epoch of one model of each kind on about 200 texts"""


@dataclass(frozen=True)
class Run:
    """Prints the label, its probability and the text for each text, one a line, as they come."""

    run: Annotated[Path, tyro.conf.Positional]
    """the run folder that 'classify.py train' wrote"""
    texts: Annotated[tuple[str, ...], tyro.conf.Positional] = ()
    """the texts; with neither texts nor --file, the lines of the standard input"""
    file: Path | None = None
    """instead: the lines of a UTF-8 file"""
    dry_run: bool = False
    """the first text only"""


Run.__doc__ = f"{Run.__doc__} Of a text, the first {MAX_WORDS} words are read."


def load(source: str, dry_run: bool) -> LabelledTexts:
    """The labelled texts, and a word about lines that could not be used."""
    data = load_labelled(source)
    if data.skipped:
        lines = "1 line" if data.skipped == 1 else f"{data.skipped} lines"
        print(f"{lines} of {source} skipped: {data.first_skipped}{' is the first' if data.skipped > 1 else ''}", file=sys.stderr)
    if dry_run:
        some = slice(None, None, max(1, len(data.texts) // 200))
        data = dataclasses.replace(data, texts=data.texts[some], labels=data.labels[some])
    return data


def shortened(config: ClassifierConfig, dry_run: bool) -> ClassifierConfig:
    return dataclasses.replace(config, epochs=1, members=1) if dry_run else config


def defaults(argv: list[str]) -> Train:
    """What is not on the command line: the model's defaults, or with --resume the run's own settings."""
    resumed = value_of("--resume", argv)
    if resumed is None:
        return Train(**dataclasses.asdict(default_config(value_of("--model", argv) or "bag")))
    return Train(**dataclasses.asdict(read_config(Path(resumed), ClassifierConfig)[0]), resume=Path(resumed))


def refuse_changes(arguments: Train) -> None:
    """Errors: ConfigError for a flag beside --resume that would make another run of it."""
    saved = dataclasses.asdict(read_config(arguments.resume, ClassifierConfig)[0]) if arguments.resume else {}
    for name, value in saved.items():
        if getattr(arguments, name) != value:
            flag = f"--{name.replace('_', '-')} {getattr(arguments, name)}"
            raise ConfigError(f"{flag}: the run in {arguments.resume} was made with {value}, which a resume cannot change")
    for name in ("out", "dry_run"):
        if arguments.resume and getattr(arguments, name):
            raise ConfigError(f"--{name.replace('_', '-')} and --resume do not go together")


def train(arguments: Train) -> int:
    refuse_changes(arguments)
    config = ClassifierConfig(**{f.name: getattr(arguments, f.name) for f in dataclasses.fields(ClassifierConfig)})
    config = shortened(config, arguments.dry_run)
    data = load(config.data, arguments.dry_run)
    if not arguments.dry_run:
        folder = arguments.resume or arguments.out or new_folder(config.model, config.data)
        return train_in(folder, config, data, arguments.resume is not None)
    folder = Path(tempfile.mkdtemp(prefix="tinylm-"))
    try:
        return train_in(folder, config, data, resume=False)
    finally:
        shutil.rmtree(folder)


def train_in(folder: Path, config: ClassifierConfig, data: LabelledTexts, resume: bool) -> int:
    def show(record: dict) -> None:
        print(f"model {record['member']}/{config.members}  epoch {record['epoch']}/{config.epochs}  loss {record['loss']:.4f}", flush=True)

    run = ClassifierRun(config, data, folder, resume)
    with stopped_by_signals(run):
        summary = run.train(show)
    if summary is None:
        print(f"stopped; continue with: python scripts/classify.py train --resume {folder}")
        return 130
    print(
        f"accuracy {100 * summary['accuracy']:.2f} % on the {summary['test_texts']} texts of the test part "
        f"(naive Bayes {100 * summary['naive_bayes_accuracy']:.2f} %), {summary['parameters']:,} parameters, "
        f"{summary['train_seconds']:.1f} s of training"
    )
    print(f"run folder {folder}")
    return 0


def compare(arguments: Compare) -> None:
    configs = {m: shortened(dataclasses.replace(default_config(m), seed=arguments.seed), arguments.dry_run) for m in arguments.models}
    data = load(arguments.data, arguments.dry_run)
    baseline = [100 * naive_bayes_accuracy(prepare_split(data, k)) for k in range(SPLITS)]
    table = Table("accuracy, %", *(f"split {k}" for k in range(SPLITS)), "mean", "minus naive Bayes", "95 % interval", box=None)
    table.add_row("naive Bayes", *(f"{a:.2f}" for a in baseline), f"{np.mean(baseline):.2f}", "", "")
    for name, config in configs.items():
        accuracies = []
        for k in range(SPLITS):
            print(f"{name}, split {k} ...", file=sys.stderr, flush=True)
            part = prepare_split(data, k, config.min_count)
            model = start_classifier(config, part)
            train_classifier(model, config, part)
            accuracies.append(100 * accuracy(logits_of(model, part.test_texts), part.test_labels))
        mean, low, high = mean_interval(np.subtract(accuracies, baseline))
        label = name if config.members == 1 else f"{name} x {config.members}"
        numbers = [f"{a:.2f}" for a in (*accuracies, np.mean(accuracies))]
        table.add_row(label, *numbers, f"{mean:+.2f}", f"{low:+.2f} to {high:+.2f}")
    Console(width=None if sys.stdout.isatty() else 120, highlight=False).print(table)
    print(f"split k is the shuffle of seed k; models start from seed {arguments.seed}; 'x n': the mean logit of n models of the kind")


def classify(arguments: Run) -> None:
    if arguments.texts and arguments.file is not None:
        raise ConfigError("texts and --file do not go together")
    model, tokenizer, names = load_classifier(arguments.run)
    for number, text in enumerate(lines_of(arguments), 1):
        try:
            logit = float(logits_of(model, [encode_words(tokenizer, text)])[0])
        except DataError as error:
            raise DataError(f"text {number}: {error}") from error
        p = 1 / (1 + np.exp(-abs(logit)))
        print(f"{names[logit > 0]}\t{p:.4f}\t{text}", flush=True)
        if arguments.dry_run:
            return


def lines_of(arguments: Run) -> Iterator[str]:
    """The texts; those of the standard input as they arrive."""
    if arguments.texts:
        yield from arguments.texts
    elif arguments.file is not None:
        yield from read_text(arguments.file).removesuffix("\n").split("\n")
    else:
        for number, raw in enumerate(sys.stdin.buffer, 1):
            try:
                yield raw.decode("utf-8").rstrip("\r\n")
            except UnicodeDecodeError as error:
                raise DataError(f"text {number} is not UTF-8: byte {raw[error.start]:#04x} at position {error.start}") from error


def main() -> int | None:
    argv = sys.argv[1:]
    commands = (
        Annotated[Train, tyro.conf.subcommand("train", default=defaults(argv))]
        | Annotated[Compare, tyro.conf.subcommand("compare")]
        | Annotated[Run, tyro.conf.subcommand("run")]
    )
    arguments: Train | Compare | Run = console.parse(commands, args=argv, description=__doc__)
    if isinstance(arguments, Train):
        return train(arguments)
    if isinstance(arguments, Compare):
        compare(arguments)
    else:
        classify(arguments)
    return None


if __name__ == "__main__":
    console.run(main)
