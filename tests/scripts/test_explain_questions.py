"""scripts/explain.py lens, ablate and patch as a user runs them."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from explain_runs import PNG, SENTENCE, TEXT, language_models, rows
from script_helpers import ends_well, fails_with_one_line, script_here

from tinylm import explain
from tinylm.explain.questions.asked_texts import asked
from tinylm.explain.reading import Reading, read_run

OTHER = "the lazy fox"


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return language_models(tmp_path_factory.mktemp("runs"))


def question(run: Path, text: str = SENTENCE) -> tuple[Reading, dict[str, Any]]:
    read = read_run(run, text)
    return read, asked(read)


def record_of(*arguments: object) -> Any:
    return json.loads(ends_well(script_here("explain.py", *arguments, "--json")))


def test_the_lens(runs: dict[str, Path], tmp_path: Path) -> None:
    picture = tmp_path / "lens.png"
    shown = rows("lens", runs["gpt"], SENTENCE, "--out", picture)
    read, ids = question(runs["gpt"])
    found = explain.lens(read.model, **ids, texts=read.token_text)
    assert shown[0] == ["reads", "embed", "h.0", "h.1", "decided", "at", "right", "loss", "rank"]
    for t in range(11):
        assert shown[t + 1][0] == str(t)
        assert shown[t + 1][-2:] == [f"{found.loss[-1, t]:.2f}", str(found.rank[-1, t])]
    assert [cells[0] for cells in shown[-4:-1]] == ["embed", "h.0", "h.1"]
    assert [cells[1] for cells in shown[-4:-1]] == [str((found.decided == i).sum()) for i in range(3)]
    assert shown[-1] == ["written:", str(picture)]
    assert picture.read_bytes().startswith(PNG)
    one = rows("lens", runs["lstm"], SENTENCE, "--position", 3)
    assert [cells[0] for cells in one[:3]] == ["layer", "rnn.0", "rnn.1"]
    assert (runs["lstm"] / "lens.png").read_bytes().startswith(PNG)
    record = record_of("lens", runs["gpt"], SENTENCE, "--out", picture)
    assert [position["reads"] for position in record["positions"]] == list(SENTENCE)
    assert record["positions"][4]["layers"][2]["loss"] == pytest.approx(found.loss[2, 4], rel=1e-5)


def test_ablation(runs: dict[str, Path], tmp_path: Path) -> None:
    shown = rows("ablate", runs["gpt"], SENTENCE)
    read, ids = question(runs["gpt"])
    found = explain.ablate(read.model, **ids)
    assert shown[0][:5] == ["loss", f"{found.loss:.4f}", "nats", "per", "token;"]
    assert shown[2] == ["layer", "head", "0", "head", "1", "MLP", "layer"]
    assert [cells[0] for cells in shown[3:5]] == ["h.0", "h.1"]
    assert shown[5] == ["written:", str(runs["gpt"] / "ablate.png")]
    (tmp_path / "reference.txt").write_text(TEXT, encoding="utf-8")
    arguments = "ablate", runs["gpt"], SENTENCE, "--by", "mean", "--reference", tmp_path / "reference.txt", "--out", tmp_path / "a.png"
    record = record_of(*arguments)
    pieces = [read.tokenizer.encode(TEXT[i : i + 12]) for i in range(0, 12 * 32, 12)]  # type: ignore[attr-defined]
    mean = explain.ablate(read.model, **ids, by="mean", reference=pieces)
    assert [part["change"] for part in record["parts"]] == pytest.approx(mean.change.ravel().tolist(), rel=1e-3, abs=1e-5)
    assert record["loss"] == pytest.approx(found.loss, rel=1e-5)
    units = rows("ablate", runs["lstm"], SENTENCE, "--by", "resample", "--draws", 2, "--seed", 3)
    assert [cells[0] for cells in units[3:5]] in (["rnn.0", "rnn.1"], ["rnn.1", "rnn.0"])
    assert units[5][1] == "unit"
    assert (runs["lstm"] / "ablate.png").read_bytes().startswith(PNG)


def test_patching(runs: dict[str, Path], tmp_path: Path) -> None:
    picture = tmp_path / "patch.png"
    shown = rows("patch", runs["gpt"], SENTENCE, OTHER, "--answer", "z", "--metric", "log-probability", "--out", picture)
    read, ids = question(runs["gpt"])
    other, answer = read.tokenizer.encode(OTHER), read.token_id("z")  # type: ignore[attr-defined]
    found = explain.patch(read.model, **ids, other=other, answer=answer, metric="log-probability")
    assert " ".join(shown[0]) == f"log-probability of 'z': {found.in_text:.3f} for the text, {found.in_other:.3f} for the other one"
    assert shown[2] == ["token", "embed", "h.0", "h.1"]
    assert shown[3 + 9][1:4] == ["'f'", "→", "'d'"]
    assert shown[3 + 9][4] == f"{found.recovery[0, 9]:.2f}"
    np.testing.assert_allclose(found.recovery[:, :9], 0, atol=1e-4)
    assert picture.read_bytes().startswith(PNG)
    record = record_of("patch", runs["lstm"], SENTENCE, OTHER)
    assert record["rows"] == ["rnn.0", "rnn.1"]
    assert record["recovery"][1][11] == pytest.approx(1, rel=1e-3)
    heads = rows("patch", runs["gpt"], SENTENCE, OTHER, "--what", "heads")
    assert heads[2] == ["layer", "head", "0", "head", "1"]


def test_dry_runs_write_nothing(runs: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    before = {path: path.stat().st_mtime_ns for run in runs.values() for path in run.rglob("*")}
    long = TEXT[:40]
    assert rows("lens", runs["gpt"], long, "--dry-run")[20][0] == "19"
    assert rows("ablate", runs["gpt"], long, "--dry-run")[-1][0] == "h.1"
    late = long[:20] + "xy"  # the same as the text so far: both are read to their ends
    assert rows("patch", runs["gpt"], long[:22], late, "--dry-run")[-1][0] == "21"
    assert list(tmp_path.iterdir()) == []
    assert {path: path.stat().st_mtime_ns for run in runs.values() for path in run.rglob("*")} == before


def test_help() -> None:
    for command, flags in {
        "lens": ("--position",),
        "ablate": ("--by", "--reference", "--draws", "--seed"),
        "patch": ("OTHER", "--what", "--answer", "--metric"),
    }.items():
        shown = ends_well(script_here("explain.py", command, "--help"))
        for flag in (*flags, "--dry-run", "--json", "--out"):
            assert flag in shown


def test_invalid_arguments(runs: dict[str, Path], tmp_path: Path) -> None:
    def fails(message: str, *arguments: object) -> None:
        fails_with_one_line(script_here("explain.py", *arguments), message)

    gpt, lstm = runs["gpt"], runs["lstm"]
    fails("position is 12: expected 0 to 11", "lens", gpt, SENTENCE, "--position", 12)
    fails("an n-gram model counts", "lens", runs["ngram"], SENTENCE)
    fails("--by", "ablate", gpt, SENTENCE, "--by", "noise")
    fails("--reference is given, but --by is zero", "ablate", gpt, SENTENCE, "--reference", tmp_path / "r.txt")
    fails("r.txt", "ablate", gpt, SENTENCE, "--by", "mean", "--reference", tmp_path / "r.txt")
    (tmp_path / "short.txt").write_text("the dog", encoding="utf-8")
    fails(
        "the reference has 7 tokens: expected at least 12", "ablate", gpt, SENTENCE, "--by", "mean", "--reference", tmp_path / "short.txt"
    )
    (tmp_path / "r.txt").write_text("the d&g", encoding="utf-8")
    fails("r.txt: unknown character '&' at position 5", "ablate", gpt, SENTENCE, "--by", "mean", "--reference", tmp_path / "r.txt")
    fails("seed is -1: expected", "ablate", gpt, SENTENCE, "--by", "resample", "--seed", -1)
    fails("the other text is empty", "patch", gpt, SENTENCE, "")
    fails("--label is given, but patch measures", "patch", gpt, SENTENCE, OTHER, "--label", "good")
    fails("draws is 0", "ablate", gpt, SENTENCE, "--by", "resample", "--draws", 0)
    fails("the text has 12 tokens and the other 7: expected the same number", "patch", gpt, SENTENCE, "the dog")
    fails("there is no difference to recover", "patch", gpt, SENTENCE, SENTENCE)
    fails("RNNModel has no heads to patch", "patch", lstm, SENTENCE, OTHER, "--what", "heads")
    fails("the token 'dog' is 3 tokens: expected one", "patch", gpt, SENTENCE, OTHER, "--answer", "dog")
    fails("unknown character '&'", "patch", gpt, SENTENCE, "the lazy & x")
