"""scripts/long_range.py as a user runs it."""

import dataclasses
import json
import math
from pathlib import Path

import numpy as np
import pytest
from script_helpers import Result, fails_with_one_line, script, script_here

from tinylm.data import split_text
from tinylm.data.copy_task import CopyTask
from tinylm.decode import token_log_probabilities
from tinylm.decode.context import sample_positions
from tinylm.files.json_files import write_json
from tinylm.studies.copying import COPIERS, copier_config, new_copier, recall, train_copier
from tinylm.studies.state_gradients import jacobian_norms, theory
from tinylm.train import Counting, Run, default_config, load_run

TEXT = "the quick brown fox jumps over the lazy dog.\nwhat does not fit, is it the dog?\n" * 20
PNG = b"\x89PNG\r\n\x1a\n"


def trained(folder: Path, model: str, text: Path, **changes: object) -> Path:
    settings = {
        "n_layer": 1, "n_embd": 16, "block_size": 8, "batch_size": 8, "order": 3,
        "steps": 10, "schedule_steps": 10, "warmup": 2, "lr": 1e-2,
    }  # fmt: skip
    config = dataclasses.replace(default_config(model), data=str(text), **(settings | changes))  # type: ignore[arg-type]
    (Counting if model == "ngram" else Run)(config, folder, text.read_text(encoding="utf-8")).train()
    return folder


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    parent = tmp_path_factory.mktemp("runs")
    text = parent / "text.txt"
    text.write_text(TEXT, encoding="utf-8")
    return {model: trained(parent / model, model, text) for model in ("ngram", "gru", "gpt")}


def rows(result: Result) -> list[list[str]]:
    assert result.returncode == 0, result.stdout + result.stderr
    return [line.split() for line in result.stdout.splitlines()]


# ---------------------------------------------------------------- context


def test_the_table_and_the_files_are_the_librarys_figures(runs: dict[str, Path], tmp_path: Path) -> None:
    """Each cell equals windows scored one by one; '-' where a Transformer's block ends."""
    folders = list(runs.values())
    shown = rows(
        script_here("long_range.py", "context", *folders, "--contexts", 1, 8, 20, "--positions", 30, "--seed", 4, "--out", tmp_path)
    )
    record = json.loads((tmp_path / "context.json").read_text(encoding="utf-8"))
    table = {cells[0]: cells[1:] for cells in shown if cells[:1] in (["1"], ["8"], ["20"])}
    _, tokenizer, _ = load_run(folders[0])
    ids = tokenizer.encode(split_text(TEXT)[1])
    positions = sample_positions(len(ids), 20, 30, seed=4)
    assert record["positions"] == positions.tolist()
    for column, folder in enumerate(folders):
        model, _, _ = load_run(folder)
        found = record["runs"][str(folder)]
        assert found["contexts"] == ([1, 8] if folder.name == "gpt" else [1, 8, 20])
        for i, c in enumerate(found["contexts"]):
            losses = [-token_log_probabilities(model, ids[t - c : t + 1])[-1] for t in positions]
            assert found["loss"][i] == pytest.approx(np.mean(losses), rel=1e-5)
            assert found["standard_error"][i] == pytest.approx(np.std(losses, ddof=1) / math.sqrt(30), rel=1e-4)
            cells = table[str(c)][3 * column : 3 * column + 3]
            assert cells == [f"{found['loss'][i]:.4f}", "±", f"{found['standard_error'][i]:.4f}"]
    assert table["20"][-1] == "-"
    assert (tmp_path / "context.png").read_bytes().startswith(PNG)
    assert ["nats/token,", "mean", "±", "standard", "error", "of", "the", "same", "30", "validation", "tokens"] in shown


