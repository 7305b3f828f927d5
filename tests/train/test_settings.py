"""The settings of runs: what they take and refuse, what binds new runs only, and folders given as text."""

import dataclasses
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from small_runs import TEXT, small

from tinylm.errors import CheckpointError, ConfigError
from tinylm.train import Counting, Run, TrainConfig, default_config, load_run
from tinylm.train.tasks.classifier_config import ClassifierConfig
from tinylm.train.tasks.loading import read_config
from tinylm.train.tasks.settings import LoopSettings, Settings
from tinylm.train.tasks.translation_config import TranslationConfig

CONFIGS = [TrainConfig, TranslationConfig, ClassifierConfig, LoopSettings]
MAY_BE_INFINITE = {"clip", "save_minutes", "rope_theta"}
UNFIT: dict[Any, list[Any]] = {
    int: [math.nan, math.inf, 1.5, 2.0, "3", True, None, [3], np.float32(2), 1j],
    float: [math.nan, -math.inf, "0.1", True, None, [0.1], np.array([0.1]), 1j],
    bool: [2, "no", None, math.nan, [True]],
    str: [1, None, b"gpt"],
}


def fields(of: type[Settings], *kinds: Any) -> list[Any]:
    return [f for f in dataclasses.fields(of) if f.type in kinds]


@pytest.mark.parametrize("of", CONFIGS)
def test_values_of_another_type_are_refused_by_every_setting(of: type[Settings]) -> None:
    assert len(fields(of, int, float)) > 10
    for field in fields(of, int, float, bool, str):
        infinite = [math.inf] if field.type is float and field.name not in MAY_BE_INFINITE else []
        for value in UNFIT[field.type] + infinite:
            with pytest.raises(ConfigError) as caught:
                of(**{field.name: value})
            assert field.name in str(caught.value), (field.name, value)
            assert len(str(caught.value)) < 300


@pytest.mark.parametrize("of", CONFIGS)
def test_numpys_numbers_become_pythons(of: type[Settings]) -> None:
    plain = vars(of())
    numbers = {f.name: (np.int64 if f.type is int else np.float64)(plain[f.name]) for f in fields(of, int, float)}
    made = of(**numbers, **{f.name: np.bool_(plain[f.name]) for f in fields(of, bool)})
    assert made == of()
    assert {name: type(value) for name, value in vars(made).items()} == {name: type(value) for name, value in plain.items()}
    json.dumps(made.to_json())


@pytest.mark.parametrize(
    ("of", "settings", "message"),
    [
        (TrainConfig, {"model": "gtp"}, r"^model 'gtp': expected one of gpt, .*, ngram; did you mean 'gpt'\?$"),
        (TrainConfig, {"tokenizer": "chr"}, r"^tokenizer 'chr': expected one of char, word, whitespace, bpe; did you mean 'char'\?$"),
        (TrainConfig, {"nonlinearity": 3}, "^nonlinearity 3: expected one of tanh, relu, sigmoid$"),
        (TranslationConfig, {"optimizer": "moun"}, r"did you mean 'muon'\?$"),
        (ClassifierConfig, {"model": "bags"}, r"did you mean 'bag'\?$"),
        *[(of, {name: -1e-9}, f"^{name} is -1e-09: expected at least 0$") for of in CONFIGS for name in ("lr", "weight_decay")],
        (TrainConfig, {"dropout": 1.5}, r"^dropout probability 1\.5 is out of range"),
        (TrainConfig, {"input_dropout": -0.5}, r"^input_dropout -0\.5 is out of range"),
        (ClassifierConfig, {"word_dropout": 2}, "^word_dropout 2"),
        (TranslationConfig, {"label_smoothing": 1}, "^label_smoothing is 1"),
        (TrainConfig, {"clip": 0}, "^clip is 0"),
        (TrainConfig, {"ema": 1}, "^ema is 1"),
        (TrainConfig, {"save_every": 0}, "^save_every is 0: expected at least 1$"),
        (TrainConfig, {"patience": -1}, "^patience is -1"),
        (TrainConfig, {"accumulate": 13}, "^accumulate is 13: expected 1 to batch_size 12"),
    ],
)
def test_ranges_and_choices(of: type[Settings], settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        of(**settings)


def test_what_was_allowed_stays_allowed() -> None:
    assert all((made := of(lr=0, weight_decay=0)).lr == made.weight_decay == 0 for of in (TrainConfig, TranslationConfig, ClassifierConfig))
    assert TrainConfig(clip=math.inf, save_minutes=math.inf).clip == math.inf
    assert TrainConfig(data=Path("x.txt")).data == "x.txt"  # type: ignore[arg-type]
    assert TrainConfig(lr=1, clip=2) == TrainConfig(lr=1.0, clip=2.0)


# ---------------------------------------------------------------- the learning rate at the end


@pytest.mark.parametrize(("of", "usual"), [(TrainConfig, 1e-4), (TranslationConfig, 1e-5), (LoopSettings, 1e-4)])
def test_without_a_min_lr_it_is_at_most_a_tenth_of_lr(of: Any, usual: float) -> None:
    assert of().min_lr == usual
    assert type(of().min_lr) is float
    assert of(lr=1e-2).min_lr == usual
    assert of(lr=5e-5).min_lr == 5e-5 / 10
    assert of(lr=0).min_lr == 0
    assert of(lr=1e-5, min_lr=1e-4).min_lr == 1e-4  # given: nothing is changed, but see below


def test_a_min_lr_above_lr_is_for_old_runs_only(tmp_path: Path) -> None:
    rising = small("gpt", lr=1e-4, min_lr=1e-3, steps=2, schedule_steps=4)
    with pytest.raises(ConfigError, match=r"^min_lr is 0\.001: expected at most lr, 0\.0001"):
        Run(rising, tmp_path / "run", TEXT)
    assert not (tmp_path / "run").exists()
    Run(dataclasses.replace(rising, min_lr=1e-4), tmp_path / "run", TEXT).train()
    record = json.loads((tmp_path / "run" / "config.json").read_text())
    record["train"]["min_lr"] = 1e-3  # as a run of an earlier version has it
    (tmp_path / "run" / "config.json").write_text(json.dumps(record))
    config, tokenizer = read_config(tmp_path / "run", TrainConfig)
    assert config.min_lr == 1e-3
    load_run(tmp_path / "run")
    run = Run(dataclasses.replace(config, steps=4), tmp_path / "run", TEXT, tokenizer, resume=True)
    assert run.train() is not None
    assert run.task.optimizer.param_groups[0]["lr"] == pytest.approx(run.task.schedule(3))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"n_layer": 0}, "n_layer is 0"),
        ({"lora_alpha": 0.0}, r"lora_alpha is 0\.0: expected more than 0"),
        ({"lora_rank": -1}, "lora_rank is -1"),
        ({"rope_theta": math.inf}, "rope_theta is inf"),
        ({"min_count": -1}, "min_count is -1"),
        ({"tokenizer": "bpe", "bpe_size": 64}, "bpe_size is 64: expected at least 256"),
        ({"beta1": math.nextafter(1, 2)}, "betas"),
        ({"warmup": -1}, "warmup -1 is out of range"),
        ({"seed": -1}, "seed -1 is out of range"),
    ],
)
def test_what_new_runs_refuse_before_they_write_anything(settings: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=message):
        Run(small("gpt", **settings), tmp_path / "run", TEXT)
    assert not (tmp_path / "run").exists()


