"""What `classify compare` does: every kind of model on the five splits, beside naive Bayes and TF-IDF."""

import dataclasses
import sys
from dataclasses import dataclass

import numpy as np
from rich.table import Table

from support.class_texts import reported, shortened
from support.tables import screen
from tinylm.data.labelled import SPLITS, load_labelled
from tinylm.train.tasks.classification import accuracy, baselines, logits_of, mean_interval, prepare_split, start_classifier
from tinylm.train.tasks.classifier_config import MODEL_DEFAULTS, default_config
from tinylm.train.tasks.classifier_run import train_classifier


@dataclass(frozen=True)
class Compare:
    """Trains the models on each of the five fixed 80/20 splits and compares their accuracies with those of naive Bayes
    on words and of TF-IDF with logistic regression, with the mean paired difference and its 95 % confidence interval (Student's t)."""

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


def compare(arguments: Compare) -> None:
    configs = {m: shortened(dataclasses.replace(default_config(m), seed=arguments.seed), arguments.dry_run) for m in arguments.models}
    data = reported(arguments.data, load_labelled(arguments.data, arguments.encoding), arguments.dry_run)
    every = [baselines(prepare_split(data, k)) for k in range(SPLITS)]
    simple = {name: [100 * float(each[name].mean()) for each in every] for name in every[0]}
    splits, against = [f"split {k}" for k in range(SPLITS)], [words for name in simple for words in (f"minus {name}", "95 % interval")]
    table = Table("accuracy, %", *splits, "mean", *against, box=None)
    for name, accuracies in simple.items():
        table.add_row(name, *(f"{a:.2f}" for a in (*accuracies, np.mean(accuracies))))
    for name, config in configs.items():
        accuracies = []
        for k in range(SPLITS):
            print(f"{name}, split {k} ...", file=sys.stderr, flush=True)
            part = prepare_split(data, k, config.min_count)
            model = start_classifier(config, part)
            train_classifier(model, config, part)
            accuracies.append(100 * accuracy(logits_of(model, part.test_texts), part.test_labels))
        differences = []
        for theirs in simple.values():
            mean, low, high = mean_interval(np.subtract(accuracies, theirs))
            differences += [f"{mean:+.2f}", f"{low:+.2f} to {high:+.2f}"]
        label = name if config.members == 1 else f"{name} x {config.members}"
        table.add_row(label, *(f"{a:.2f}" for a in (*accuracies, np.mean(accuracies))), *differences)
    screen(160).print(table)
    print(f"split k is the shuffle of seed k; models start from seed {arguments.seed}; 'x n': the mean logit of n models of the kind")