def test_where_context_beyond_the_ngrams_helps(runs: dict[str, Path], tmp_path: Path) -> None:
    """The five examples are the positions with the largest gains over the n-gram model and over the same model with the n-gram's
    context, found here by scoring each alone; the text around each, and its three probabilities, are those of the position."""
    arguments = ("--contexts", 1, 8, 20, "--positions", 40, "--seed", 4, "--out", tmp_path)
    result = script_here("long_range.py", "context", runs["gru"], runs["ngram"], runs["gpt"], *arguments)
    shown = rows(result)
    record = json.loads((tmp_path / "context.json").read_text(encoding="utf-8"))
    assert (record["ngram"], record["ngram_window"]) == (str(runs["ngram"]), 2)
    assert list(record["beyond"]) == [str(runs["gru"]), str(runs["gpt"])]
    text = split_text(TEXT)[1]
    counts = load_run(runs["ngram"])[0]
    for name, found in record["beyond"].items():
        model, tokenizer, _ = load_run(Path(name))
        ids = tokenizer.encode(text)
        longest = found["tokens_given"]
        assert longest == (8 if name.endswith("gpt") else 20)

        def p(model: object, t: int, given: int, ids: np.ndarray = ids) -> float:
            return float(np.exp(token_log_probabilities(model, ids[t - given : t + 1])[-1]))  # type: ignore[arg-type]

        gains = {t: math.log(p(model, t, longest) / p(model, t, 2)) for t in record["positions"]}
        chosen = [one["position"] for one in found["examples"]]
        over_both = {t: min(g, math.log(p(model, t, longest) / p(counts, t, 2))) for t, g in gains.items()}
        assert chosen == sorted(over_both, key=lambda t: -over_both[t])[:5]
        assert (found["better"], found["worse"]) == (sum(g > 0.1 for g in gains.values()), sum(g < -0.1 for g in gains.values()))
        assert found["mean_gain"] == pytest.approx(np.mean(list(gains.values())), rel=1e-4, abs=1e-6)
        assert found["largest_harm"] == pytest.approx(-min(gains.values()), rel=1e-4)
        for one in found["examples"]:
            t = one["position"]
            assert (one["before"], one["window"], one["next"]) == (text[t - longest : t - 2], text[t - 2 : t], text[t])
            expected = p(counts, t, 2), p(model, t, 2), p(model, t, longest)
            assert (one["p_ngram"], one["p_window"], one["p_full"]) == pytest.approx(expected, rel=1e-4)
    best = min((str(runs["gru"]), str(runs["gpt"])), key=lambda name: record["runs"][name]["loss"][-1])
    assert f"where context beyond 2 tokens helps {best} most" in result.stdout
    first = record["beyond"][best]["examples"][0]
    assert any(cells[:1] == [str(first["position"])] and cells[-1] == f"{first['p_full']:.4f}" for cells in shown)


def test_examples_need_an_ngram_model_and_a_longer_context(runs: dict[str, Path], tmp_path: Path) -> None:
    for folders in ([runs["gru"]], [runs["ngram"]], [runs["ngram"], runs["gru"]]):
        result = script_here("long_range.py", "context", *folders, "--contexts", 1, 2, "--positions", 5, "--out", tmp_path)
        assert "beyond" not in result.stdout
        assert "beyond" not in json.loads((tmp_path / "context.json").read_text(encoding="utf-8"))


def test_a_block_too_short_for_every_context(runs: dict[str, Path], tmp_path: Path) -> None:
    shown = rows(script_here("long_range.py", "context", runs["gpt"], "--contexts", 9, 10, "--out", tmp_path))
    assert [cells for cells in shown if cells[-1] == "-"] == [["9", "-"], ["10", "-"]]
    assert (tmp_path / "context.png").exists()


def test_runs_that_do_not_fit(runs: dict[str, Path], tmp_path: Path) -> None:
    def fails(message: str, *arguments: object) -> None:
        fails_with_one_line(script_here("long_range.py", "context", *arguments, "--out", tmp_path / "never"), message)

    fails("no run folder", tmp_path / "none")
    write_json(tmp_path / "translation" / "config.json", {"task": "translation", "train": {}, "vocabulary": {}})
    fails("was trained for another task: translation, expected language modeling", tmp_path / "translation")
    fails("expected more than 256, the longest context", runs["gpt"])
    few = ("--contexts", 1)
    fails("context is 0: expected at least 1", runs["gpt"], "--contexts", 4, 0)
    fails("positions is 1: expected at least 2", runs["gpt"], *few, "--positions", 1)
    fails("seed -1 is out of range", runs["gpt"], *few, "--seed", -1)
    fails("unknown device 'tpu'", runs["gpt"], *few, "--device", "tpu")
    fails("runs: expected at least one", *few)
    fails("Unrecognized options: --magic", runs["gpt"], "--magic")
    other = tmp_path / "other.txt"
    other.write_text(TEXT.replace("quick", "kciuq") + "the", encoding="utf-8")
    fails("do not validate on the same tokens", runs["gpt"], trained(tmp_path / "data", "ngram", other), *few)
    words = trained(tmp_path / "words", "ngram", runs["gpt"].parent / "text.txt", tokenizer="word")
    fails("do not validate on the same tokens", runs["gpt"], words, *few)
    other.unlink()
    fails(f"the data of {tmp_path / 'data'}: no such data", tmp_path / "data", *few)
    assert not (tmp_path / "never").exists()


