"""Training text classifiers, and their run folders: config.json, metrics.jsonl, summary.json, model.safetensors."""

import dataclasses
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from tinylm import ops
from tinylm.autograd import no_grad
from tinylm.data.labelled import LabelledTexts, encode_words, pad_texts, split_labelled, train_words
from tinylm.data.tokenizers import Tokenizer, from_json
from tinylm.errors import AnomalyError, CheckpointError, DataError
from tinylm.models.classifier import BagClassifier, Ensemble, TextClassifier
from tinylm.models.naive_bayes import NaiveBayes
from tinylm.nn import Module
from tinylm.optim import AdamW
from tinylm.random_streams import default_generator
from tinylm.tensor import Tensor
from tinylm.train.checkpoints import load_arrays, model_arrays, read_arrays, read_json, write_arrays, write_json
from tinylm.train.classifier_config import ClassifierConfig, build_classifier
from tinylm.train.metrics import MetricsLog

TASK = "classification"

Report = Callable[[dict[str, Any]], None]


class Split(NamedTuple):
    """A training and a test part in word ids, the vocabulary being the training part's."""

    tokenizer: Tokenizer
    train_texts: list[np.ndarray]
    train_labels: np.ndarray
    test_texts: list[np.ndarray]
    test_labels: np.ndarray


def prepare_split(data: LabelledTexts, split: int, min_count: int = 1) -> Split:
    """One of the five fixed splits. Errors: ConfigError, DataError, one for a training part of one class too."""
    train, test = split_labelled(len(data.texts), split)
    if len(set(data.labels[train].tolist())) < 2:
        raise DataError(f"the training part of split {split} has one class only: {data.names[data.labels[train[0]]]!r}")
    tokenizer = train_words([data.texts[i] for i in train], min_count)
    parts = [[encode_words(tokenizer, data.texts[i]) for i in part] for part in (train, test)]
    return Split(tokenizer, parts[0], data.labels[train], parts[1], data.labels[test])


def start_classifier(config: ClassifierConfig, part: Split) -> Ensemble:
    """An untrained model, its weights drawn from the seed; a bag's ratios are counted in the training part."""
    default_generator.seed(config.seed)
    model = build_classifier(config, part.tokenizer.vocab_size)
    for member in model.members:
        if isinstance(member, BagClassifier):
            member.weigh(part.train_texts, part.train_labels)
    return model


def train_classifier(model: Ensemble, config: ClassifierConfig, part: Split, report: Report = lambda record: None) -> None:
    """Trains the members one after the other on the training part and leaves the model in evaluation mode;
    `report` gets a record an epoch and member.

    Errors: AnomalyError when a loss is no longer finite.
    """
    for number, member in enumerate(model.members, 1):
        for record in _train_member(member, part.train_texts, part.train_labels, config):
            report({"member": number, **record})
    model.eval()


