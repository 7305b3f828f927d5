"""Ten thousand damaged run folders, token files, gradients and data files: each loads or is refused with one error of tinylm's own.

`python tests/fuzzing.py tests/train/test_fuzzed_runs.py NAME 0 I I+1` repeats case I of a format alone.
"""

import contextlib
import functools
import io
import json
import shutil
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fuzzing import Format, damaged, damaged_json, faults, odd_value, pick

from tinylm.data.corpora import read_text
from tinylm.data.corpus import open_corpus
from tinylm.data.labelled import load_labelled
from tinylm.data.pairs import load_pairs
from tinylm.data.token_files import open_tokens, write_tokens
from tinylm.data.tokenizers import CharTokenizer
from tinylm.engine.autograd import no_grad
from tinylm.engine.tensor import Tensor
from tinylm.errors import DataError, TinylmError
from tinylm.files.signed_arrays import read_arrays, write_arrays
from tinylm.models import LanguageModel
from tinylm.train import Run, TrainConfig, load_run
from tinylm.train.metrics import read_metrics
from tinylm.train.replay import replay
from tinylm.train.tasks.classification import load_classifier
from tinylm.train.tasks.classifier_config import ClassifierConfig
from tinylm.train.tasks.classifier_run import ClassifierRun
from tinylm.train.tasks.loading import read_config
from tinylm.train.tasks.translation import TranslationRun, load_translator
from tinylm.train.tasks.translation_config import TranslationConfig
from tinylm.verify import compare_gradients

OLD = Path(__file__).parents[1] / "old_runs"
LANGUAGE = ["gpt", "gpt-average", "llama", "transformer", "rnn", "lstm", "gru", "ensemble", "words", "pieces", "ngram", "format_1/gpt"]
OTHERS = ["bag-classifier", "lstm-classifier", "transformer-classifier", "translator", "lstm-translator", "format_1/translator"]
CASES = {"language runs": 4000, "other runs": 3000, "failures": 400, "token files": 700, "gradients": 700, "tables": 800, "texts": 400}
Rng = np.random.Generator


# ---------------------------------------------------------------- damage


def damage_run(folder: Path, rng: Rng, names: list[str]) -> None:
    """Copies a run and damages one or two of its files."""
    shutil.copytree(OLD / pick(rng, names), folder / "run")
    files = sorted(path for path in (folder / "run").rglob("*") if path.is_file() and path.stat().st_size)
    settings = [path for path in files if path.name == "config.json"]
    for _ in range(int(rng.integers(1, 3))):
        damage_file(pick(rng, settings if rng.random() < 0.3 else files), rng)


def damage_file(path: Path, rng: Rng) -> None:
    if path.suffix == ".json":
        with contextlib.suppress(ValueError, RecursionError):  # damaged before
            return void(path.write_bytes(damaged_json(json.loads(path.read_bytes()), rng)))
    elif path.suffix == ".jsonl" and rng.random() < 0.7:
        lines = path.read_bytes().splitlines()
        at = int(rng.integers(len(lines)))
        with contextlib.suppress(ValueError, RecursionError):
            lines[at] = damaged_json(json.loads(lines[at]), rng)
        return void(path.write_bytes(b"\n".join(lines)))
    elif path.suffix == ".safetensors" and rng.random() < 0.7:
        with contextlib.suppress(TinylmError):
            return sign_again(path, rng)
    path.write_bytes(damaged(path.read_bytes(), rng))


def void(_: object) -> None:
    """Returns None."""


