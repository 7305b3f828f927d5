"""What a run tells of its validation: figures that compare across tokenizers and with `score`, and a part of the text only."""

import dataclasses
import json
import math
from pathlib import Path

import numpy as np
import pytest
from old_runs.measure import RUNS
from small_runs import TEXT, make, small

from tinylm.data import CharTokenizer, load_text, split_text
from tinylm.data.encoding import beginning
from tinylm.data.pairs import Pairs
from tinylm.data.tokenizers import WordTokenizer
from tinylm.decode import score_text
from tinylm.errors import ConfigError
from tinylm.train import Counting, Run, load_run
from tinylm.train.tasks.resuming import settings_to_go_on
from tinylm.train.tasks.token_losses import token_losses
from tinylm.train.tasks.translation import TranslationRun, first_pairs
from tinylm.train.tasks.translation_config import default_config as translation_config

# ---------------------------------------------------------------- words that are not in the vocabulary


@pytest.fixture(scope="module")
def summaries(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict]:
    """Returns the summaries of n-gram models of one text with several vocabularies."""
    folder, text = tmp_path_factory.mktemp("runs"), load_text("tinyshakespeare")[:150_000]
    kinds = {"char": {"tokenizer": "char", "order": 6}}
    kinds |= {f"words {n}": {"tokenizer": "word", "order": 3, "min_count": n} for n in (1, 2, 50)}
    return {name: Counting(small("ngram", **settings), folder / name, text).train() for name, settings in kinds.items()}


def test_a_smaller_vocabulary_is_no_better_model(summaries: dict[str, dict]) -> None:
    """Without the spelling of unknown words the loss per byte falls with every word that the vocabulary lacks."""
    words = [summaries[f"words {n}"] for n in (1, 2, 50)]
    unknown = [each["val_unknown"] for each in words]
    assert 0 < unknown[0] < unknown[1] < unknown[2] / 3
    plain = [each["val_nats_per_byte"] * each["val_loss"] / (each["val_loss"] + each["val_spelling"]) for each in words]
    assert plain[0] > plain[1] > 1.8 * plain[2], "what misled"
    characters = summaries["char"]["val_nats_per_byte"]
    assert plain[1] < 0.9 * characters
    for each in words:
        assert 0.95 * characters < each["val_nats_per_byte"] < 1.3 * characters


def test_nats_per_byte_with_the_spelling(tmp_path: Path) -> None:
    val = "the cat and a zebra, the owl\n"
    text = ("the cat and the mat and a dog\n" * 100)[: 9 * len(val)] + val
    assert split_text(text)[1] == val
    run = make(small("ngram", tokenizer="word", order=2), tmp_path / "run", text)
    assert isinstance(run, Counting)
    summary = run.train()
    tokenizer = run.task.tokenizer
    assert isinstance(tokenizer, WordTokenizer)
    assert tokenizer.spelling is not None
    lacking = [word for word in tokenizer.pieces(val)[1:] if word not in tokenizer.words]
    assert [word for word in lacking if word.strip() not in (",", "a")] == [" zebra", " owl"]
    nats = summary["val_loss"] * summary["val_tokens"] - tokenizer.spelling.log_probabilities(lacking).sum()
    assert summary["val_tokens"] == len(tokenizer.pieces(val)) - 1
    assert summary["val_unknown"] == len(lacking)
    assert summary["val_spelling"] == pytest.approx(nats / summary["val_tokens"] - summary["val_loss"], rel=1e-9)
    assert summary["val_nats_per_byte"] == pytest.approx(nats / (len(val) - len("the")), rel=1e-12)
    model, again, _ = load_run(tmp_path / "run")  # and after loading
    score = score_text(model, again, val)
    assert score.unknown == len(lacking)
    assert score.spelling == pytest.approx(-tokenizer.spelling.log_probabilities(lacking).sum(), rel=1e-12)
    per_byte = (score.spelling - score.log_probability) / len(val)  # type: ignore[operator]
    assert score.bits_per_byte * math.log(2) == pytest.approx(per_byte, rel=1e-12)


def test_an_old_run_of_words_counts_as_it_did() -> None:
    _, tokenizer, _ = load_run(RUNS / "words")
    assert isinstance(tokenizer, WordTokenizer)
    assert tokenizer.spelling is None
    record = json.loads((RUNS / "words" / "config.json").read_text(encoding="utf-8"))
    assert "eval_tokens" not in record["train"]
    assert load_run(RUNS / "words")[2].eval_tokens == 0  # type: ignore[union-attr]


