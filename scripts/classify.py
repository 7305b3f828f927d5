"""Classifies short texts by sentiment: trains classifiers, compares them with naive Bayes, uses them."""

import dataclasses
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import tyro
from rich.table import Table
from support import console
from support.display import stopped_by_signals
from support.new_runs import new_run
from support.resuming import refuse_changes, refuse_without_resume, value_of
from support.run_folders import folder_or_temporary, named, say_if_finished
from support.tables import screen
from support.texts import is_blank_line, texts_of

from tinylm.data.labelled import MAX_WORDS, SPLITS, LabelledTexts, encode_words, load_labelled
from tinylm.engine.products import Precision, products
from tinylm.errors import ConfigError, DataError, one_line
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
    """Trains a classifier on one split of labelled sentences, prints its accuracy on the rest, and writes a run
    folder: config.json, metrics.jsonl, summary.json, model.safetensors, checkpoints/. '--model lstm --help' shows
    the defaults of another model."""

    out: Path | None = None
    """the run folder; runs/<model>-<data> by default"""
    resume: Path | None = None
    """continue the run in this folder, with its settings; all numbers but the seconds are those of a run that never stopped"""
    accept_new_data: bool = False
    """with --resume: go on although the data are no longer those the run was trained on; the run notes it"""
    dry_run: bool = False
    """one epoch of one model on about 200 texts, in a temporary folder"""


@dataclass(frozen=True)
class Compare:
    """Trains the models on each of the five fixed 80/20 splits and compares their accuracies with those of naive Bayes
    on words, with the mean paired difference and its 95 % confidence interval (Student's t)."""

    models: tuple[str, ...] = tuple(MODEL_DEFAULTS)
    """which models"""
    data: str = "uci-sentences"
    """the shipped sentences, or a file of lines 'label TAB text'"""
    encoding: str = "utf-8"
    """of the file, by Python's name: utf-8, latin-1, utf-16, cp1252, ..."""
    seed: int = 0
    """seed of weights, batches and dropout"""
    dry_run: bool = False
    """one epoch per kind of model on about 200 texts"""


@dataclass(frozen=True)
class Run:
    """Prints one line per text as soon as it is read: its label, the probability of the label, and the text. A blank line of the
    file or the standard input gives a blank line."""

    run: Annotated[Path, tyro.conf.Positional]
    """the run folder that 'classify train' wrote"""
    texts: Annotated[tuple[str, ...], tyro.conf.Positional] = ()
    """the texts; without texts and --file, the lines of the standard input"""
    file: Path | None = None
    """instead, label the lines of this file"""
    encoding: str = "utf-8"
    """of the file or the standard input, by Python's name: utf-8, latin-1, utf-16, cp1252, ..."""
    precision: Precision = "float32"
    """of matrix products: float32, or operands rounded to bfloat16 and sums in float32"""
    dry_run: bool = False
    """label the first text only"""


Run.__doc__ = f"{Run.__doc__} The model reads the first {MAX_WORDS} words of a text."