def test_small_pieces_of_a_model_that_has_its_own_tokenizer() -> None:
    """The tokenizer is that of `init`: bpe_size is not read."""
    TrainConfig(init="somewhere", tokenizer="bpe", bpe_size=1).check_new()
    with pytest.raises(ConfigError, match="bpe_size is 64"):
        TranslationConfig(bpe_size=64).check_new()


def test_an_ngram_model_checks_its_settings_too(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="bpe_size is 1"):
        Counting(dataclasses.replace(default_config("ngram"), tokenizer="bpe", bpe_size=1), tmp_path / "run", TEXT)
    assert not (tmp_path / "run").exists()


# ---------------------------------------------------------------- folders


def test_a_folder_may_be_text(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    summary = Run(small("gpt", steps=2), "run", TEXT).train()
    assert summary is not None
    assert {path.name for path in (tmp_path / "run").iterdir()} >= {"config.json", "metrics.jsonl", "summary.json", "model.safetensors"}
    _, tokenizer, config = load_run("run")
    assert config is not None
    assert config.steps == 2
    assert Run(dataclasses.replace(config, steps=3), "run", TEXT, tokenizer, resume=True).train() is not None
    Counting(dataclasses.replace(default_config("ngram"), order=2), "counted", TEXT).train()
    assert load_run("counted")[0].vocab_size == tokenizer.vocab_size
    (tmp_path / "file").touch()
    for name in ("nowhere", "file"):
        with pytest.raises(CheckpointError, match=f"no run folder '{name}'"):
            load_run(name)


# ---------------------------------------------------------------- where data come from


def test_one_source_is_text_and_several_are_a_tuple() -> None:
    for given, expected in [
        ("a", "a"), (Path("a"), "a"), (["a"], "a"), (("a", Path("b/c")), ("a", "b/c")), (["a", "b"], ("a", "b")),
    ]:  # fmt: skip
        for of in (TrainConfig, TranslationConfig):
            made = of(data=given)  # type: ignore[arg-type]
            assert made.data == expected
            assert of.from_json(json.loads(json.dumps(made.to_json()))) == made
    for wrong in ([], 3, None, ["a", 3], b"a"):
        with pytest.raises(ConfigError, match=r"^data is .*: expected the name of a corpus, a file or a folder, or several of these$"):
            TrainConfig(data=wrong)  # type: ignore[arg-type]
        record = TrainConfig().to_json() | {"data": wrong}
        with pytest.raises(CheckpointError, match="the run's config does not fit: data is"):
            TrainConfig.from_json(record)


# ---------------------------------------------------------------- the warmup


@pytest.mark.parametrize(("of", "usual", "short"), [(TrainConfig, 100, 9), (TranslationConfig, 200, 9), (LoopSettings, 100, 9)])
def test_without_a_warmup_a_shorter_schedule_has_a_tenth(of: Any, usual: int, short: int) -> None:
    assert of().warmup == of(schedule_steps=usual).warmup == usual
    assert type(of().warmup) is int
    assert of(schedule_steps=99).warmup == short
    assert of(schedule_steps=50, warmup=50).warmup == 50
    with pytest.raises(ConfigError, match="warmup 60 is out of range: expected 0 to the schedule's 50 steps"):
        of(schedule_steps=50, warmup=60).check_new()


def test_the_warmup_of_a_stored_run_stays(tmp_path: Path) -> None:
    """Whatever today's rule would make of it, its learning rates are those that it was begun with."""
    Run(small("gpt", steps=2, schedule_steps=24, warmup=24), tmp_path / "run", TEXT).train()
    config, tokenizer = read_config(tmp_path / "run", TrainConfig)
    assert config.warmup == 24
    run = Run(dataclasses.replace(config, steps=4), tmp_path / "run", TEXT, tokenizer, resume=True)
    run.train()
    assert run.task.optimizer.param_groups[0]["lr"] == pytest.approx(config.lr * 4 / 25)
