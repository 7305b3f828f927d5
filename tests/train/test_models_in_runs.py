"""Every model and tokenizer in a training run: learning, loading, validation over a whole split, and what is refused."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
from small_runs import RECURRENT, TEXT, make, small

from tinylm.data import WordTokenizer, split_text
from tinylm.decode import token_log_probabilities
from tinylm.errors import AnomalyError, CheckpointError, ConfigError, DataError
from tinylm.models import NgramLM, RNNModel
from tinylm.train import Run, TrainConfig, default_config, load_run, validation_loss
from tinylm.train.tasks.language_model_config import MODEL_DEFAULTS

# ---------------------------------------------------------------- any model, any tokenizer


@pytest.mark.parametrize("tokenizer", ["char", "word", "bpe"])
@pytest.mark.parametrize("model", ["llama", "transformer", "rnn", "lstm", "gru", "ngram"])
def test_a_short_run_learns_and_loads(model: str, tokenizer: str, tmp_path: Path) -> None:
    run = make(small(model, tokenizer=tokenizer), tmp_path / "run")
    summary = run.train()
    assert summary is not None
    assert summary["val_loss"] < math.log(run.task.tokenizer.vocab_size) - 0.2
    loaded, own_tokenizer, config = load_run(run.folder)
    assert config == run.config
    assert own_tokenizer.to_json() == run.task.tokenizer.to_json()
    assert own_tokenizer.kind == tokenizer
    assert validation_loss(loaded, run.task.val_ids) == summary["val_loss"]
    assert loaded.num_parameters() == summary["parameters"] > 0
    for name, value in run.model.state_dict().items():
        np.testing.assert_array_equal(loaded.state_dict()[name], value)
    assert json.loads((run.folder / "summary.json").read_text(encoding="utf-8")) == summary
    records = [json.loads(line) for line in (run.folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    assert records[-1] == {"step": summary["steps"], "val_loss": summary["val_loss"]}


def test_the_gpt_with_other_tokenizers(tmp_path: Path) -> None:
    for tokenizer in ("word", "bpe"):
        run = make(small("gpt", tokenizer=tokenizer), tmp_path / tokenizer)
        summary = run.train()
        assert summary is not None
        assert validation_loss(load_run(run.folder)[0], run.task.val_ids) == summary["val_loss"]


def with_validation_text(train: str, val: str) -> str:
    """Returns a text whose last tenth is val, after copies of train."""
    text = (train * 100)[: 9 * len(val)] + val
    assert split_text(text)[1] == val
    return text


def test_words_are_learned_from_the_training_part(tmp_path: Path) -> None:
    text = with_validation_text("a b c d\n", "a new word, a new word\n")
    run = make(small("ngram", tokenizer="word"), tmp_path / "run", text)
    assert sorted(run.task.tokenizer.to_json()["words"]) == ["\n", " b", " c", " d", "a"]
    assert [run.task.tokenizer.decode([i]) for i in run.task.val_ids] == [
        "a",
        *["<unk>"] * 6,
        "\n",
    ]  # " a" did not occur within a line


@pytest.mark.parametrize("model", RECURRENT)
@pytest.mark.parametrize("nonlinearity", ["relu", "sigmoid"])
def test_a_nonlinearity_is_for_the_rnn_alone(model: str, nonlinearity: str, tmp_path: Path) -> None:
    """Settings that a model has no use for are ignored."""
    run = Run(small(model, nonlinearity=nonlinearity), tmp_path / "run", TEXT)
    assert isinstance(run.model, RNNModel)
    assert run.model.rnn.settings == ({"nonlinearity": nonlinearity} if model == "rnn" else {})


# ---------------------------------------------------------------- validation


@pytest.mark.parametrize("model", RECURRENT)
def test_parallel_streams_give_the_loss_of_one_pass(model: str, tmp_path: Path) -> None:
    """Each stream but the first starts from a state that was warmed up on the tokens before it."""
    run = Run(small(model, steps=12), tmp_path / "run", TEXT)
    run.train()
    rng = np.random.default_rng(0)
    for length in (3 * 2048 + 77, 2 * 2048 + 1, 600):  # three streams, two, one
        ids = np.concatenate([run.task.train_ids] * 5)[:length].copy()
        at = rng.integers(0, length, length // 10)
        ids[at] = rng.integers(0, run.task.tokenizer.vocab_size, at.size)
        one_pass = -token_log_probabilities(run.model, ids).mean()
        for batch_size in (1, 3, 32):
            assert validation_loss(run.model, ids, batch_size=batch_size) == pytest.approx(one_pass, abs=1e-5)


def test_every_target_counts_once_in_parallel_streams(tmp_path: Path) -> None:
    """One rare token, wherever it is, changes the mean by its own loss divided by the number of targets."""
    model = RNNModel("rnn", 3, 4, 4, 1).to(dtype="float64")
    for p in model.parameters():
        p.data[...] = 0
        p.bump_version()
    model.decoder.bias.data[:] = np.log([0.5, 0.3, 0.2])  # type: ignore[union-attr]
    n = 2 * 2048 + 5
    for at in (1, 2, 511, 512, 2050, 2051, 2052, n - 1, n):
        ids = np.zeros(n + 1, np.int64)
        ids[at] = 2
        assert validation_loss(model, ids) == pytest.approx(math.log(2) + (math.log(5) - math.log(2)) / n, abs=1e-12)
    ids = np.zeros(n + 1, np.int64)
    ids[0] = 2  # is no target
    assert validation_loss(model, ids) == pytest.approx(math.log(2), abs=1e-12)


@pytest.mark.parametrize("tokenizer", ["char", "word", "bpe"])
@pytest.mark.parametrize("model", ["lstm", "ngram"])
def test_nats_per_byte(model: str, tokenizer: str, tmp_path: Path) -> None:
    """Of the validation text without its first token: an unknown word, or the first byte of a character. Unknown words are spelt."""
    val = "überé the cat — the naïve cat\n"
    text = with_validation_text("the cat sat on the mat\n", val)
    run = make(small(model, tokenizer=tokenizer, block_size=4, batch_size=1, bpe_size=256), tmp_path / "run", text)
    summary = run.train()
    assert summary is not None
    first = {"char": "ü".encode(), "word": "überé".encode(), "bpe": "ü".encode()[:1]}[tokenizer]
    nats = summary["val_loss"] * (len(run.task.val_ids) - 1)
    if isinstance(own := run.task.tokenizer, WordTokenizer):
        words = [word for word in own.pieces(val)[1:] if word not in own.words]
        assert words == [" —", " naïve"]
        nats += own.spelling_nats(words) or 0.0
    assert summary["val_nats_per_byte"] == pytest.approx(nats / (len(val.encode()) - len(first)), rel=1e-12)


def test_a_loss_that_is_not_a_number(tmp_path: Path) -> None:
    run = Run(small("gru", steps=0), tmp_path / "run", TEXT)
    assert isinstance(run.model, RNNModel)
    run.model.encoder.weight.data[:] = np.nan
    run.model.encoder.weight.bump_version()
    with pytest.raises(AnomalyError, match="the validation loss is nan after step 0"), np.errstate(invalid="ignore"):
        run.train()
    assert not (run.folder / "summary.json").exists()
    for ids in (run.task.val_ids[:1], run.task.val_ids[:0]):
        for model in (run.model, NgramLM(30, 2)):
            with pytest.raises(DataError, match=f"a loss over {ids.size} tokens"):
                validation_loss(model, ids)


# ---------------------------------------------------------------- what cannot be


def test_data_too_short_for_a_model(tmp_path: Path) -> None:
    for model, text, message in [
        ("ngram", "abcabcab", "7 tokens for training, where order 9 needs 9, and 1 for validation, which needs 2"),
        ("transformer", "abcabcab" * 2, "14 tokens for training, where block_size 16 needs 17, and 2"),
        ("lstm", "abcabcab" * 4, "28 tokens, 4 streams with a block of 16 each need 80"),
    ]:
        with pytest.raises(DataError, match=message):
            make(small(model, order=9, block_size=16), tmp_path / "run", text)
        assert not (tmp_path / "run").exists()
    assert make(small("ngram", order=9, block_size=64), tmp_path / "run", "abcabcab" * 2).train() is not None  # it has no block


def test_invalid_settings(tmp_path: Path) -> None:
    for model, change, message in [
        ("ngram", {"order": 0}, "order is 0: expected 1 to 9"),
        ("transformer", {"n_embd": 15}, "embed_dim 15 is not a multiple of num_heads 2"),
        ("transformer", {"n_head": 0}, "nhead is 0"),
        ("transformer", {"block_size": 6000}, "block_size is 6000: a transformer has positions for 5000 at most"),
        ("lstm", {"n_embd": 0}, "ninp is 0"),
        ("gru", {"n_hidden": 0}, "n_hidden is 0"),
        ("gru", {"dropout": 1.5}, "dropout probability 1.5"),
        ("rnn", {"nonlinearity": "gelu"}, "nonlinearity 'gelu'"),
        ("gru", {"tokenizer": "word", "min_count": 0}, "min_count is 0"),
        ("gru", {"tokenizer": "bpe", "bpe_size": 100}, "bpe_size is 100"),
        ("gru", {"warmup": 25}, "warmup 25 is out of range: expected 0 to the schedule's 24 steps"),
    ]:
        with pytest.raises(ConfigError, match=message):
            make(small(model, **change), tmp_path / "run", TEXT * 4)  # type: ignore[arg-type]
        assert not (tmp_path / "run").exists()
    with pytest.raises(ConfigError, match="model 'mamba': expected one of gpt, llama, transformer, rnn, lstm, gru, ngram"):
        default_config("mamba")
    assert [default_config(model).model for model in MODEL_DEFAULTS] == list(MODEL_DEFAULTS)


def test_a_config_of_wrong_types() -> None:
    record = json.loads(json.dumps(small("lstm").to_json()))
    assert TrainConfig.from_json(record) == small("lstm")
    assert TrainConfig.from_json({**record, "lr": 1}).lr == 1
    for name, value in [("n_layer", "2"), ("n_layer", None), ("n_layer", 2.0), ("bias", 1), ("data", 3), ("lr", "x"), ("model", "mamba")]:
        with pytest.raises(CheckpointError, match=f"the run's config does not fit: {name} is {value!r}"):
            TrainConfig.from_json({**record, name: value})
    with pytest.raises(CheckpointError, match="is not a record"):
        TrainConfig.from_json([])


@pytest.mark.parametrize(
    ("described", "held", "message"),
    [
        ("gpt", "lstm", r"does not fit GPT: missing 'transformer.wte.weight'.*unexpected 'encoder.weight'"),
        ("lstm", "gru", r"does not fit RNNModel: misshapen .*'rnn.weight_ih_l0': \(72, 16\), expected \(96, 16\)"),
        ("ngram", "rnn", r"does not fit an NgramLM of order 4: missing 'contexts.1'"),
        ("rnn", "ngram", r"does not fit RNNModel: missing 'encoder.weight'"),
    ],
)
def test_a_folder_with_the_weights_of_another_model(described: str, held: str, message: str, tmp_path: Path) -> None:
    run, other = (make(small(model, steps=1), tmp_path / model) for model in (described, held))
    run.train()
    other.train()
    (run.folder / "model.safetensors").write_bytes((other.folder / "model.safetensors").read_bytes())
    with pytest.raises(CheckpointError, match=rf"model\.safetensors does not hold the model that config\.json describes: .*{message}"):
        load_run(run.folder)
