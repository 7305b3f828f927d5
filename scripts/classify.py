"""Classifies short texts: trains classifiers, compares them with simpler ones, measures and uses them."""

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import tyro
from support import console
from support.class_compare import Compare, compare
from support.class_figures import interval, show_figures, write_figures
from support.class_study import Study, study
from support.class_texts import load_all, reported, shortened
from support.config_files import config_file
from support.display import stopped_by_signals
from support.estimate_tables import show_run_estimate
from support.json_lines import Write, json_lines
from support.new_runs import new_run
from support.resuming import refuse_changes, refuse_without_resume, value_of
from support.run_folders import folder_or_temporary, named
from support.texts import is_blank_line, texts_of

from tinylm.data.labelled import MAX_WORDS, encode_words, load_labelled
from tinylm.engine.products import Precision, products
from tinylm.errors import ConfigError, DataError
from tinylm.studies.estimates import estimate_classifier
from tinylm.train.run_folder import new_folder, refuse_run
from tinylm.train.tasks.class_figures import figures_of
from tinylm.train.tasks.classification import load_classifier, text_probabilities
from tinylm.train.tasks.classifier_config import MODEL_DEFAULTS, ClassifierConfig, check_settings, default_config
from tinylm.train.tasks.classifier_run import ClassifierRun
from tinylm.train.tasks.loading import read_config
from tinylm.train.tasks.resuming import FREE_ON_RESUME


@dataclass(frozen=True)
class Train(ClassifierConfig):
    """Trains a classifier on one split of labelled texts, of two classes or more, prints its figures on the rest beside those of naive
    Bayes and TF-IDF, and writes a run folder: config.json, metrics.jsonl, summary.json, model.safetensors, checkpoints/, and in test/
    the figures, the predictions and a picture of the confusions. '--model lstm --help' shows the defaults of another model."""

    out: Path | None = None
    """the run folder; runs/<model>-<data> by default"""
    config: Path | None = None
    """take settings from this file: TOML, such as lr = 0.001, or the config.json of a run; options beside it win"""
    resume: Path | None = None
    """continue the run in this folder, with its settings; all numbers but the seconds are those of a run that never stopped"""
    accept_new_data: bool = False
    """with --resume: go on although the data are no longer those the run was trained on; the run notes it"""
    dry_run: bool = False
    """one epoch of one model on about 200 texts, in a temporary folder"""
    estimate: bool = False
    """instead of training, make the first steps and print how much time and memory the run will take; no run folder is written"""


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
    json: bool = False
    """print one JSON object per text, and everything else on the standard error"""
    precision: Precision = "float32"
    """of matrix products: float32, or operands rounded to bfloat16 and sums in float32"""
    dry_run: bool = False
    """label the first text only"""


@dataclass(frozen=True)
class Evaluate:
    """Prints the figures of a trained model on the labelled texts of a file: accuracy beside that of always saying the most common label,
    precision, recall and F1 of each class, the confusion matrix, log loss and calibration error. Writes them with all predictions."""

    run: Annotated[Path, tyro.conf.Positional]
    """the run folder that 'classify train' wrote"""
    file: Annotated[str, tyro.conf.Positional]
    """a file of lines 'label TAB text', with labels that the model knows, or the shipped sentences, uci-sentences"""
    encoding: str = "utf-8"
    """of the file, by Python's name: utf-8, latin-1, utf-16, cp1252, ..."""
    out: Path | None = None
    """the folder for figures.json, predictions.tsv and confusion.png; RUN/evaluation-FILE by default"""
    precision: Precision = "float32"
    """of matrix products: float32, or operands rounded to bfloat16 and sums in float32"""
    dry_run: bool = False
    """about 200 texts; nothing is written"""


Run.__doc__ = f"{Run.__doc__} The model reads the first {MAX_WORDS} words of a text."


def parse_train(argv: list[str]) -> Train:
    """Returns the command line as a record, with the settings of --config."""
    file = config_file(Train, ClassifierConfig, argv)
    with file.placing_errors():
        return parse_options(file.before(argv))


def parse_options(argv: list[str]) -> Train:
    """Returns the command line as a record. The defaults are those of the model, or with --resume the run's own settings."""
    prog, resumed = f"{console.program()} train", value_of("--resume", argv)
    if resumed is None:
        base = default_config(value_of("--model", argv) or next(iter(MODEL_DEFAULTS)))
        return new_run(console.parse(Train, args=argv, prog=prog, default=Train(**dataclasses.asdict(base))), argv)
    saved = dataclasses.asdict(read_config(Path(resumed), ClassifierConfig)[0])
    arguments = console.parse(Train, args=argv, prog=prog, default=Train(**saved, resume=Path(resumed)))
    refuse_changes(arguments, saved, FREE_ON_RESUME)
    if arguments.dry_run:
        raise ConfigError("--dry-run and --resume do not go together: a dry run leaves nothing behind")
    return arguments


