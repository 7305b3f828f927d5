"""What the commands say of options that are misspelt, out of range, or do not fit together."""

import json
from pathlib import Path

import pytest
from script_helpers import ends_well, fails_with_one_line, script_here
from small_runs import TEXT


@pytest.mark.parametrize(
    ("command", "message"),
    [
        (["train.py", "--stpes", "3"], "Unrecognized options: --stpes; did you mean '--steps'?"),
        (["train.py", "--n_embed=3"], "Unrecognized options: --n_embed=3; did you mean '--n-embd'?"),
        (["train.py", "--no-bais"], "Unrecognized options: --no-bais; did you mean '--bias'?"),
        (["train.py", "--xyzzy", "3"], "Unrecognized options: --xyzzy, 3 (--help"),
        (["translate.py", "train", "--stpes", "3"], "did you mean '--steps'?"),
        (["classify.py", "train", "--epohcs", "3"], "did you mean '--epochs'?"),
        (["classify.py", "trian"], "expected 'train', 'compare' or 'run'; did you mean 'train'?"),
        (["generate.py", "--temprature", "1"], "did you mean '--temperature'?"),  # RUN is missing too
        (["evaluate.py", "--deivce", "cpu"], "did you mean '--device'?"),
        (["compare_gradients.py", "--dytpe", "float32"], "did you mean '--dtype'?"),
        (
            ["train.py", "--model", "gtp"],
            "model 'gtp': expected one of gpt, llama, transformer, rnn, lstm, gru, ngram; did you mean ",
        ),
        (["train.py", "--preset", "best-10"], "did you mean 'best-10min'?"),
        (["train.py", "--lr", "nan"], "--lr: lr is nan: expected a finite number"),
        (["train.py", "--lr", "inf"], "--lr: lr is inf: expected a finite number"),
        (["train.py", "--lr", "-1"], "--lr: lr is -1.0: expected at least 0"),
        (["train.py", "--lora-alpha", "nan"], "--lora-alpha: lora_alpha is nan"),
        (["train.py", "--weight-decay", "inf"], "--weight-decay: weight_decay is inf"),
        (["train.py", "--rope-theta", "inf"], "--rope-theta: rope_theta is inf"),
        (["train.py", "--lr", "1e-4", "--min-lr", "1e-3"], "--min-lr: min_lr is 0.001: expected at most lr, 0.0001"),
        (["train.py", "--min-lr", "1"], "--min-lr: min_lr is 1: expected at most lr, 0.001"),
        (["translate.py", "train", "--min-lr", "1"], "--min-lr: min_lr is 1: expected at most lr, 0.002"),
        (["translate.py", "train", "--label-smoothing", "nan"], "--label-smoothing: label_smoothing is nan"),
        (["classify.py", "train", "--word-dropout", "1.5"], "--word-dropout: word_dropout 1.5 is out of range"),
        (["train.py", "--tokenizer", "bpe", "--bpe-size", "64"], "--bpe-size: bpe_size is 64: expected at least 256"),
        (["translate.py", "train", "--bpe-size", "64"], "--bpe-size: bpe_size is 64: expected at least 256"),
    ],
)
def test_one_line_names_the_option(command: list[str], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    fails_with_one_line(script_here(*command), message)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("options", "expected"), [([], 1e-4), (["--lr", "1e-2"], 1e-4), (["--lr=1e-5"], 1e-6), (["--lr", "1e-4", "--min-lr", "1e-4"], 1e-4)]
)
def test_min_lr_follows_lr_unless_it_is_given(options: list[str], expected: float, tmp_path: Path) -> None:
    (tmp_path / "text.txt").write_text(TEXT)
    shape = ["--n-layer", 1, "--n-embd", 8, "--n-head", 2, "--block-size", 8, "--steps", 1]
    ends_well(script_here("train.py", "--data", tmp_path / "text.txt", "--out", tmp_path / "run", *shape, *options))
    record = json.loads((tmp_path / "run" / "config.json").read_text())["train"]
    assert record["min_lr"] == pytest.approx(expected, rel=1e-12)
    ends_well(script_here("train.py", "--resume", tmp_path / "run", "--steps", 2))
