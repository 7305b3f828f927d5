"""Every command that reads text takes --encoding, and says so where a text is of another one."""

import dataclasses
from pathlib import Path

import pytest
from script_helpers import SCRIPTS, ends_well, fails_with_one_line, script_here

from tinylm.errors import ConfigError
from tinylm.files.json_files import read_json
from tinylm.train import Counting, default_config

TINY = ["--n-layer", 1, "--n-embd", 16, "--n-hidden", 16, "--n-head", 2, "--bpe-size", 300, "--steps", 1, "--warmup", 1]
LABELLED = "gut\tKäse für alle\nschlecht\tKäse ohne Löcher\n" * 20
PAIRS = "".join(f"Käse {i}\tqueso ñ {i}\n" for i in range(20))
ENCODINGS = pytest.mark.parametrize("encoding", ["latin-1", "utf-16", "utf-32-be"])


def written(path: Path, text: str, encoding: str) -> Path:
    path.write_bytes(text.encode(encoding))
    return path


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("runs")
    config = dataclasses.replace(default_config("ngram"), order=2)
    Counting(config, folder / "words", "Käse für Müller\n" * 50).train()
    ends_well(script_here("classify.py", "train", "--data", written(folder / "l.tsv", LABELLED, "utf-8"), "--out", folder / "labels"))
    pairs = written(folder / "p.tsv", PAIRS, "utf-8")
    ends_well(script_here("translate.py", "train", "--data", pairs, "--out", folder / "pairs", *TINY))
    return {name: folder / name for name in ("words", "labels", "pairs")}


@ENCODINGS
def test_training_data(encoding: str, tmp_path: Path) -> None:
    """A translator's run keeps the encoding for a resume, and so does a classifier's."""
    labels = written(tmp_path / "l.tsv", LABELLED, encoding)
    ends_well(script_here("classify.py", "train", "--data", labels, "--encoding", encoding, "--out", tmp_path / "l", "--epochs", 1))
    assert " käse" in read_json(tmp_path / "l" / "config.json")["tokenizer"]["words"]
    ends_well(script_here("classify.py", "train", "--resume", tmp_path / "l"))
    pairs = written(tmp_path / "p.tsv", PAIRS, encoding)
    ends_well(script_here("translate.py", "train", "--data", pairs, "--encoding", encoding, "--out", tmp_path / "p", *TINY))
    assert "Käse" in ends_well(script_here("translate.py", "train", "--resume", tmp_path / "p", "--steps", 2))
    if encoding != "latin-1":
        return
    for name, data in (("classify.py", labels), ("translate.py", pairs)):
        fails_with_one_line(
            script_here(name, "train", "--data", data, "--out", tmp_path / "no"), "another encoding can be named (--encoding)"
        )
        fails_with_one_line(script_here(name, "train", "--data", data, "--encoding", "x"), "encoding 'x': Python knows no such")


@ENCODINGS
def test_files(encoding: str, runs: dict[str, Path], tmp_path: Path) -> None:
    texts = written(tmp_path / "texts.txt", "Käse für Müller\nMüller\n", encoding)
    given = ["--encoding", encoding]
    assert "Müller" in ends_well(script_here("score.py", runs["words"], "--file", texts, "--sentences", *given))
    shown = ends_well(script_here("generate.py", runs["words"], "--prompts", texts, "--tokens", 1, *given))
    assert [line.startswith(("Käse für Müller", "Müller")) for line in shown.splitlines()] == [True, True]
    assert ends_well(script_here("classify.py", "run", runs["labels"], "--file", texts, *given)).count("Müller") == 2
    assert len(ends_well(script_here("translate.py", "run", runs["pairs"], "--file", texts, *given)).splitlines()) == 2
    data = written(tmp_path / "d.txt", "Käse für\n" * 50, encoding)
    assert "nats/token" in ends_well(script_here("evaluate.py", runs["words"], "--data", data, *given))
    compared = script_here("compare_models.py", "--data", data, "--models", "ngram", "--out", tmp_path / "c", *given)
    assert (compared.returncode, compared.stderr) == (0, "ngram ...\n")
    assert read_json(tmp_path / "c" / "ngram" / "config.json")["train"]["encoding"] == encoding


@pytest.mark.parametrize("encoding", ["latin-1", "utf-16", "utf-16-be", "utf-8-sig", "utf-8"])
def test_standard_input(encoding: str, monkeypatch: pytest.MonkeyPatch) -> None:
    found = lines_of("Käse für\r\nMüller".encode(encoding), encoding, monkeypatch)
    assert found == [("standard input, line 1", "Käse für"), ("standard input, line 2", "Müller")]


def lines_of(raw: bytes, encoding: str, monkeypatch: pytest.MonkeyPatch, at_once: int = 3) -> list[tuple[str, str]]:
    """Returns what a command gets from the standard input, which gives a few bytes at a time."""
    monkeypatch.syspath_prepend(str(SCRIPTS))
    from support import texts

    class Slow:
        left = raw

        def read1(self) -> bytes:
            now, self.left = self.left[:at_once], self.left[at_once:]
            return now

    monkeypatch.setattr(texts.sys, "stdin", type("Stdin", (), {"buffer": Slow()})())
    return list(texts.texts_of((), None, encoding))


@pytest.mark.parametrize("at_once", [1, 2, 3, 100])
def test_a_wrong_byte_on_standard_input(at_once: int, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match=r"standard input, line 2 is not UTF-8: byte 0xe4 at position 3$"):
        lines_of("é\n".encode() + b"\xc3\xa9K\xe4se\n", "utf-8", monkeypatch, at_once)
    with pytest.raises(ValueError, match=r"standard input, line 2 is not UTF-16: "):
        lines_of("é\nab".encode("utf-16") + b"\x00\xdc\x00\x00", "utf-16", monkeypatch, at_once)
    with pytest.raises(ConfigError, match="encoding 'x'"):
        lines_of(b"a", "x", monkeypatch)
    assert lines_of("\ufeffa\n\n\nb\n".encode(), "utf-8", monkeypatch, at_once) == [
        (f"standard input, line {i}", line) for i, line in enumerate(("a", "", "", "b"), 1)
    ]


def test_what_follows_a_second_tab_is_reported(tmp_path: Path) -> None:
    labels = written(tmp_path / "l.tsv", LABELLED.replace("alle", "alle\tzum Fest", 1), "utf-8")
    result = script_here("classify.py", "train", "--data", labels, "--dry-run")
    assert (result.returncode, result.stderr) == (
        0, f"{labels}: what follows the second tab is not read, in 1 of 40 lines, the first being line 1: 'zum Fest'\n",
    )  # fmt: skip
    pairs = written(tmp_path / "p.tsv", PAIRS.replace("\n", "\tCC-BY\n"), "utf-8")
    result = script_here("translate.py", "train", "--data", pairs, "--dry-run")
    assert (result.returncode, result.stderr) == (
        0, f"{pairs}: what follows the second tab is not read, in 20 of 20 lines, the first being line 1: 'CC-BY'\n",
    )  # fmt: skip


def test_a_comparison_of_other_data_is_not_shown(tmp_path: Path) -> None:
    data = written(tmp_path / "d.txt", "one two\n" * 50, "utf-8")
    command = ["compare_models.py", "--data", data, "--models", "ngram", "--out", tmp_path / "c"]
    assert script_here(*command).returncode == 0
    ends_well(script_here(*command))
    written(data, "two one\n" * 50, "utf-8")
    fails_with_one_line(script_here(*command), "d.txt changed: choose another --out")