def _train_member(model: Module, texts: Sequence[np.ndarray], labels: np.ndarray, config: ClassifierConfig) -> Iterator[dict[str, Any]]:
    """Minimises the binary cross-entropy of one model; gives a record after each epoch.

    Errors: AnomalyError when a loss is no longer finite.
    """
    groups = [
        {"params": [p for p in model.parameters() if p.ndim >= 2], "weight_decay": config.weight_decay},
        {"params": [p for p in model.parameters() if p.ndim < 2], "weight_decay": 0.0},
    ]
    optimizer = AdamW([g for g in groups if g["params"]], lr=config.lr, betas=(0.9, 0.99))
    batches_per_epoch = -(-len(texts) // config.batch_size)
    steps, step = config.epochs * batches_per_epoch, 0
    lengths = np.array([len(ids) for ids in texts])
    model.train()
    for epoch in range(config.epochs):
        random = default_generator.numpy()
        order = np.argsort(lengths + random.uniform(0, 5, len(texts)))  # texts of about one length share a batch: less to pad
        total = 0.0
        for batch in random.permutation(batches_per_epoch):
            rows = order[batch * config.batch_size : (batch + 1) * config.batch_size]
            ids, real = pad_texts([texts[i] for i in rows])
            loss = ops.binary_cross_entropy_with_logits(model(Tensor(ids), real), Tensor(labels[rows].astype(np.float32)))
            optimizer.zero_grad()
            loss.backward()
            for group in optimizer.param_groups:
                group["lr"] = config.lr * (1 - step / steps)
            optimizer.step(max_norm=1.0)
            total += loss.item() * len(rows)
            step += 1
        if not np.isfinite(total):
            raise AnomalyError(f"the training loss is {total} in epoch {epoch + 1}: try a lower learning rate")
        yield {"step": step, "epoch": epoch + 1, "loss": total / len(texts)}


def logits_of(model: TextClassifier, texts: Sequence[np.ndarray], batch_size: int = 64) -> np.ndarray:
    """The logits (N,) of texts, in batches of similar lengths; the model must be in evaluation mode."""
    order = sorted(range(len(texts)), key=lambda i: len(texts[i]))
    logits = np.empty(len(texts), np.float32)
    with no_grad():
        for start in range(0, len(order), batch_size):
            rows = order[start : start + batch_size]
            ids, lengths = pad_texts([texts[i] for i in rows])
            logits[rows] = model(Tensor(ids), lengths).data
    return logits


def accuracy(logits: np.ndarray, labels: np.ndarray) -> float:
    """The share of texts on whose class the sign of the logit is right; a logit of 0 says class 0."""
    return float(np.mean((logits > 0) == (labels == 1)))


# ---------------------------------------------------------------- against naive Bayes


def naive_bayes_accuracy(part: Split) -> float:
    """What naive Bayes on the training part's words gets on the test part; <unk> counts nowhere."""
    model = NaiveBayes(part.tokenizer.vocab_size, ignored=0).fit(part.train_texts, part.train_labels)
    return accuracy(model.log_odds(part.test_texts), part.test_labels)


def mean_interval(values: Sequence[float], confidence: float = 0.95) -> tuple[float, float, float]:
    """(mean, low, high): m ± t s / √n, Student's interval for the mean of n ≥ 2 values.

    Of paired differences it is the interval of the mean difference. The test parts of the five
    splits overlap, so that theirs is somewhat too narrow (Nadeau & Bengio 2003).
    """
    from scipy import stats

    x = np.asarray(values, float)
    half = float(stats.t.ppf((1 + confidence) / 2, len(x) - 1) * x.std(ddof=1) / np.sqrt(len(x)))
    return float(x.mean()), float(x.mean()) - half, float(x.mean()) + half


# ---------------------------------------------------------------- run folders


def train_run(config: ClassifierConfig, data: LabelledTexts, folder: Path, report: Report = lambda record: None) -> dict[str, Any]:
    """Trains on one split in a new run folder, and returns the summary: accuracy on the test part and more.

    Errors: CheckpointError when the folder holds a run already; those of `train_classifier`.
    """
    part = prepare_split(data, config.split, config.min_count)
    if (folder / "config.json").exists():
        raise CheckpointError(f"{folder} holds a run already: choose another --out")
    model = start_classifier(config, part)  # settings that do not fit are reported before anything is written
    record = {"task": TASK, "train": dataclasses.asdict(config), "tokenizer": part.tokenizer.to_json(), "labels": list(data.names)}
    write_json(folder / "config.json", record)
    log = MetricsLog(folder / "metrics.jsonl")

    def both(line: dict[str, Any]) -> None:
        log.write(line)
        report(line)

    began = time.perf_counter()
    train_classifier(model, config, part, both)
    seconds = time.perf_counter() - began
    summary = {
        "accuracy": accuracy(logits_of(model, part.test_texts), part.test_labels),
        "naive_bayes_accuracy": naive_bayes_accuracy(prepare_split(data, config.split)),
        "train_texts": len(part.train_texts),
        "test_texts": len(part.test_texts),
        "skipped_lines": data.skipped,
        "parameters": model.num_parameters(),
        "train_seconds": seconds,
    }
    write_arrays(folder / "model.safetensors", model_arrays(model), {"accuracy": summary["accuracy"]})
    write_json(folder / "summary.json", summary)
    return summary


def load_classifier(folder: Path) -> tuple[Ensemble, Tokenizer, tuple[str, str]]:
    """(model in evaluation mode, tokenizer, labels of class 0 and 1) of a run folder.

    Errors: CheckpointError when it is none, is damaged, or was trained for another task.
    """
    if not folder.is_dir():
        raise CheckpointError(f"no run folder {str(folder)!r}")
    record = read_json(folder / "config.json")
    if not isinstance(record, dict) or record.get("task") != TASK:
        raise CheckpointError(f"the run in {folder} was trained for another task: expected one of scripts/classify.py")
    config, names = ClassifierConfig.from_json(record.get("train")), record.get("labels")
    if not (isinstance(names, list) and len(names) == 2 and all(isinstance(name, str) for name in names)):
        raise CheckpointError(f"{folder / 'config.json'} is damaged: labels are {names!r}")
    try:
        tokenizer = from_json(record.get("tokenizer"))
    except DataError as error:
        raise CheckpointError(f"{folder / 'config.json'} is damaged: {error}") from error
    model = build_classifier(config, tokenizer.vocab_size)
    path = folder / "model.safetensors"
    arrays, _ = read_arrays(path)
    load_arrays(model, arrays, path)
    model.eval()
    return model, tokenizer, (names[0], names[1])