# ---------------------------------------------------------------- copy


def test_copying_is_tested_and_written(tmp_path: Path) -> None:
    few = ("--gaps", 5, 9, "--steps", 20, "--sequences", 40, "--repeats", 2, "--seed", 3)
    shown = rows(script_here("long_range.py", "copy", "--models", "ngram", "rnn", *few, "--out", tmp_path))
    record = json.loads((tmp_path / "copy.json").read_text(encoding="utf-8"))
    assert record["gaps"] == [5, 9]
    assert list(record["accuracy"]) == ["ngram", "rnn"]
    for name, values in (*record["accuracy"].items(), ("chance", [1 / 8, 1 / 8])):
        assert [name, *(f"{100 * a:.1f}" for a in values)] in [cells[:3] for cells in shown]
    assert record["models"]["rnn"]["steps"] == 20
    assert [(run["model"], run["seed"]) for run in record["runs"]] == [("ngram", 3), ("ngram", 4), ("rnn", 3), ("rnn", 4)]
    for name in ("ngram", "rnn"):
        seeds = np.array([run["accuracy"] for run in record["runs"] if run["model"] == name])
        assert record["accuracy"][name] == pytest.approx(seeds.mean(axis=0))
        assert [f"{100 * low:.1f}-{100 * high:.1f}" for low, high in zip(seeds.min(axis=0), seeds.max(axis=0), strict=True)] in shown
    assert (tmp_path / "copy.png").read_bytes().startswith(PNG)


def test_one_seed_is_what_the_library_says(tmp_path: Path) -> None:
    """Without the curriculum too: then training begins with the longest gaps."""
    for options, reached in (((), 1), (("--no-curriculum",), 9)):
        few = ("--gaps", 5, 9, "--steps", 2, "--sequences", 40, "--repeats", 1, "--seed", 3, *options)
        shown = rows(script_here("long_range.py", "copy", "--models", "rnn-relu-identity", *few, "--out", tmp_path))
        record = json.loads((tmp_path / "copy.json").read_text(encoding="utf-8"))
        task = CopyTask()
        config = copier_config("rnn-relu-identity", task, 9, 2, 3)
        model = train_copier(task, config, 9, start="identity", gradual=not options)
        assert record["runs"] == [
            {"model": "rnn-relu-identity", "seed": 3, "accuracy": [recall(model, task, gap, 40, 3) for gap in (5, 9)],
             "trained_to_gap": reached}
        ]  # fmt: skip
        assert record["models"]["rnn-relu-identity"]["start"] == "identity"
        assert record["curriculum"] is not bool(options)
        assert [cells for cells in shown if "-" in cells[0]] == [
            ["rnn-relu-identity", *(f"{100 * a:.1f}" for a in record["runs"][0]["accuracy"]), str(reached)]
        ]


def test_bad_settings_of_copying(tmp_path: Path) -> None:
    for arguments, message in [
        (["--models", "ngram", "oracle"], "model 'oracle': expected one of ngram, rnn, rnn-tanh-identity, "),
        (["--gaps", 5, 0], "gap is 0: expected at least 1"),
        (["--gaps"], "gaps: expected at least one"),
        (["--steps", 0], "steps is 0: expected at least 1"),
        (["--sequences", 0], "sequences is 0: expected at least 1"),
        (["--repeats", 0], "repeats is 0: expected at least 1"),
        (["--seed", 2**64 - 2], f"seed {2**64} is out of range"),
        (["--seed", -1], "seed -1 is out of range"),
    ]:
        fails_with_one_line(script_here("long_range.py", "copy", *arguments, "--out", tmp_path / "never"), message)
    fails_with_one_line(script_here("long_range.py", "paste"), "command 'paste': expected 'copy', 'gradients' or 'context'")
    assert not (tmp_path / "never").exists()