def train(argv: list[str]) -> int:
    arguments = parse_train(argv)
    refuse_without_resume(arguments)
    config = ClassifierConfig(**{f.name: getattr(arguments, f.name) for f in dataclasses.fields(ClassifierConfig)})
    config = shortened(config, arguments.dry_run)
    if arguments.resume is None:
        check_settings(config)
    if arguments.out is not None and not (arguments.dry_run or arguments.estimate):
        refuse_run(arguments.out)
    data = load_all(config, arguments.dry_run)
    if arguments.estimate:
        return show_run_estimate(estimate_classifier, config, data, arguments.resume)
    chosen = arguments.resume or arguments.out or new_folder(config.model, config.data)
    with folder_or_temporary(chosen, arguments.dry_run) as folder:
        return train_in(ClassifierRun(config, data, folder, arguments.resume is not None, arguments.accept_new_data), arguments)


def train_in(run: ClassifierRun, arguments: Train) -> int:
    config, folder, dry_run = run.task.settings, run.folder, arguments.dry_run

    def show(record: dict) -> None:
        place = f"model {record['member']}/{config.members}  epoch {record['epoch']}/{config.epochs}"
        print(f"{place}  loss {record['loss']:.4f}{validated(record)}", flush=True)

    if arguments.resume is not None and run.finished():
        print(f"the run in {folder} was finished already, at step {run.progress.step}")
    with stopped_by_signals(run):
        summary = run.train(show)
    if summary is None:
        print("stopped" + ("" if dry_run else f"; continue with: {console.program()} train --resume {folder}"))
        return 130
    simple = f"naive Bayes {100 * summary['naive_bayes_accuracy']:.2f} %, TF-IDF {100 * summary['tfidf_accuracy']:.2f} %"
    print(
        f"accuracy {100 * summary['accuracy']:.2f} % on the {summary['test_texts']} texts of the test part ({simple}), "
        f"{summary['parameters']:,} parameters, {summary['train_seconds']:.1f} s of training"
    )
    assert run.task.outcome is not None
    figures = run.task.outcome.figures
    print(f"its 95 % interval is {interval(*figures['accuracy_interval'])}")
    show_figures(figures)
    if not dry_run:
        write_figures(folder / "test", *run.task.outcome, run.task.part.shown, run.task.part.test_labels)
    print(named(folder, dry_run))
    return 0


def validated(record: dict) -> str:
    return f"  validation loss {record['val_loss']:.4f}, {100 * record['val_accuracy']:.2f} % right" if "val_loss" in record else ""


def evaluate(arguments: Evaluate) -> None:
    model, tokenizer, names = load_classifier(arguments.run)
    data = reported(arguments.file, load_labelled(arguments.file, arguments.encoding, names), arguments.dry_run)
    with products(arguments.precision):
        log_p = text_probabilities(model, [encode_words(tokenizer, text) for text in data.texts])
    figures = figures_of(log_p, data.labels, names)
    right, spread = 100 * figures["accuracy"], interval(*figures["accuracy_interval"])
    print(f"accuracy {right:.2f} % on the {len(data.texts):,} texts of {arguments.file}, 95 % interval {spread}")
    show_figures(figures)
    if not arguments.dry_run:
        write_figures(arguments.out or arguments.run / f"evaluation-{Path(arguments.file).stem}", figures, log_p, data.texts, data.labels)


def classify(arguments: Run) -> None:
    with json_lines(arguments.json) as write:
        label(arguments, write)


def label(arguments: Run, write: Write | None) -> None:
    """Prints a line per text; with `write` a record instead."""
    texts = texts_of(arguments.texts, arguments.file, arguments.encoding)
    model, tokenizer, names = load_classifier(arguments.run)
    for name, text in texts:
        if is_blank_line(text, arguments.texts):
            if write is not None:
                write({"text": text, "label": None, "probability": None, "probabilities": None})
            else:
                print(flush=True)
            continue
        try:
            with products(arguments.precision):
                log_p = text_probabilities(model, [encode_words(tokenizer, text)])[0]
        except DataError as error:
            raise DataError(f"{name}: {error}") from error
        found, p = int(log_p.argmax()), np.exp(log_p)
        if write is not None:
            write({"text": text, "label": names[found], "probability": p[found], "probabilities": dict(zip(names, p, strict=True))})
        else:
            print(f"{names[found]}\t{p[found]:.4f}\t{text}", flush=True)
        if arguments.dry_run:
            return


SUBCOMMANDS = {
    "train": ("[--help]", "trains on one split of the shipped sentences, or of your own", train),
    "evaluate": (
        "RUN FILE",
        "measures a trained model on labelled texts; evaluate --help for more",
        console.subcommand(Evaluate, evaluate),
    ),
    "run": ("RUN [TEXT ...]", "labels texts with a trained model; run --help for more", console.subcommand(Run, classify)),
    "compare": ("[--help]", "trains the models on all five splits, to compare with naive Bayes", console.subcommand(Compare, compare)),
    "study": ("[--help]", "compares a model with simpler ones on other splits, sites and sizes", console.subcommand(Study, study)),
}


if __name__ == "__main__":
    console.run(lambda: console.run_subcommand(__doc__, SUBCOMMANDS))
