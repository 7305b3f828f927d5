"""What the commands say of options that are misspelt, out of range, or do not fit together."""

import json
import sys
from pathlib import Path
from unittest import mock

import pytest
from script_helpers import SCRIPTS, ends_well, fails_with_one_line, script_here
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
        (["classify.py", "trian"], "expected 'train', 'evaluate', 'run', 'compare' or 'study'; did you mean 'train'?"),
        (["generate.py", "--temprature", "1"], "did you mean '--temperature'?"),  # RUN is missing too
        (["evaluate.py", "--deivce", "cpu"], "did you mean '--device'?"),
        (["compare_gradients.py", "--dytpe", "float32"], "did you mean '--dtype'?"),
        (
            ["train.py", "--model", "gtp"],
            "model 'gtp': expected one of gpt, llama, transformer, rnn, lstm, gru, ngram; did you mean ",
        ),
        (["train.py", "--learning-rate", "1"], "Unrecognized options: --learning-rate; did you mean '--lr'?"),
        (["train.py", "--learning_rate=1"], "Unrecognized options: --learning_rate=1; did you mean '--lr'?"),
        (["train.py", "--epochs", "3"], "did you mean '--steps'?"),
        (["train.py", "--hidden-size", "3"], "did you mean '--n-hidden'?"),
        (["train.py", "--bs", "3"], "did you mean '--batch-size'?"),
        (["train.py", "--seq-len", "3"], "did you mean '--block-size'?"),
        (["translate.py", "train", "--batch", "3"], "did you mean '--batch-tokens'?"),
        (["translate.py", "run", "x", "--num-beams", "3"], "did you mean '--beams'?"),
        (["classify.py", "train", "--num-epochs", "3"], "did you mean '--epochs'?"),
        (["classify.py", "train", "--hidden-size", "3"], "did you mean '--hidden'?"),
        (["generate.py", "x", "--max-new-tokens", "3"], "did you mean '--tokens'?"),
        (["score.py", "x", "--dtype", "bfloat16"], "did you mean '--precision'?"),
        (["explain.py", "report", "x", "--output", "y"], "did you mean '--out'?"),
        (["compare_gradients.py", "--json", "x"], "did you mean '--json-out'?"),
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


def test_no_name_of_another_program_is_listed_twice() -> None:
    with mock.patch.object(sys, "path", [str(SCRIPTS), *sys.path]):
        from support.option_names import CALLED
    names = [name for called in CALLED.values() for name in called.split()]
    assert sorted(names) == sorted(set(names))
    assert all(name == name.lower() and "_" not in name for name in [*names, *" ".join(CALLED).split()])


# ---------------------------------------------------------------- before the data are read


@pytest.mark.parametrize(
    ("command", "message"),
    [
        (["train.py", "--n-embd", 30], "the width n_embd 30 is not divisible by n_head 4"),
        (["train.py", "--model", "llama", "--n-kv-head", 3], "n_head 4 is not divisible by n_kv_head 3"),
        (["train.py", "--model", "transformer", "--n-embd", 30], "30"),
        (["train.py", "--model", "lstm", "--n-embd", 0], "n_embd is 0: expected at least 1"),
        (["train.py", "--model", "ngram", "--order", 0], "order is 0: expected 1 to 9"),
        (["train.py", "--warmup", 3000], "--warmup: warmup 3000 is out of range: expected 0 to the schedule's 2000 steps"),
        (["train.py", "--schedule-steps", 50, "--warmup", 100], "warmup 100 is out of range: expected 0 to the schedule's 50 steps"),
        (["train.py", "--seed", -1], "seed -1 is out of range"),
        (["train.py", "--beta1", 1], "betas (1.0, 0.99): expected two numbers from 0 up to, not including, 1"),
        (["train.py", "--model", "ngram", "--scaling"], "--scaling and --model ngram do not go together"),
        (["translate.py", "train", "--n-head", 3], "3"),
        (["translate.py", "compare", "--models", "transformer", "--n-head", 3], "3"),
        (["classify.py", "train", "--split", 5], "split 5: expected 0 to 4"),
        (["classify.py", "train", "--width", 0], "width is 0: expected at least 1"),
        (["classify.py", "train", "--model", "transformer", "--width", 6], "6"),
        (["train.py", "--out", "taken"], "taken holds a run already: continue it with --resume, or choose another --out"),
        (["translate.py", "train", "--out", "taken"], "taken holds a run already"),
        (["classify.py", "train", "--out", "taken"], "taken holds a run already"),
    ],
)
def test_bad_settings_are_refused_before_the_data_are_read(
    command: list[object], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The data do not exist, and nothing says so."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "taken" / "checkpoints").mkdir(parents=True)
    (tmp_path / "taken" / "checkpoints" / "step-00000001.safetensors").touch()
    (tmp_path / "taken" / "config.json").write_text("{}", encoding="utf-8")
    name, *arguments = command
    result = script_here(str(name), *arguments, "--data", "never.txt")
    fails_with_one_line(result, message)
    assert "never" not in result.stderr


# ---------------------------------------------------------------- a short schedule


@pytest.mark.parametrize(
    ("options", "warmup"),
    [
        ([], 100),
        (["--schedule-steps", 100], 100),
        (["--schedule-steps", 99], 9),
        (["--schedule-steps=50"], 5),
        (["--schedule-steps", 5], 0),
    ],
)
def test_a_warmup_longer_than_the_schedule_shrinks_with_it(options: list[object], warmup: int, tmp_path: Path) -> None:
    """Unless it is given, which is an error above. A resume finds the warmup that the run has."""
    (tmp_path / "text.txt").write_text(TEXT)
    shape = ["--n-layer", 1, "--n-embd", 8, "--n-head", 2, "--block-size", 8, "--steps", 1]
    shown = ends_well(script_here("train.py", "--data", tmp_path / "text.txt", "--out", tmp_path / "run", *shape, *options))
    said = f"a warmup of {warmup} steps instead of 100, since the schedule has "
    assert (said in shown) is (warmup < 100)
    record = json.loads((tmp_path / "run" / "config.json").read_text())["train"]
    assert record["warmup"] == warmup
    assert "a warmup of" not in ends_well(script_here("train.py", "--resume", tmp_path / "run", "--steps", 2))
