"""scripts/classify.py as a user runs it."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from script_helpers import SCRIPTS, Result, ends_well, fails_with_one_line, script, script_here

from tinylm.files.json_files import write_json

LINES = "pos\tThe food was great\nneg\tThe food was awful\npos\tA fine film\nneg\tA poor film\n" * 30
SHAPE = ["--width", "8", "--hidden", "8", "--epochs", "4", "--members", "2"]


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
        (LINES.encode() + b"meh\tfine\n" * 2, "line 121 has the label 'meh', expected 'neg' or 'pos'"),
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
    fails_with_one_line(classify("train", "--model", "tree", "--out", out), "model 'tree': expected one of bag, lstm, transformer")
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
    assert "accuracy" in result.stdout
    assert "run folder: a temporary one" in result.stdout
    result = classify("compare", "--dry-run", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    for row in ("naive Bayes ", " bag ", " lstm ", " transformer "):
        assert row in result.stdout
    assert classify("run", run, "fine", "poor", "--dry-run", cwd=tmp_path).stdout.count("\n") == 1
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("command", ["train", "compare", "run"])
def test_help(command: str) -> None:
    result = classify(command, "--help")
    assert result.returncode == 0
    assert "--dry-run" in result.stdout
    assert result.stdout.startswith(f"usage: python scripts/classify.py {command} ")
    for overview in (classify(), classify("--help")):
        assert overview.returncode == 0
        assert f"python scripts/classify.py {command} " in overview.stdout


def test_a_wrong_command_line_is_one_line() -> None:
    fails_with_one_line(classify("guess"), "command 'guess': expected 'train', 'compare' or 'run'")
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
