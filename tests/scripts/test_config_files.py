"""--config of train, translate train and classify train: settings from TOML and from the config.json of a run."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from script_helpers import ends_well, fails_with_one_line, script_here

OLD = Path(__file__).parents[1] / "old_runs"
TOML = """# a small model
model = "gpt"
n-layer = 1   # as the option is written, too
n_head = 2
n_embd = 16
block_size = 8
batch_size = 4
bias = true
lr = 1e-2
clip = inf
steps = 3
schedule_steps = 30
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Returns the current folder, which has text.txt and settings.toml."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "text.txt").write_text("the quick brown fox jumps over the lazy dog.\n" * 40, encoding="utf-8")
    (tmp_path / "settings.toml").write_text(TOML + 'data = "text.txt"\nout = "run"\n', encoding="utf-8")
    return tmp_path


def settings_of(folder: str) -> dict[str, Any]:
    return json.loads(Path(folder, "config.json").read_text(encoding="utf-8"))["train"]


def test_samples_during_training_are_printed_where_there_is_no_terminal(folder: Path) -> None:
    command = script_here("train.py", "--config", "settings.toml", "--sample-every", "2")
    assert "step 2/3  a sample:\n" in ends_well(command)
    written = [
        record["sample"] for record in map(json.loads, Path("run/metrics.jsonl").read_text("utf-8").splitlines()) if "sample" in record
    ]
    assert len(written) == 1


def test_a_toml_file_and_the_options_that_win_over_it(folder: Path) -> None:
    ends_well(script_here("train.py", "--config", "settings.toml", "--no-bias", "--steps=2", "--n_layer", 2))
    found = settings_of("run")
    expected = {
        "n_layer": 2, "n_head": 2, "n_embd": 16, "bias": False, "lr": 1e-2, "min_lr": 1e-4, "clip": float("inf"), "steps": 2,
        "schedule_steps": 30, "warmup": 3, "data": "text.txt", "seed": 0,
    }  # fmt: skip
    assert {name: found[name] for name in expected} == expected


def test_the_config_of_a_run_makes_the_same_run_again(folder: Path) -> None:
    """From its folder or its config.json; the same bytes."""
    ends_well(script_here("train.py", "--config", "settings.toml"))
    for number, path in enumerate(("run/config.json", "run")):
        ends_well(script_here("train.py", "--config", path, "--out", f"again-{number}"))
        for name in ("config.json", "model.safetensors"):
            assert Path(f"again-{number}", name).read_bytes() == Path("run", name).read_bytes()


def test_a_run_of_an_older_version_keeps_its_old_meaning(folder: Path) -> None:
    """A setting that it lacks is what the runs of its time did, not today's default."""
    shutil.copy(OLD / "text.txt", folder)
    ends_well(script_here("train.py", "--config", OLD / "gpt" / "config.json", "--out", "new", "--steps", 1))
    old = json.loads((OLD / "gpt" / "config.json").read_text(encoding="utf-8"))["train"]
    assert settings_of("new") == {"sample_every": 0, "precision": "float32", "weights": "float32", **settings_of("new"), **old, "steps": 1}