def sign_again(path: Path, rng: Rng) -> None:
    """Changes the record or the arrays of a checkpoint, and signs it as whole."""
    arrays, record = read_arrays(path)
    if rng.random() < 0.5:
        with contextlib.suppress(ValueError, RecursionError):
            changed = json.loads(damaged_json(record, rng))
            record = changed if isinstance(changed, dict) else record
    for _ in range(int(rng.integers(0, 3))):
        name = pick(rng, sorted(arrays))
        a = arrays[name]
        ways = [
            lambda a: a.astype(np.float64), lambda a: a.astype(np.int64), lambda a: a.astype(bool), lambda a: a.reshape(-1),
            lambda a: a[None], lambda a: np.zeros((0, 3), a.dtype), lambda a: -a if a.dtype != bool else ~a, lambda a: a.T,
            lambda a: np.full_like(a, np.nan if a.dtype.kind == "f" else 1), lambda a: np.zeros((3,), a.dtype),
            lambda a: np.full_like(a, 1e30 if a.dtype.kind == "f" else -1 if a.dtype.kind == "i" else 0),
        ]  # fmt: skip
        how = int(rng.integers(len(ways) + 3))
        if how < len(ways):
            with np.errstate(all="ignore"):
                arrays[name] = ways[how](a)
        elif how == len(ways):
            del arrays[name]
        elif how == len(ways) + 1:
            arrays[pick(rng, ["", "x", "model", "model.x", "state.9", "optimizer.step.99", name + ".x"])] = a
        else:
            other = pick(rng, sorted(arrays))
            arrays[name], arrays[other] = arrays[other], arrays[name]
        if not arrays:
            break
    write_arrays(path, arrays, record)


# ---------------------------------------------------------------- loading


def quietly(action: Any) -> Any:
    """Calls without the lines about checkpoints that were passed over."""
    with contextlib.redirect_stderr(io.StringIO()):
        return action()


def tried(*actions: Any) -> None:
    """Calls each; the first error of tinylm is raised at the end, so that all are tried."""
    first = None
    for action in actions:
        try:
            quietly(action)
        except TinylmError as error:
            first = first or error
    if first is not None:
        raise first


def resumed(run: Any) -> None:
    """Makes a run with run(accept_new_data), on data that it accepts if a damaged data.json tells of other data."""
    try:
        run(False).lock.release()
    except DataError:
        run(True).lock.release()


def use_language_run(folder: Path) -> None:
    def use() -> None:
        model, tokenizer, _ = load_run(folder)
        ids = tokenizer.encode("the")[:4]
        tokenizer.decode(ids.tolist())
        if isinstance(model, LanguageModel) and len(ids):
            with no_grad(), np.errstate(all="ignore"):
                model.logits(Tensor(ids[None]))

    def resume() -> None:
        config, tokenizer = read_config(folder, TrainConfig)
        if config.model != "ngram" and not config.init and config.batch_size <= 64:
            resumed(lambda accept: Run(config, folder, text(), tokenizer, resume=True, accept_new_data=accept))

    tried(use, resume, lambda: read_metrics(folder / "metrics.jsonl"))


@functools.cache
def text() -> str:
    return (OLD / "text.txt").read_text(encoding="utf-8")


@functools.cache
def pairs() -> Any:
    return load_pairs(OLD / "pairs.txt")


@functools.cache
def labelled() -> Any:
    return load_labelled(OLD / "labelled.txt")


def use_other_run(folder: Path) -> None:
    def resume_translator() -> None:
        config, _ = read_config(folder, TranslationConfig)
        resumed(lambda accept: TranslationRun(config, folder, pairs(), resume=True, accept_new_data=accept))

    def resume_classifier() -> None:
        config, _ = read_config(folder, ClassifierConfig)
        if config.epochs <= 100:
            resumed(lambda accept: ClassifierRun(config, labelled(), folder, resume=True, accept_new_data=accept))

    def translate() -> None:
        with np.errstate(all="ignore"):
            translator = load_translator(folder)
            translator.block_size = min(translator.block_size, 8)
            if translator.fits("a"):
                translator.translate("a", beams=1)

    def classify() -> None:
        load_classifier(folder)

    tried(translate, classify, resume_translator, resume_classifier, lambda: read_metrics(folder / "metrics.jsonl"))


# ---------------------------------------------------------------- other files


TOKENIZER = CharTokenizer("abc\n")