def load(source: str, encoding: str, dry_run: bool) -> LabelledTexts:
    """Returns the labelled texts, and reports lines that could not be used."""
    data = load_labelled(source, encoding)
    if data.skipped:
        lines = "1 line" if data.skipped == 1 else f"{data.skipped} lines"
        print(one_line(f"{lines} of {source} skipped: {data.first_skipped}{' is the first' if data.skipped > 1 else ''}"), file=sys.stderr)
    if data.unread:
        print(one_line(f"{source}: {data.unread}"), file=sys.stderr)
    if dry_run:
        some = slice(None, None, max(1, len(data.texts) // 200))
        data = dataclasses.replace(data, texts=data.texts[some], labels=data.labels[some])
    return data


def shortened(config: ClassifierConfig, dry_run: bool) -> ClassifierConfig:
    return dataclasses.replace(config, epochs=1, members=1) if dry_run else config


def parse_train(argv: list[str]) -> Train:
    """Returns the command line as a record. The defaults are those of the model, or with --resume the run's own settings."""
    prog, resumed = f"{console.program()} train", value_of("--resume", argv)
    if resumed is None:
        base = default_config(value_of("--model", argv) or "bag")
        return new_run(console.parse(Train, args=argv, prog=prog, default=Train(**dataclasses.asdict(base))), argv)
    saved = dataclasses.asdict(read_config(Path(resumed), ClassifierConfig)[0])
    arguments = console.parse(Train, args=argv, prog=prog, default=Train(**saved, resume=Path(resumed)))
    refuse_changes(arguments, saved, {"precision"})
    if arguments.dry_run:
        raise ConfigError("--dry-run and --resume do not go together: a dry run leaves nothing behind")
    return arguments


def train(argv: list[str]) -> int:
    arguments = parse_train(argv)
    refuse_without_resume(arguments)
    config = ClassifierConfig(**{f.name: getattr(arguments, f.name) for f in dataclasses.fields(ClassifierConfig)})
    config = shortened(config, arguments.dry_run)
    data = load(config.data, config.encoding, arguments.dry_run)
    chosen = arguments.resume or arguments.out or new_folder(config.model, config.data)
    with folder_or_temporary(chosen, arguments.dry_run) as folder:
        return train_in(ClassifierRun(config, data, folder, arguments.resume is not None, arguments.accept_new_data), arguments)


def train_in(run: ClassifierRun, arguments: Train) -> int:
    config, folder, dry_run = run.task.settings, run.folder, arguments.dry_run

    def show(record: dict) -> None:
        print(f"model {record['member']}/{config.members}  epoch {record['epoch']}/{config.epochs}  loss {record['loss']:.4f}", flush=True)

    if arguments.resume is not None:
        say_if_finished(run)
    with stopped_by_signals(run):
        summary = run.train(show)
    if summary is None:
        print("stopped" + ("" if dry_run else f"; continue with: {console.program()} train --resume {folder}"))
        return 130
    print(
        f"accuracy {100 * summary['accuracy']:.2f} % on the {summary['test_texts']} texts of the test part "
        f"(naive Bayes {100 * summary['naive_bayes_accuracy']:.2f} %), {summary['parameters']:,} parameters, "
        f"{summary['train_seconds']:.1f} s of training"
    )
    print(named(folder, dry_run))
    return 0


def compare(arguments: Compare) -> None:
    configs = {m: shortened(dataclasses.replace(default_config(m), seed=arguments.seed), arguments.dry_run) for m in arguments.models}
    data = load(arguments.data, arguments.encoding, arguments.dry_run)
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
    screen().print(table)
    print(f"split k is the shuffle of seed k; models start from seed {arguments.seed}; 'x n': the mean logit of n models of the kind")


def classify(arguments: Run) -> None:
    texts = texts_of(arguments.texts, arguments.file, arguments.encoding)
    model, tokenizer, names = load_classifier(arguments.run)
    for name, text in texts:
        if is_blank_line(text, arguments.texts):
            print(flush=True)
            continue
        try:
            with products(arguments.precision):
                logit = float(logits_of(model, [encode_words(tokenizer, text)])[0])
        except DataError as error:
            raise DataError(f"{name}: {error}") from error
        p = 1 / (1 + np.exp(-abs(logit)))
        print(f"{names[logit > 0]}\t{p:.4f}\t{text}", flush=True)
        if arguments.dry_run:
            return


SUBCOMMANDS = {
    "train": ("[--help]", "trains on one split of the shipped sentences, or of your own", train),
    "compare": ("[--help]", "trains the models on all five splits, to compare with naive Bayes", console.subcommand(Compare, compare)),
    "run": ("RUN [TEXT ...]", "labels texts with a trained model; run --help for more", console.subcommand(Run, classify)),
}


if __name__ == "__main__":
    console.run(lambda: console.run_subcommand(__doc__, SUBCOMMANDS))
