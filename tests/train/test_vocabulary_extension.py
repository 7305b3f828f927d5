"""A text with characters that a trained model does not know: rows are added for them, or one of them is named."""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from long_runs import assert_same_end, stop_at
from script_helpers import ends_well, fails_with_one_line, script_here
from small_runs import TEXT, small

from tinylm import Tensor
from tinylm.data import open_corpus
from tinylm.engine.random_keys import Generator, drawing_from
from tinylm.errors import ConfigError, DataError
from tinylm.models import GPT, GPTConfig
from tinylm.train import Run, TrainConfig, default_config, load_run, validation_loss
from tinylm.train.tasks.language_model_config import build_model
from tinylm.train.tasks.loading import read_config
from tinylm.train.tasks.vocabulary_extension import copy_rows

NEW = "Zoë and the brown fox: dogs jump over the lazy élève.\n" * 40
MODELS = ("gpt", "llama", "transformer", "lstm")


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("bases")
    for model in ("gpt", "lstm"):
        Run(small(model), folder / model, TEXT).train()
    Run(small("gpt", tokenizer="bpe", steps=1, save_every=1), folder / "bpe", TEXT).train()
    Run(small("gpt", tokenizer="word", steps=1, save_every=1), folder / "word", TEXT).train()
    return {path.name: path for path in folder.iterdir()}


def going_on(base: Path, **changes: Any) -> TrainConfig:
    return small(read_config(base, TrainConfig)[0].model, init=str(base), **changes)


@pytest.mark.parametrize("model", MODELS)
def test_the_rows_that_are_known_stay_and_new_ones_are_their_mean(model: str) -> None:
    config = small(model, members=2 if model == "lstm" else 1)
    places = np.array([0, 2, 3, 4, 6, 7])
    with drawing_from(Generator(3)):
        old, larger = build_model(config, 6), build_model(config, 9)
        for parameter in old.parameters():
            parameter.data[...] = np.random.default_rng(parameter.size).standard_normal(parameter.shape)
        copy_rows(old, larger, places)
    given, made = old.state_dict(), larger.state_dict()
    grown = [name for name in given if given[name].shape != made[name].shape]
    assert len(grown) == {"gpt": 2, "llama": 2, "transformer": 3, "lstm": 6}[model]
    for name, value in given.items():
        if name not in grown:
            np.testing.assert_array_equal(made[name], value)
            continue
        np.testing.assert_array_equal(made[name][places], value)
        new = np.delete(made[name], places, axis=0)
        assert len({row.tobytes() for row in new}) == 3, "each of its own"
        off = np.abs(new - value.mean(axis=0)) / value.std(axis=0)
        assert 0 < off.mean() < 0.2
        assert off.max() < 0.6
    ids = np.array([[0, 3, 5, 1]])
    if model != "lstm":  # an ensemble gives log p, which more tokens share
        old.eval(), larger.eval()
        expected = old.logits(Tensor(ids)).numpy()
        np.testing.assert_allclose(larger.logits(Tensor(places[ids])).numpy()[..., places], expected, rtol=1e-4, atol=1e-4)


def test_tied_rows_stay_tied() -> None:
    shape: dict[str, Any] = {"block_size": 4, "n_layer": 1, "n_head": 1, "n_embd": 4}
    old, larger = (GPT(GPTConfig(vocab_size=n, **shape)) for n in (3, 5))
    copy_rows(old, larger, np.array([0, 1, 4]))
    assert larger.lm_head.weight is larger.transformer.wte.weight


