"""scripts/translate.py as a user runs it."""

import dataclasses
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
import sacrebleu
from script_helpers import SCRIPTS, ends_well, fails_with_one_line, script_here

from tinylm.data.pairs import Pairs
from tinylm.train.tasks.translation import TranslationRun, load_translator
from tinylm.train.tasks.translation_config import default_config

ANIMALS = {"cat": "gato", "dog": "perro", "bird": "pájaro", "horse": "caballo", "wolf": "lobo"}
DOES = {"sleeps": "duerme", "eats": "come", "runs": "corre", "sings": "canta"}
TWENTY = [(f"The {a} {d}.", f"El {b} {e}.") for a, b in ANIMALS.items() for d, e in DOES.items()]
TWICE = ("The cat eats and eats.", "El gato come y come.")
TINY = [
    "--bpe-size", 280, "--n-layer", 1, "--n-embd", 16, "--n-hidden", 16, "--n-head", 2, "--block-size", 24, "--batch-tokens", 100,
    "--steps", 4, "--schedule-steps", 6, "--warmup", 1, "--log-every", 1,
]  # fmt: skip


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("data") / "animals.tsv"
    lines = [f"{source}\t{target}" for source, target in TWENTY * 6]
    path.write_text("\n".join([*lines[:50], "no tab", *lines[50:]]) + "\n", encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Returns the run of a model that has learned twenty sentences, and one that says a word twice."""
    folder = tmp_path_factory.mktemp("runs") / "learned"
    config = dataclasses.replace(
        default_config("transformer"), bpe_size=300, block_size=24, n_layer=1, n_head=2, n_embd=64, n_hidden=32, batch_tokens=64,
        steps=300, schedule_steps=300, warmup=2, lr=5e-3, dropout=0.0, eval_every=300, save_every=300,
    )  # fmt: skip
    TranslationRun(config, folder, Pairs([*TWENTY, TWICE, TWICE], TWENTY[:7], TWENTY[7:], 0, "")).train()
    return folder


def translate(*arguments: object):
    return script_here("translate.py", *arguments)


@pytest.mark.parametrize("model", ["transformer", "lstm"])
def test_train_tests_and_resumes(model: str, data: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    result = translate("train", "--model", model, "--data", data, "--out", folder, *TINY)
    assert result.returncode == 0, result.stderr
    assert result.stderr == f"1 unusable line of {data} skipped, the first: line 51 has no tab\n"
    out = result.stdout
    assert "108 for training, 6 for validation, 6 for the test" in out
    assert "testing on 6 sentences\n" in out
    summary = json.loads((folder / "summary.json").read_text())
    for name in ("nearest", "lexicon", "greedy", "beam 4"):
        shown = next(line for line in out.splitlines() if line.startswith(f"{name:8}  BLEU"))
        assert f"{summary['test'][name]['bleu']:.2f}" in shown
        assert f"{summary['test'][name]['chrf']:.2f}" in shown
    # the test sentences occur in training, so the nearest one is the sentence itself
    assert summary["test"]["nearest"] == {"bleu": pytest.approx(100), "chrf": pytest.approx(100)}
    assert summary["test"]["sentences"] == 6
    assert summary["steps"] == 4
    assert out.count("\nsource  ") == 6
    resumed = translate("train", "--resume", folder, "--steps", 6)
    assert resumed.returncode == 0, resumed.stderr
    assert "was finished already" not in resumed.stdout
    assert f"the run in {folder} was finished already, at step 6" in translate("train", "--resume", folder).stdout
    assert json.loads((folder / "summary.json").read_text())["steps"] == 6
    whole = translate("train", "--model", model, "--data", data, "--out", tmp_path / "whole", *TINY, "--steps", 6)
    assert whole.returncode == 0
    assert (folder / "model.safetensors").read_bytes() == (tmp_path / "whole/model.safetensors").read_bytes()


def test_the_scores_are_of_the_texts_that_are_shown(data: Path, tmp_path: Path) -> None:
    out = translate("train", "--data", data, "--out", tmp_path / "run", *TINY).stdout
    shown = {
        name: [line[11:] for line in out.splitlines() if line.startswith(f"{name:9}  ") and "BLEU" not in line]
        for name in ("reference", "nearest", "lexicon")
    }
    scores = json.loads((tmp_path / "run/summary.json").read_text())["test"]
    for name in ("nearest", "lexicon"):
        assert len(shown[name]) == 6
        assert scores[name]["bleu"] == pytest.approx(sacrebleu.corpus_bleu(shown[name], [shown["reference"]]).score)
        assert scores[name]["chrf"] == pytest.approx(sacrebleu.corpus_chrf(shown[name], [shown["reference"]]).score)


def test_in_lower_case_the_case_does_not_count(tmp_path: Path) -> None:
    """Neither in the model's texts nor in the scores, but in what is copied."""
    cases = [(str.upper if k % 9 == 0 else str, str.upper if k // 20 % 2 else str) for k in range(120)]
    lines = [f"{case(source)}\t{its(target)}" for (case, its), (source, target) in zip(cases, TWENTY * 6, strict=True)]
    (tmp_path / "mixed.tsv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    ends_well(translate("train", "--data", tmp_path / "mixed.tsv", "--out", tmp_path / "run", *TINY, "--lower"))
    summary = json.loads((tmp_path / "run/summary.json").read_text())
    assert summary["test"]["nearest"]["bleu"] == pytest.approx(100)
    assert "Zorro" in ends_well(translate("run", tmp_path / "run", "THE CAT and Zorro"))


def test_run_translates_texts_files_and_the_standard_input(run: Path, tmp_path: Path) -> None:
    texts, expected = [s for s, _ in TWENTY[:3]], "".join(f"{t}\n" for _, t in TWENTY[:3])
    assert ends_well(translate("run", run, *texts)) == expected
    assert ends_well(translate("run", run, *texts, "--beams", 1)) == expected
    assert ends_well(translate("run", run, *texts, "--no-repeat-ngram", 24)) == expected  # no translation is so long
    plain, blocked = (ends_well(translate("run", run, TWICE[0], "--no-repeat-ngram", n)).split() for n in (0, 1))
    assert len(set(blocked)) == len(blocked)
    assert plain == TWICE[1].split()
    assert ends_well(translate("run", run, *texts, "--dry-run")) == f"{TWENTY[0][1]}\n"
    file = tmp_path / "texts"
    file.write_text("\n".join(texts) + "\n", encoding="utf-8")
    assert ends_well(translate("run", run, "--file", file)) == expected
    assert ends_well(translate("run", run, "The cat 4711 sleeps, 漢字.", "Zorblax!")).count("4711") == 1


def test_a_blank_line_gives_a_blank_line(run: Path, tmp_path: Path) -> None:
    lines = ["", TWENTY[0][0], " \t", "", TWENTY[1][0], ""]
    expected = ["", TWENTY[0][1], "", "", TWENTY[1][1], ""]
    text = "".join(f"{line}\n" for line in lines)
    (tmp_path / "texts").write_text(text, encoding="utf-8")
    outputs = [
        ends_well(translate("run", run, "--file", tmp_path / "texts")),
        ends_well(script_here("translate.py", "run", run, stdin=text.encode("utf-8"))),
    ]
    assert outputs == ["".join(f"{line}\n" for line in expected)] * 2
    assert ends_well(translate("run", run, "--file", tmp_path / "texts", "--dry-run")) == f"\n{TWENTY[0][1]}\n"
    fails_with_one_line(translate("run", run, "", TWENTY[0][0]), "text 1: there is no text to translate")


def test_the_best_n_with_their_scores(run: Path, tmp_path: Path) -> None:
    (tmp_path / "texts").write_text(f"{TWENTY[0][0]}\n\n{TWENTY[1][0]}\n", encoding="utf-8")
    out = ends_well(translate("run", run, "--file", tmp_path / "texts", "--n-best", 3)).splitlines()
    assert out[out.index("") + 1].split("\t")[0] == "3"
    first = [line.split("\t") for line in out[: out.index("")]]
    assert 2 <= len(first) <= 3
    found = load_translator(run).translations(TWENTY[0][0], 3)
    assert first == [["1", f"{t.score:.4f}", f"{t.log_probability:.4f}", " ".join(t.text.split())] for t in found]
    assert first[0][3] == TWENTY[0][1]
    fails_with_one_line(translate("run", run, "x", "--n-best", 5), "--n-best 5: expected 0 to 4, the number of --beams")
    fails_with_one_line(translate("run", run, "x", "--n-best", -1), "--n-best -1: expected 0 to 4")


def test_the_standard_input_is_translated_line_by_line(run: Path) -> None:
    """Each answer comes before the next line is sent; a bad line, named by its number, ends the program."""
    command = [sys.executable, str(SCRIPTS / "translate.py"), "run", str(run)]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, text=True, encoding="utf-8") as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stderr is not None
        for source, target in TWENTY[:3]:
            process.stdin.write(f"{source}\n")
            process.stdin.flush()
            assert process.stdout.readline() == f"{target}\n"
        process.stdin.write("u" * 30 + "\n")
        process.stdin.close()
        error = process.stderr.read()
        assert process.wait() == 2
    assert error.startswith("error: standard input, line 4: the source has 31 tokens")
    assert error.count("\n") == 1


def test_errors_are_one_line(run: Path, data: Path, tmp_path: Path) -> None:
    fails_with_one_line(translate("fly"), "command 'fly': expected 'train', 'compare', 'evaluate' or 'run'")
    fails_with_one_line(translate("run", tmp_path / "no", "x"), "no run folder")
    fails_with_one_line(translate("run", run, "u" * 24), "text 1: the source has 25 tokens, its end included: expected at most 24")
    fails_with_one_line(translate("run", run, " "), "text 1: there is no text to translate")
    fails_with_one_line(translate("run", run, "x", "--file", data), "give texts or --file, not both")
    fails_with_one_line(translate("run", run, "x", "--beams", 0), "--beams 0: expected at least 1")
    fails_with_one_line(translate("run", run, "x", "--alpha", -1), "alpha is -1.0: expected at least 0")
    fails_with_one_line(translate("run", run, "x", "--no-repeat-ngram", -1), "no_repeat_ngram is -1: expected at least 0")
    fails_with_one_line(translate("train", "--data", "nowhere.tsv", "--out", tmp_path / "new"), "no such data: 'nowhere.tsv'")
    fails_with_one_line(translate("train", "--model", "gru"), "model 'gru': expected one of transformer, lstm")
    fails_with_one_line(translate("train", "--resume", run, "--lr", 1), "--lr 1.0: the run in")
    fails_with_one_line(translate("train", "--resume", run, "--out", tmp_path), "--out and --resume do not go together")
    fails_with_one_line(translate("train", "--resume", run, "--dry-run"), "--dry-run and --resume do not go together")
    taken = translate("train", "--data", data, "--out", run, *TINY)
    assert (taken.returncode, taken.stdout) == (2, "")
    assert "holds a run already" in taken.stderr.splitlines()[-1]
    fails_with_one_line(script_here("generate.py", run), "was trained for another task: translation, expected language modeling")
    fails_with_one_line(script_here("score.py", run, "x"), "was trained for another task: translation, expected language modeling")
    assert not (tmp_path / "new").exists()


def test_a_dry_run_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    for model in ("transformer", "lstm"):
        out = ends_well(script_here("translate.py", "train", "--model", model, "--dry-run", cwd=tmp_path))
        assert "testing on 3 sentences" in out
        assert list(tmp_path.iterdir()) == []
        assert str(tmp_path) not in out


def test_help() -> None:
    assert "translate.py run RUN" in ends_well(translate("--help"))
    assert "--label-smoothing" in ends_well(translate("train", "--help"))
    assert "--beams" in ends_well(translate("run", "--help"))


@pytest.mark.parametrize(
    "lines", [["the cat\tel gato"] * 20, ["a\ta"] * 20, ["!\t?"] * 20, ["a b\tb", "c\td", "e\tf"], ["\u0301\t\u200d"] * 20]
)
def test_toy_corpora(lines: list[str], tmp_path: Path) -> None:
    """Equal pairs, one word, no words, no more pairs than parts, and marks alone."""
    (tmp_path / "toy.tsv").write_text("".join(line + "\n" for line in lines), encoding="utf-8")
    tiny = ["--n-layer", 1, "--n-embd", 16, "--n-hidden", 16, "--n-head", 2, "--bpe-size", 300, "--steps", 1, "--warmup", 1]
    shown = ends_well(script_here("translate.py", "train", "--data", tmp_path / "toy.tsv", "--out", tmp_path / "run", *tiny))
    assert "lexicon   BLEU" in shown
