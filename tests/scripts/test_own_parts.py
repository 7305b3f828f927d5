"""Parts of one's own from the command line: --valid, --test and several --data; what evaluate reads; a part that cannot validate."""

import dataclasses
from pathlib import Path

import pytest
import sacrebleu
from script_helpers import ends_well, fails_with_one_line, script_here

from tinylm.data.corpora import TEXTS
from tinylm.data.pairs import Pairs
from tinylm.files.json_files import read_json
from tinylm.train import TrainConfig, load_run
from tinylm.train.tasks.loading import read_config
from tinylm.train.tasks.token_losses import token_losses
from tinylm.train.tasks.translation import TranslationRun, load_translator
from tinylm.train.tasks.translation_config import default_config

TEXT = TEXTS["tinyshakespeare"].read_text(encoding="utf-8")
NGRAM = ["train.py", "--model", "ngram", "--order", 3]
TINY = ["train.py", "--n-layer", 1, "--n-head", 2, "--n-embd", 16, "--block-size", 16, "--batch-size", 4, "--steps", 2, "--warmup", 1]
TRANSLATOR = [
    "translate.py", "train", "--n-layer", 1, "--n-embd", 16, "--n-hidden", 16, "--n-head", 2, "--bpe-size", 300, "--steps", 1,
    "--warmup", 1,
]  # fmt: skip