def test_a_run_learns_the_new_characters_and_resumes(base: dict[str, Path], tmp_path: Path) -> None:
    config = going_on(base["gpt"], extend_vocabulary=True, steps=12, save_every=6)
    run = Run(config, tmp_path / "whole", NEW)
    old = load_run(base["gpt"])[1]
    assert set("Zëéè") <= set(run.task.tokenizer.decode(range(run.model.vocab_size)))
    assert run.model.vocab_size == old.vocab_size + len(set(NEW) - set(TEXT))
    before = run.task.validation_loss()
    assert before < 2 * np.log(run.model.vocab_size)
    summary = run.train()
    assert summary is not None
    assert summary["val_loss"] < before - 0.3
    model, tokenizer, saved = load_run(tmp_path / "whole")
    assert validation_loss(model, run.task.val_ids, block_size=config.block_size) == summary["val_loss"]
    assert tokenizer.decode(tokenizer.encode("Zoë")) == "Zoë"
    stop_at(part := Run(config, tmp_path / "parts", NEW), 7)
    assert part.train() is None
    assert saved is not None
    stored, known = read_config(tmp_path / "parts", TrainConfig)
    assert Run(stored, tmp_path / "parts", NEW, known, resume=True).train() is not None
    assert_same_end(tmp_path / "parts", tmp_path / "whole")
    again = Run(going_on(tmp_path / "whole"), tmp_path / "again", NEW)  # and it can be gone on from, with all its characters
    assert again.model.vocab_size == run.model.vocab_size


def test_a_text_without_new_characters_changes_nothing(base: dict[str, Path], tmp_path: Path) -> None:
    runs = [Run(going_on(base["lstm"], extend_vocabulary=on), tmp_path / str(on), TEXT) for on in (True, False)]
    for a, b in zip(*(run.model.state_dict().values() for run in runs), strict=True):
        np.testing.assert_array_equal(a, b)


def test_without_the_option_the_first_unknown_character_is_named(base: dict[str, Path], tmp_path: Path) -> None:
    path = tmp_path / "new.txt"
    path.write_text("the lazy dog\n" * 3 + NEW, encoding="utf-8")
    message = r"line 4: the model of init .* does not know 'Z' \(U\+005A\) and 4 other characters: extend_vocabulary=True adds"
    with pytest.raises(DataError, match=rf"new\.txt, {message}"):
        Run(going_on(base["gpt"]), tmp_path / "no", open_corpus(path))
    with pytest.raises(DataError, match=f"the text, {message}"):
        Run(going_on(base["gpt"]), tmp_path / "no", path.read_text(encoding="utf-8"))
    with pytest.raises(DataError, match=r"does not know 'Z' \(U\+005A\) and 4 other characters$"):
        Run(going_on(base["gpt"], lora_rank=2), tmp_path / "no", open_corpus(path))
    assert not (tmp_path / "no").exists()


@pytest.mark.parametrize(
    ("name", "changes", "message"),
    [
        ("bpe", {}, r"tokens of init .* are of the kind 'bpe', where no text is refused \(pieces of bytes spell every text\)"),
        ("word", {}, r"are of the kind 'word', where no text is refused \(a word that it lacks is <unk>\)"),
        ("gpt", {"lora_rank": 2}, "extend_vocabulary is True and lora_rank is 2: expected one of them"),
    ],
)
def test_where_it_makes_no_sense(name: str, changes: dict[str, Any], message: str, base: dict[str, Path], tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=message):
        Run(going_on(base[name], extend_vocabulary=True, **changes), tmp_path / "no", NEW)


def test_from_the_command_line(base: dict[str, Path], tmp_path: Path) -> None:
    path = tmp_path / "new.txt"
    path.write_text(NEW, encoding="utf-8")
    command = ["train.py", "--init", base["gpt"], "--data", path, "--block-size", 8, "--steps", 2, "--warmup", 1, "--out", tmp_path / "run"]
    fails_with_one_line(script_here(*command), f"{path}, line 1: the model of init {base['gpt']} does not know 'Z'")
    assert f"5 characters are added to the vocabulary of {base['gpt']}" in ends_well(script_here(*command, "--extend-vocabulary"))
    ends_well(script_here("train.py", "--resume", tmp_path / "run", "--steps", 3))
    ends_well(script_here("generate.py", tmp_path / "run", "--prompt", "Zoë", "--tokens", 5))
    fails_with_one_line(script_here("train.py", "--extend-vocabulary"), "--extend-vocabulary: extend_vocabulary is True: it needs init")
    assert dataclasses.replace(default_config("gpt"), extend_vocabulary=True).extend_vocabulary, "only new runs refuse it"