def test_translators_and_classifiers(folder: Path) -> None:
    (folder / "pairs.tsv").write_text("the cat\tel gato\na dog\tun perro\n" * 20, encoding="utf-8")
    small = "n_layer = 1\nn_embd = 16\nn_hidden = 16\nn_head = 2\nbpe_size = 300\nsteps = 1\nschedule_steps = 9\n"
    (folder / "translate.toml").write_text(f'data = "pairs.tsv"\n{small}', encoding="utf-8")
    shown = ends_well(script_here("translate.py", "train", "--config", "translate.toml", "--out", "translator"))
    assert "a warmup of 0 steps instead of 200, since the schedule has 9 (--schedule-steps)" in shown
    assert settings_of("translator")["n_embd"] == 16
    (folder / "labels.tsv").write_text("good\ta fine film\nbad\ta poor film\n" * 20, encoding="utf-8")
    (folder / "classify.toml").write_text('model = "lstm"\ndata = "labels.tsv"\nmembers = 1\nepochs = 1\nwidth = 8', encoding="utf-8")
    ends_well(script_here("classify.py", "train", "--config", "classify.toml", "--out", "classifier", "--hidden", 8))
    found = settings_of("classifier")
    assert (found["model"], found["hidden"], found["width"], found["min_count"]) == ("lstm", 8, 8, 2)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("learning_rate = 1", "line 1: there is no setting 'learning_rate'; did you mean 'lr'?"),
        ("lr = 1e-3\n\nhidden-size = 3\nn_embed = 4", "line 3: there is no setting 'hidden-size'; did you mean 'n_hidden'?"),
        ("lr = 1e-3\n\nhidden-size = 3\nn_embed = 4", "line 4: there is no setting 'n_embed'; did you mean 'n_embd'?"),
        ("xyzzy = 1", "line 1: there is no setting 'xyzzy'"),
        ("lr = 1e-3\nn_layer = '4'", "line 2: n_layer is '4': expected an integer"),
        ("n_layer = 4.0", "line 1: n_layer is 4.0: expected an integer"),
        ("n_layer = true", "line 1: n_layer is True: expected an integer"),
        ("lr = 'small'", "line 1: lr is 'small': expected a number"),
        ("bias = 1", "line 1: bias is 1: expected true or false"),
        ("data = 3", "line 1: data is 3: expected text"),
        ("out = 3", "line 1: out is 3: expected a path"),
        ("model = 'gtp'", "line 1: model is 'gtp': expected one of gpt, llama, transformer, rnn, lstm, gru, ngram; did you mean 'gpt'?"),
        ("steps = 3\nlr = -1", "line 2: lr is -1.0: expected at least 0"),
        ("lr = 1e-4\nmin_lr = 1e-3", "line 2: min_lr is 0.001: expected at most lr, 0.0001"),
        ("warmup = 30\nschedule_steps = 20", "line 1: warmup 30 is out of range: expected 0 to the schedule's 20 steps"),
        ("[train]\nlr = 1", "line 1: [train] is a table: expected settings by themselves, such as lr = 0.001"),
        ("n_layer = 1\nn-layer = 2", "line 2: n_layer is set twice"),
        ("resume = 'runs/x'", "line 1: resume is no setting of a run: give it on the command line"),
        ("lr = ", "settings.toml is not TOML: "),
        ("lr = 1\nlr = 2", "settings.toml is not TOML: "),
    ],
)
def test_what_is_wrong_in_a_file_is_one_line_with_its_place(content: str, message: str, folder: Path) -> None:
    (folder / "settings.toml").write_text(content, encoding="utf-8")
    result = script_here("train.py", "--config", "settings.toml", "--data", "never.txt")
    fails_with_one_line(result, message)
    assert "settings.toml" in result.stderr


def test_an_option_is_not_said_to_stand_in_the_file(folder: Path) -> None:
    result = script_here("train.py", "--config", "settings.toml", "--lr", -1)
    fails_with_one_line(result, "error: --lr: lr is -1.0: expected at least 0")


def test_files_that_are_no_settings(folder: Path) -> None:
    def fails(message: str, *arguments: object) -> None:
        fails_with_one_line(script_here(*arguments), message)

    (folder / "other.json").write_text('{"lr": 1}', encoding="utf-8")
    fails("other.json is not the config.json of a run: it has no record 'train'", "train.py", "--config", "other.json")
    (folder / "broken.json").write_text('{"lr": ', encoding="utf-8")
    fails("broken.json is damaged", "train.py", "--config", "broken.json")
    fails("none.toml", "train.py", "--config", "none.toml")
    classifier = OLD / "lstm-classifier" / "config.json"
    fails("is of a run of another task: classification, expected language modeling", "train.py", "--config", classifier)
    fails("is of a run of another task: language modeling, expected", "translate.py", "train", "--config", OLD / "gpt")
    fails("--config and --resume do not go together", "train.py", "--config", "settings.toml", "--resume", OLD / "gpt")
    run = json.loads(classifier.read_text(encoding="utf-8"))
    run["train"]["epoch"] = 1
    (folder / "config.json").write_text(json.dumps(run, indent=2), encoding="utf-8")
    line = (folder / "config.json").read_text(encoding="utf-8").splitlines().index('    "epoch": 1') + 1
    fails(f"line {line}: there is no setting 'epoch'; did you mean 'epochs'?", "classify.py", "train", "--config", "config.json")
