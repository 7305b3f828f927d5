"""scripts/classify.py as a user runs it."""

import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest
from script_helpers import SCRIPTS, Result, ends_well, fails_with_one_line, script, script_here

from tinylm.files.json_files import write_json

LINES = "pos\tThe food was great\nneg\tThe food was awful\npos\tA fine film\nneg\tA poor film\n" * 30
SHAPE = ["--width", "8", "--hidden", "8", "--buckets", "512", "--epochs", "4", "--members", "2"]


def classify(*arguments: object, stdin: bytes = b"", cwd: Path | None = None) -> Result:
    return script_here("classify.py", *arguments, stdin=stdin, cwd=cwd)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("data") / "own.tsv"
    path.write_text(LINES, encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def run(data: Path) -> Path:
    folder = data.parent / "run"
    shown = ends_well(script("classify.py", "train", "--data", data, "--out", folder, *SHAPE))
    assert "accuracy 100.00 % on the 24 texts of the test part" in shown
    return folder


@pytest.mark.parametrize("kind", ["lstm", "transformer"])
def test_every_model_goes_from_training_to_labels(kind: str, data: Path, tmp_path: Path) -> None:
    result = classify("train", "--model", kind, "--data", data, *SHAPE, "--epochs", 12, cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    folder = tmp_path / "runs" / f"{kind}-own"
    assert json.loads((folder / "config.json").read_text(encoding="utf-8"))["train"]["min_count"] == 2  # the model's own default
    result = classify("run", folder, "A great film", "An awful film")
    assert [line.split("\t")[0] for line in result.stdout.splitlines()] == ["pos", "neg"]


def test_texts_files_and_the_standard_input_give_the_same(run: Path, tmp_path: Path) -> None:
    lines = "The film was great\nÄ poor\tfilm\n"
    path = tmp_path / "texts.txt"
    path.write_text(lines, encoding="utf-8")
    outputs = [
        classify("run", run, *lines.splitlines()).stdout,
        classify("run", run, "--file", path).stdout,
        classify("run", run, stdin=lines.encode("utf-8")).stdout,
    ]
    assert outputs[0] == outputs[1] == outputs[2]
    first, second = outputs[0].splitlines()
    label, probability, text = first.split("\t")
    assert (label, text) == ("pos", "The film was great")
    assert 0.5 <= float(probability) <= 1
    assert second.startswith("neg\t")
    assert second.endswith("\tÄ poor\tfilm")


def test_a_blank_line_gives_a_blank_line(run: Path, tmp_path: Path) -> None:
    lines = "\nThe film was great\n \t\nA poor film\n"
    (tmp_path / "texts.txt").write_text(lines, encoding="utf-8")
    outputs = classify("run", run, "--file", tmp_path / "texts.txt"), classify("run", run, stdin=lines.encode())
    for result in outputs:
        assert [line.split("\t")[0] for line in ends_well(result).splitlines()] == ["", "pos", "", "neg"]
    assert ends_well(classify("run", run, "--file", tmp_path / "texts.txt", "--dry-run")).count("\n") == 2
    fails_with_one_line(classify("run", run, " "), "text 1")


def test_labels_stream(run: Path) -> None:
    """A line is answered before the next one comes, and fifty lines per second are possible."""
    command = [sys.executable, str(SCRIPTS / "classify.py"), "run", str(run)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        for number in range(101):
            if number == 1:
                began = time.monotonic()  # without the start of the process
            process.stdin.write(b"the food was great\n")
            process.stdin.flush()
            assert process.stdout.readline().startswith(b"pos\t")
        assert time.monotonic() - began < 2
        process.stdin.close()
        assert process.wait(timeout=20) == 0


def test_skipped_lines_are_counted_and_reported(tmp_path: Path) -> None:
    path = tmp_path / "own.tsv"
    path.write_text(LINES + "no tab\n", encoding="utf-8")
    result = classify("train", "--data", path, "--out", tmp_path / "run", *SHAPE)
    assert result.returncode == 0
    assert result.stderr == f"1 line of {path} skipped: line 121 has no tab\n"
    assert json.loads((tmp_path / "run" / "summary.json").read_text(encoding="utf-8"))["skipped_lines"] == 1


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty"),
        (b"\xff\xfe\x00", "not UTF-8"),
        (b"no tab\n" * 20, "line 1 has no tab"),
        (LINES.encode() + b"no tab\n" * 2, "2 of the 122 lines"),
        (LINES.encode() + b"pos\t\n" * 2, "line 121 has no text"),
        (LINES.encode() + b"\tfine\n" * 2, "line 121 has no label"),
        (LINES.encode() + b"meh\tfine\n" * 2, "line 121 has the label 'meh', expected 'neg' or 'pos' (a further class needs 3 texts)"),
        (b"1\tfine\n" * 20, "one class only: every line is labelled '1'"),
        (b"1\tfine\n0\tbad\n" * 2, "4 labelled texts: expected at least 10"),
    ],
)
def test_bad_data_is_one_line_and_status_2(content: bytes, message: str, tmp_path: Path) -> None:
    path, out = tmp_path / "bad.tsv", tmp_path / "never"
    path.write_bytes(content)
    fails_with_one_line(classify("train", "--data", path, "--out", out), message)
    assert not out.exists()


def fails_after_an_answer(result: Result, message: str) -> None:
    """As `fails_with_one_line`, when the first text was labelled before."""
    assert result.stdout.count("\n") == 1
    assert result.stdout.endswith("\tfine\n")
    result.stdout = ""
    fails_with_one_line(result, message)


def test_bad_arguments_are_one_line_and_status_2(run: Path, data: Path, tmp_path: Path) -> None:
    out = tmp_path / "never"
    fails_with_one_line(classify("train", "--model", "tree", "--out", out), "model 'tree': expected one of linear, bag, lstm, transformer")
    fails_with_one_line(classify("train", "--data", "nowhere", "--out", out), "no such data: 'nowhere'")
    fails_with_one_line(classify("train", "--data", data, "--split", 5, "--out", out), "split 5: expected 0 to 4")
    fails_with_one_line(classify("train", "--data", data, "--width", 0, "--out", out), "width is 0: expected at least 1")
    fails_with_one_line(classify("train", "--model", "transformer", "--data", data, "--width", 6, "--out", out), "6")
    assert not out.exists()
    fails_with_one_line(classify("train", "--data", data, "--out", run), "holds a run already")
    fails_with_one_line(classify("compare", "--models", "tree"), "model 'tree'")
    fails_with_one_line(classify("run", tmp_path / "none"), "no run folder")
    fails_after_an_answer(classify("run", run, "fine", " "), "text 2: the text is empty")
    fails_after_an_answer(classify("run", run, stdin=b"fine\nK\xe4se\n"), "standard input, line 2 is not UTF-8: byte 0xe4 at position 1")
    fails_with_one_line(classify("run", run, "fine", "--file", data), "give texts or --file, not both")


def test_a_model_of_another_task_is_refused(tmp_path: Path) -> None:
    write_json(tmp_path / "config.json", {"train": {"model": "gpt"}, "tokenizer": {"kind": "char", "characters": "ab"}})
    fails_with_one_line(classify("run", tmp_path, "fine"), "was trained for another task")


def test_dry_runs_leave_nothing_behind(run: Path, tmp_path: Path) -> None:
    result = classify("train", "--dry-run", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    for words in ("accuracy", "TF-IDF", "macro-F1", "calibration error"):
        assert words in result.stdout
    assert "run folder: a temporary one" in result.stdout
    result = classify("compare", "--dry-run", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    for row in ("naive Bayes ", "TF-IDF ", " linear ", " bag ", " lstm ", " transformer "):
        assert row in result.stdout
    assert classify("run", run, "fine", "poor", "--dry-run", cwd=tmp_path).stdout.count("\n") == 1
    assert os.listdir(tmp_path) == []
    result = classify("study", "--dry-run", "--seeds", 1, cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert "1,000 training sentences" in result.stdout
    assert "minus TF-IDF" in result.stdout
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("command", ["train", "evaluate", "run", "compare", "study"])
def test_help(command: str) -> None:
    result = classify(command, "--help")
    assert result.returncode == 0
    assert "--dry-run" in result.stdout
    assert result.stdout.startswith(f"usage: python scripts/classify.py {command} ")
    for overview in (classify(), classify("--help")):
        assert overview.returncode == 0
        assert f"python scripts/classify.py {command} " in overview.stdout


def test_a_wrong_command_line_is_one_line() -> None:
    fails_with_one_line(classify("guess"), "command 'guess': expected 'train', 'evaluate', 'run', 'compare' or 'study'")
    fails_with_one_line(classify("train", "--modle", "bag"), "Unrecognized options: --modle")
    fails_with_one_line(classify("run"), "the run folder that 'classify train' wrote (required)")


def test_a_resume_keeps_the_settings(data: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    shown = classify("train", "--data", data, "--out", folder, *SHAPE).stdout
    accuracy = shown[shown.index("accuracy") : shown.index(" parameters")]
    again = classify("train", "--resume", folder).stdout
    assert accuracy in again
    assert "was finished already, at step " in again
    fails_with_one_line(classify("train", "--resume", folder, "--width", 9), "--width 9: the run in")
    fails_with_one_line(classify("train", "--resume", folder, "--out", tmp_path), "--out and --resume do not go together")
    fails_with_one_line(classify("train", "--resume", folder, "--dry-run"), "--dry-run and --resume do not go together")
    fails_with_one_line(classify("train", "--resume", tmp_path), "config.json")


# ---------------------------------------------------------------- the classes that people have

THINGS = [
    ("3", "the soup was hot"), ("1", "the actor was loud"), ("-2", "the charger was slow"), ("3", "warm soup and bread"),
    ("1", "a loud scene"), ("-2", "a slow phone charger"),
]  # fmt: skip


def things(path: Path, copies: int = 20) -> Path:
    path.write_text("".join(f"{label}\t{text}\n" for label, text in THINGS * copies), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def three(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """Returns a run of three classes with validation and test files of its own, and what its training printed."""
    folder = tmp_path_factory.mktemp("three")
    train, valid, test = things(folder / "train.tsv"), things(folder / "valid.tsv", 3), things(folder / "test.tsv", 2)
    with test.open("a", encoding="utf-8") as file:
        file.write("1\tthe soup was warm\n")  # a wrong label
    given = ["--data", train, "--valid", valid, "--test", test, "--class-weights", "1=2,3=1", "--patience", 2]
    return folder / "run", ends_well(script_here("classify.py", "train", *given, "--out", folder / "run", *SHAPE))


def test_a_training_prints_its_figures_beside_the_baselines(three: tuple[Path, str]) -> None:
    folder, shown = three
    assert "accuracy 92.31 % on the 13 texts of the test part (naive Bayes 92.31 %, TF-IDF 92.31 %)" in shown
    assert "always saying '1' gives 38.46 %" in shown
    assert "TF-IDF 92.31 %: the difference is +0.00, 95 % interval +0.00 to +0.00" in shown
    lines = [line.split() for line in shown.splitlines()]
    assert ["-2", "4", "1.0000", "1.0000", "1.0000"] in lines
    assert ["1", "5", "1.0000", "0.8000", "0.8889"] in lines
    assert ["label", "said", "-2", "said", "1", "said", "3"] in lines
    assert ["1", "0", "4", "1"] in lines
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    assert config["labels"] == ["-2", "1", "3"]
    assert json.loads((folder / "summary.json").read_text(encoding="utf-8"))["valid_texts"] == 18


def test_predictions_are_saved(three: tuple[Path, str]) -> None:
    folder = three[0] / "test"
    header, *lines = (folder / "predictions.tsv").read_text(encoding="utf-8").splitlines()
    assert header == "label\tpredicted\tp(-2)\tp(1)\tp(3)\ttext"
    assert len(lines) == 13
    label, predicted, *p, text = lines[-1].split("\t")
    assert (label, predicted, text) == ("1", "3", "the soup was warm")
    assert sum(map(float, p)) == pytest.approx(1, abs=2e-6)
    assert json.loads((folder / "figures.json").read_text(encoding="utf-8"))["confusion"] == [[4, 0, 0], [0, 4, 1], [0, 0, 4]]
    assert (folder / "confusion.png").read_bytes().startswith(b"\x89PNG")


def test_labels_may_look_like_markup(tmp_path: Path) -> None:
    path = tmp_path / "labels.tsv"
    path.write_text("[/b]\tgood film\n[red]\tbad film\n" * 10, encoding="utf-8")
    shown = ends_well(script_here("classify.py", "train", "--data", path, "--out", tmp_path / "run", *SHAPE))
    assert re.search(r"label +said \[/b\] +said \[red\] *\n *\[/b\] .*\n *\[red\] ", shown)


def test_evaluate(three: tuple[Path, str], tmp_path: Path) -> None:
    """The figures of the test part again, from its file; one class alone is enough."""
    folder = three[0]
    shown = ends_well(classify("evaluate", folder, folder.parent / "test.tsv"))
    assert shown.startswith(f"accuracy 92.31 % on the 13 texts of {folder.parent / 'test.tsv'}, 95 % interval ")
    names = ("figures.json", "predictions.tsv")
    expected, found = ([(folder / part / name).read_text(encoding="utf-8") for name in names] for part in ("test", "evaluation-test"))
    assert found[1] == expected[1]
    assert json.loads(found[0]) == {k: v for k, v in json.loads(expected[0]).items() if k != "against"}
    (tmp_path / "one.tsv").write_text("3\thot soup\n", encoding="utf-8")
    shown = ends_well(classify("evaluate", folder, tmp_path / "one.tsv", "--out", tmp_path / "out"))
    assert "accuracy 100.00 %" in shown
    assert sorted(os.listdir(tmp_path / "out")) == ["confusion.png", "figures.json", "predictions.tsv"]
    ends_well(classify("evaluate", folder, tmp_path / "one.tsv", "--dry-run", cwd=tmp_path))
    assert sorted(os.listdir(tmp_path)) == ["one.tsv", "out"]


def test_a_text_of_unknown_words_gives_the_prior(three: tuple[Path, str]) -> None:
    """Of 40 texts of each class those of class 1 count twice."""
    label, p, _ = classify("run", three[0], "xqz wubble").stdout.split("\t")
    assert (label, p) == ("1", "0.5000")


def test_labels_that_do_not_fit_are_one_line(three: tuple[Path, str], tmp_path: Path) -> None:
    train, other = three[0].parent / "train.tsv", tmp_path / "other.tsv"
    other.write_text("3\thot soup\n7\tcold soup\n", encoding="utf-8")
    message = "other.tsv, line 2 has the label '7', which no training text has: expected one of '-2'; '1'; '3'"
    out = ("--out", tmp_path / "never")
    fails_with_one_line(classify("evaluate", three[0], other), message)
    fails_with_one_line(classify("train", "--data", train, "--test", other, *out), message)
    fails_with_one_line(classify("train", "--data", train, "--valid", other, *out), message)
    fails_with_one_line(classify("train", "--data", train, "--class-weights", "2=1", *out), "names the label '2': expected one of '-2'")
    fails_with_one_line(classify("train", "--data", train, "--folds", "1", *out), "folds is 1: expected at least 2")
    fails_with_one_line(classify("evaluate", three[0], tmp_path / "none.tsv"), "no such data")
    assert not (tmp_path / "never").exists()