# ---------------------------------------------------------------- gradients


def test_gradients_before_and_after_training(tmp_path: Path) -> None:
    """The printed norms are the library's, of the untrained and of the trained model; 'before' and 'after' are not exchanged."""
    names = ("rnn-tanh-orthogonal", "gpt")
    few = ("--distances", 1, 6, "--steps", 3, "--sequences", 2, "--seed", 5)
    shown = rows(script_here("long_range.py", "gradients", "--models", *names, *few, "--out", tmp_path))
    record = json.loads((tmp_path / "gradients.json").read_text(encoding="utf-8"))
    assert list(record["norms"]) == list(names)
    task, texts = CopyTask(), np.array(record["sequences"])
    assert texts.shape == (2, task.payload + 6 + 1)
    assert (texts[:, -1] == task.marker).all()
    for name in names:
        config = copier_config(name, task, 6, 3, 5)
        start = COPIERS[name].start
        for when, model in (("before", new_copier(task, config, start)), ("after", train_copier(task, config, 6, start=start))):
            found = record["norms"][name][when]
            norms = [jacobian_norms(model.to(dtype="float64"), text) for text in texts]  # type: ignore[union-attr]
            assert found["norm"] == pytest.approx(np.sqrt(np.mean(np.square(norms), axis=0)), rel=1e-10)
            bound = theory(model)  # type: ignore[arg-type]
            last = ["-", "-"] if bound is None else [f"{bound.bound:.3g}", f"{bound.radius:.3g}"]
            assert [when, f"{found['norm'][1]:.2g}", f"{found['norm'][6]:.2g}", *last] in [cells[-5:] for cells in shown]
        assert record["norms"][name]["before"] != record["norms"][name]["after"]
    assert record["norms"]["rnn-tanh-orthogonal"]["before"]["bound"] == pytest.approx(1, rel=1e-5)
    assert (tmp_path / "gradients.png").read_bytes().startswith(PNG)


def test_bad_settings_of_gradients(tmp_path: Path) -> None:
    for arguments, message in [
        (["--models", "oracle"], "model 'oracle': expected one of ngram, rnn"),
        (["--models", "ngram"], "model 'ngram' has no gradients"),
        (["--models"], "models: expected at least one"),
        (["--distances"], "distances: expected at least one"),
        (["--distances", 5, 0], "distance is 0: expected at least 1"),
        (["--sequences", 0], "sequences is 0: expected at least 1"),
        (["--steps", 0], "steps is 0: expected at least 1"),
        (["--seed", -1], "seed -1 is out of range"),
    ]:
        fails_with_one_line(script_here("long_range.py", "gradients", *arguments, "--out", tmp_path / "never"), message)
    assert not (tmp_path / "never").exists()


# ---------------------------------------------------------------- all


def test_dry_runs_write_nothing(runs: dict[str, Path], tmp_path: Path) -> None:
    shown = rows(script("long_range.py", "copy", "--dry-run", cwd=tmp_path))
    assert [cells[0] for cells in shown[1:]] == [*COPIERS, "chance"]
    shown = rows(script_here("long_range.py", "gradients", "--models", "rnn", "lstm", "--dry-run", "--out", tmp_path))
    assert [cells[0] for cells in shown[1:5]] == ["rnn", "after", "lstm", "after"]
    shown = rows(script_here("long_range.py", "context", runs["gru"], "--contexts", 1, 4, "--dry-run", "--out", tmp_path))
    assert "10" in shown[-1]
    assert list(tmp_path.iterdir()) == []


def test_help() -> None:
    for arguments in ((), ("--help",)):
        result = script_here("long_range.py", *arguments)
        assert result.returncode == 0
        assert "usage: python scripts/long_range.py copy" in result.stdout
    for command, flags in (
        ("copy", ("--gaps", "--steps")),
        ("gradients", ("--distances", "--steps")),
        ("context", ("--positions", "--contexts")),
    ):
        result = script_here("long_range.py", command, "--help")
        assert result.returncode == 0
        for flag in (*flags, "--out", "--dry-run"):
            assert flag in result.stdout