def write_token_file(folder: Path, rng: Rng) -> None:
    write_tokens(folder / "ids", ["abc\n" * int(rng.integers(0, 50))], TOKENIZER)
    (folder / "ids").write_bytes(damaged((folder / "ids").read_bytes(), rng))


@functools.cache
def gradients() -> bytes:
    with tempfile.TemporaryDirectory() as temporary:
        from tinylm.verify import save_gradients

        save_gradients({"a": np.ones((3, 2), np.float32), "b": np.zeros(4), "c": np.ones((), np.float32)}, Path(temporary) / "g")
        return (Path(temporary) / "g").read_bytes()


def write_gradients(folder: Path, rng: Rng) -> None:
    data = gradients()
    size = int.from_bytes(data[:8], "little")
    if rng.random() < 0.5:
        header = damaged_json(json.loads(data[8 : 8 + size]), rng)
        data = len(header).to_bytes(8, "little") + header + data[8 + size :]
    else:
        data = damaged(data, rng)
    (folder / "whole").write_bytes(gradients())
    (folder / "other").write_bytes(data)


def use_gradients(folder: Path) -> None:
    with np.errstate(all="ignore"):
        tried(
            lambda: str(compare_gradients(folder / "whole", folder / "other")),
            lambda: str(compare_gradients(folder / "other", folder / "whole")),
        )


def write_table(folder: Path, rng: Rng) -> None:
    lines = [(f"{pick(rng, ['good', 'bad'])}\tword {i} {odd_value(rng)!s:.30}") for i in range(int(rng.integers(0, 60)))]
    (folder / "table").write_bytes(damaged("\n".join(lines).encode("utf-8", "replace"), rng))


def write_texts(folder: Path, rng: Rng) -> None:
    (folder / "texts" / "below").mkdir(parents=True)
    for name in ("a.txt", "b.md", "below/c.text"):
        raw = ("the fox\r\n" * int(rng.integers(0, 30)) + str(odd_value(rng))[:2000]).encode(
            pick(rng, ["utf-8", "utf-16", "latin-1"]), "replace"
        )
        (folder / "texts" / name).write_bytes(damaged(raw, rng))


def use_texts(folder: Path) -> None:
    tried(
        lambda: "".join(open_corpus(folder / "texts").train), lambda: open_corpus(folder / "texts" / "a.txt", "utf-16").to_json(),
        lambda: read_text(folder / "texts" / "b.md"), lambda: "".join(open_corpus(folder / "texts", "latin-1").validation),
    )  # fmt: skip


FORMATS = {
    "language runs": Format(lambda folder, rng: damage_run(folder, rng, LANGUAGE), lambda folder: use_language_run(folder / "run")),
    "other runs": Format(lambda folder, rng: damage_run(folder, rng, OTHERS), lambda folder: use_other_run(folder / "run")),
    "failures": Format(lambda folder, rng: damage_run(folder, rng, ["failure"]), lambda folder: quietly(lambda: replay(folder / "run"))),
    "token files": Format(write_token_file, lambda folder: open_tokens(folder / "ids", TOKENIZER)),
    "gradients": Format(write_gradients, use_gradients),
    "tables": Format(write_table, lambda folder: tried(lambda: load_labelled(folder / "table"), lambda: load_pairs(folder / "table"))),
    "texts": Format(write_texts, use_texts),
}


@pytest.mark.parametrize("name", FORMATS)
def test_a_few_damaged_files(name: str) -> None:
    found = faults(__file__, name, 12, seed=1)
    assert not found, "\n".join(found)


@pytest.mark.slow
@pytest.mark.parametrize("name", FORMATS)
def test_ten_thousand_damaged_files(name: str) -> None:
    found = faults(__file__, name, CASES[name])
    assert not found, "\n".join(found)


def test_there_are_ten_thousand() -> None:
    assert sum(CASES.values()) == 10_000
    assert CASES.keys() == FORMATS.keys()