@pytest.fixture(scope="module")
def texts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("texts")
    for name, start, stop in [("train", 0, 30_000), ("valid", 40_000, 43_000), ("test", 50_000, 52_000), ("more/a", 60_000, 80_000)]:
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / f"{name}.txt").write_text(TEXT[start:stop], encoding="utf-8")
    (folder / "emoji.txt").write_text("".join(chr(0x1F600 + i % 60) for i in range(600)), encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def run(texts: Path) -> Path:
    """Returns a run with parts of its own."""
    own = ["--data", texts / "train.txt", texts / "more", "--valid", texts / "valid.txt", "--test", texts / "test.txt"]
    shown = ends_well(script_here(*NGRAM, *own, "--out", texts / "run"))
    assert "3,000 characters of" in shown
    summary = read_json(texts / "run" / "summary.json")
    assert f"test loss {summary['test_loss']:.4f} nats/token over the 2,000 tokens of {texts / 'test.txt'}" in shown
    return texts / "run"


def losses_on(run: Path, text: str) -> float:
    model, tokenizer, _ = load_run(run)
    return float(token_losses(model, tokenizer.encode(text)).mean())


def test_the_losses_are_those_of_the_parts(run: Path, texts: Path) -> None:
    summary, note = read_json(run / "summary.json"), read_json(run / "data.json")
    assert summary["val_loss"] == pytest.approx(losses_on(run, TEXT[40_000:43_000]))
    assert summary["test_loss"] == pytest.approx(losses_on(run, TEXT[50_000:52_000]))
    assert (summary["test_tokens"], summary["test_nats_per_byte"]) == (2000, pytest.approx(summary["test_loss"]))  # it is ASCII
    assert (note["train_characters"], note["test_files"]) == (50_000, ["test: test.txt"])
    config = read_config(run, TrainConfig)[0]
    assert config.data == (str(texts / "train.txt"), str(texts / "more"))
    assert (config.valid, config.test) == (str(texts / "valid.txt"), str(texts / "test.txt"))


def test_data_may_be_repeated_and_named_the_folder_after(texts: Path, tmp_path: Path) -> None:
    for number, given in enumerate(
        (["--data", texts / "train.txt", f"--data={texts / 'more'}"], ["--data", texts / "train.txt", texts / "more"])
    ):
        shown = ends_well(script_here(*NGRAM, *given, cwd=tmp_path))
        assert f"ngram on {texts / 'train.txt'}, {texts / 'more'}: " in shown
        assert (tmp_path / "runs" / f"ngram-train-and-1-more{'-2' * number}").exists()
    one, two = (read_json(path / "data.json") for path in sorted((tmp_path / "runs").iterdir()))
    assert one == two
    fails_with_one_line(script_here(*NGRAM, "--data", texts / "train.txt", "nowhere"), "no such data: 'nowhere'")
    fails_with_one_line(script_here(*NGRAM, "--valid", "nowhere"), "no such data: 'nowhere'")


def test_a_run_with_own_parts_resumes(texts: Path, tmp_path: Path) -> None:
    own = ["--data", texts / "train.txt", texts / "more", "--valid", texts / "valid.txt", "--test", texts / "test.txt"]
    ends_well(script_here(*TINY, *own, "--out", tmp_path / "run"))
    ends_well(script_here("train.py", "--resume", tmp_path / "run", "--steps", 3))
    assert read_json(tmp_path / "run" / "summary.json")["test_tokens"] == 2000
    fails_with_one_line(script_here("train.py", "--resume", tmp_path / "run", "--valid", "x"), "--valid x: the run in")
    fails_with_one_line(script_here("train.py", "--resume", tmp_path / "run", "--data", texts / "train.txt"), "--data")


def test_evaluate_says_what_it_reads(run: Path, texts: Path) -> None:
    def read(*arguments: object) -> tuple[str, float]:
        lines = ends_well(script_here("evaluate.py", run, *arguments)).splitlines()
        return lines[0], float(lines[2].split()[-2])

    told, loss = read()
    assert told.startswith(f"reading the validation part of {texts / 'train.txt'}, {texts / 'more'}: 3,000 characters of")
    assert loss == pytest.approx(losses_on(run, TEXT[40_000:43_000]), abs=6e-5)
    told, loss = read("--data", texts / "test.txt", "--whole")
    assert told == f"reading all of {texts / 'test.txt'}, 2,000 characters, whatever a run was trained on"
    assert loss == pytest.approx(losses_on(run, TEXT[50_000:52_000]), abs=6e-5)
    told, loss = read("--data", texts / "test.txt")
    assert told == f"reading the validation part of {texts / 'test.txt'}: the last 200 characters validate; --whole reads all of the text"
    assert loss == pytest.approx(losses_on(run, TEXT[51_800:52_000]), abs=6e-5)
    told, _ = read("--whole")
    assert told.startswith(f"reading all of {texts / 'train.txt'}, {texts / 'more'} but its own validation part, ")
    told, _ = read("--data", texts / "test.txt", "--data", texts / "valid.txt", "--whole")
    assert told.startswith(f"reading all of {texts / 'test.txt'}, {texts / 'valid.txt'}, 5,00")
    fails_with_one_line(
        script_here("evaluate.py", run, "--data", texts / "emoji.txt"), f"{texts / 'emoji.txt'}, line 1: unknown character '😀'"
    )


def test_a_part_that_cannot_validate_is_said_loudly(texts: Path, tmp_path: Path) -> None:
    result = script_here(*NGRAM, "--data", texts / "train.txt", "--valid", texts / "emoji.txt", "--out", tmp_path / "run")
    assert result.returncode == 0
    assert result.stderr.startswith("warning: the validation part (valid: emoji.txt) is unlike the training part: ")
    assert "(--valid FILE)" in result.stderr
    assert result.stderr.count("\n") == 1
    shown = result.stdout.partition("validation loss")[2]
    assert "this loss says little about the model: the validation part is unlike the training part" in shown
    assert read_json(tmp_path / "run" / "data.json")["likeness"]["unlike"] is True
    again = script_here("evaluate.py", tmp_path / "run")
    assert again.stderr.startswith("warning: the validation part (valid: emoji.txt) is unlike")
    ends_well(script_here("evaluate.py", tmp_path / "run", "--whole"))


# ---------------------------------------------------------------- translation


def lines(first: int, stop: int) -> str:
    return "".join(f"The cat {i} sleeps.\tEl gato {i} duerme.\n" for i in range(first, stop))


def test_a_translator_with_own_parts(tmp_path: Path) -> None:
    for name, cut in {"a.tsv": (0, 40), "b.tsv": (40, 60), "v.tsv": (60, 66), "t.tsv": (70, 75)}.items():
        (tmp_path / name).write_text(lines(*cut), encoding="utf-8")
    own = ["--data", tmp_path / "a.tsv", tmp_path / "b.tsv", "--valid", tmp_path / "v.tsv", "--test", tmp_path / "t.tsv"]
    shown = ends_well(script_here(*TRANSLATOR, *own, "--out", tmp_path / "run"))
    assert "60 for training, 6 for validation, 5 for the test" in shown
    assert read_json(tmp_path / "run" / "summary.json")["test"]["sentences"] == 5
    ends_well(script_here("translate.py", "train", "--resume", tmp_path / "run", "--steps", 2))
    fails_with_one_line(script_here(*TRANSLATOR, "--data", tmp_path / "a.tsv", "--test", "nowhere"), "no such data: 'nowhere'")


def test_a_file_is_read_in_another_way_and_this_is_said(tmp_path: Path) -> None:
    path = tmp_path / "p.csv"
    path.write_text("en;es\n\n" + "".join(f'"one; {i}";uno {i}\n' for i in range(30)), encoding="utf-8")
    result = script_here(*TRANSLATOR, "--data", path, "--out", tmp_path / "run")
    assert result.returncode == 0, result.stderr
    assert result.stderr.splitlines() == [
        f"{path} is read as CSV with semicolons, with its header in line 1: source is column 1 ('en'), target is column 2 ('es')",
        f"{path}: 1 blank line is passed over, the first being line 2",
    ]
    moods = tmp_path / "m.csv"
    moods.write_text("text,label\n" + 'so good,1\n"so, bad",0\n' * 10, encoding="utf-8")
    result = script_here("classify.py", "train", "--data", moods, "--epochs", 1, "--out", tmp_path / "mood")
    assert result.returncode == 0, result.stderr
    assert "label is column 2 ('label'), text is column 1 ('text')" in result.stderr


def test_a_translator_is_evaluated_on_a_file(tmp_path: Path) -> None:
    pairs = [
        (f"The {a} {d}.", f"El {b} {e}.") for a, b in [("cat", "gato"), ("dog", "perro")] for d, e in [("eats", "come"), ("runs", "corre")]
    ]
    config = dataclasses.replace(
        default_config("transformer"), bpe_size=300, block_size=24, n_layer=1, n_head=2, n_embd=16, n_hidden=16, batch_tokens=64,
        steps=20, schedule_steps=20, warmup=2, lr=5e-3, dropout=0.0, eval_every=20, save_every=20,
    )  # fmt: skip
    TranslationRun(config, tmp_path / "run", Pairs(pairs, pairs, pairs, 0, "")).train()
    own = [*pairs, ("The cat eats. " * 24, "too long"), ("The bird eats.", "El pájaro come.")]
    (tmp_path / "own.csv").write_text("source,target\n\n" + "".join(f"{a},{b}\n" for a, b in own), encoding="utf-8")
    result = script_here("translate.py", "evaluate", tmp_path / "run", tmp_path / "own.csv")
    assert result.returncode == 0, result.stderr
    assert "is read as CSV with commas" in result.stderr
    assert "testing on 5 sentences, 1 longer sources left out\n" in result.stdout
    translator, kept = load_translator(tmp_path / "run"), [pair for pair in own if "too" not in pair[1]]
    for name, beams in (("greedy", 1), ("beam 4", 4)):
        found = [translator.translate(source, beams=beams) for source, _ in kept]
        expected = [[target for _, target in kept]]
        bleu, chrf = (measure(found, expected).score for measure in (sacrebleu.corpus_bleu, sacrebleu.corpus_chrf))
        assert f"{name:8}  BLEU {bleu:5.2f}  chrF {chrf:5.2f}\n" in result.stdout
    assert "testing on 3 sentences" in script_here("translate.py", "evaluate", tmp_path / "run", tmp_path / "own.csv", "--dry-run").stdout
    fails_with_one_line(script_here("translate.py", "evaluate", tmp_path / "run", tmp_path / "no.tsv"), "no.tsv")
    (tmp_path / "bad.tsv").write_text("no tab\n", encoding="utf-8")
    fails_with_one_line(script_here("translate.py", "evaluate", tmp_path / "run", tmp_path / "bad.tsv"), "bad.tsv has no line that can be")