def test_the_perplexity_of_a_text_with_its_own_unknown_words(tmp_path: Path) -> None:
    """Of a count of words it is that of a count by hand: every token but the first, <unk> and <eos> like any other."""
    line = " mr. <unk> is chairman of <unk> n.v. \n"
    text = line * 30
    summary = make(small("ngram", tokenizer="whitespace", order=1), tmp_path / "run", text).train()
    assert summary is not None
    val = split_text(text)[1].replace("\n", " <eos>").split()[1:]
    train = split_text(text)[0].replace("\n", " <eos>").split()
    assert (summary["val_tokens"], summary["val_own_unknown"]) == (len(val), val.count("<unk>"))
    assert "val_unknown" not in summary
    model, tokenizer, _ = load_run(tmp_path / "run")
    said = score_text(model, tokenizer, "mr. <unk> n.v.\n").unknown_words()
    assert (said.tokens, said.unknown, said.own) == (4, 0, 1)
    assert said.note() == "1 of 4 tokens are the text's own <unk>"
    kinds = len(set(train))
    assert kinds == 7
    # 0.5, 1 or 1.5 of each count are given to all words alike: too little data for other discounts
    p = {w: (train.count(w) - 1.5) / len(train) + 1.5 * kinds / len(train) / kinds for w in set(train)}
    assert summary["val_loss"] == pytest.approx(-np.mean([math.log(p[w]) for w in val]), rel=1e-12)


# ---------------------------------------------------------------- the same text under `score`


@pytest.mark.parametrize("model", ["gru", "ngram", "gpt"])
def test_a_score_is_the_loss_of_a_validation(model: str, tmp_path: Path) -> None:
    """Of a text after a line break; a Transformer's only as long as its windows do not overlap."""
    run = make(small(model, steps=4), tmp_path / "run")
    run.train()
    lm, tokenizer, _ = load_run(run.folder)
    assert isinstance(tokenizer, CharTokenizer)
    text = TEXT[: 8 if model == "gpt" else 900]
    losses = token_losses(lm, tokenizer.encode("\n" + text))
    assert np.linalg.norm(score_text(lm, tokenizer, text).log_probabilities + losses) <= 1e-5 * np.linalg.norm(losses)
    if model == "gpt":
        more = -score_text(lm, tokenizer, TEXT[:100]).log_probabilities
        assert np.abs(more - token_losses(lm, tokenizer.encode("\n" + TEXT[:100]))).max() > 1e-3


# ---------------------------------------------------------------- a part of the text


@pytest.mark.parametrize("kind", ["char", "word"])
def test_a_validation_reads_the_beginning_alone(kind: str, tmp_path: Path) -> None:
    whole = Run(small("gpt", tokenizer=kind), tmp_path / "whole", TEXT).task
    run = Run(small("gpt", tokenizer=kind, eval_tokens=30, steps=2), tmp_path / "part", TEXT)
    found = len(run.task.val_ids)
    assert 15 < found <= 30 < len(whole.val_ids)
    np.testing.assert_array_equal(run.task.val_ids, whole.val_ids[:found])
    summary = run.train()
    assert summary is not None
    assert summary["val_tokens"] == found - 1
    assert load_run(run.folder)[2].eval_tokens == 30  # type: ignore[union-attr]
    with pytest.raises(ConfigError, match="eval_tokens is 40, and the run"):  # the best loss is of the first 30
        settings_to_go_on(run.folder, dataclasses.replace(run.config, eval_tokens=40))
    text = whole.tokenizer.decode(run.task.val_ids)
    assert split_text(TEXT)[1].startswith(text)
    assert run.task.bytes_per_token == (len(text) - whole.tokenizer.first_bytes(text)) / (found - 1)


def test_the_beginning_of_a_text() -> None:
    tokenizer, text = WordTokenizer(["\n", *"abc"]), "abc def\n" * 10 + "a" * 500 + "\n"
    assert beginning(text, tokenizer, 0) == text
    assert beginning(text, tokenizer, 1000) == text
    assert beginning(text, tokenizer, 10) == "abc def\n" * 3, "whole lines of three tokens"
    for most in (1, 2, 3, 7, 29, 31, 32, 33):
        part = beginning(text, tokenizer, most)
        assert text.startswith(part)
        assert len(tokenizer.encode(part)) <= most
    assert beginning("a" * 500, CharTokenizer("a"), 100) == "a" * 100
    with pytest.raises(ConfigError, match="eval_tokens is -1"):
        small("gpt", eval_tokens=-1)
    with pytest.raises(ConfigError, match="eval_tokens is 1: expected at least 2"):
        small("gpt", eval_tokens=1)


def test_a_translators_validation_reads_the_first_pairs_alone(tmp_path: Path) -> None:
    pairs = [(np.zeros(2, int), np.zeros(n, int)) for n in (3, 4, 5)]
    assert [len(first_pairs(pairs, n)) for n in (0, 2, 3, 7, 11, 12, 99)] == [3, 1, 1, 2, 2, 3, 3]
    assert first_pairs([], 5) == []
    sentences = [(f"the {animal} sleeps", f"el {animal} duerme") for animal in ("cat", "dog", "bird", "wolf")]
    config = translation_config("transformer")
    settings = {**config.to_json(), "bpe_size": 300, "n_layer": 1, "n_embd": 16, "n_hidden": 16, "steps": 1, "eval_tokens": 1, "warmup": 0}
    run = TranslationRun(type(config)(**settings), tmp_path / "run", Pairs(sentences * 4, sentences, sentences, 0, ""))
    assert len(run.task.validation) == 1
