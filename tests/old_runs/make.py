"""Made the runs of this folder, and expected.json: `python tests/old_runs/make.py [NAME ...]` in a checkout of 5e838d8.

That is the last commit before the modules moved; newer code is compared with its results. Each run is stopped before
the end of its schedule; those in KILLED look as if the process had been killed after the last checkpoint but one.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from measure import RUNS, arrays_of, losses_of, machine, newest, summary_of

CHECKOUT = RUNS.parents[1]
OFTEN = ["--log-every", 4, "--eval-every", 30, "--save-every", 29, "--save-minutes", 0, "--keep", 2]
STOP = ["--steps", 60, "--schedule-steps", 100, "--warmup", 5, *OFTEN]
SMALL = ["--n-embd", 16, "--n-layer", 1, "--block-size", 16, "--dropout", 0.1]
LANGUAGE = ["--data", "text.txt", "--batch-size", 4, "--lr", 0.02, *SMALL, *STOP]
HEADS = [*LANGUAGE, "--n-head", 2]
RECURRENT = [*LANGUAGE, "--n-hidden", 16, "--input-dropout", 0.05]
TRANSLATION = ["--data", "pairs.txt", "--bpe-size", 264, "--batch-tokens", 100, "--n-hidden", 16, "--lr", 0.02, *SMALL, *STOP]
TRANSLATION += ["--n-embd", 8, "--block-size", 32, "--steps", 300, "--schedule-steps", 500, "--eval-every", 150, "--save-every", 149]
CLASSES = ["--data", "labelled.txt", "--batch-size", 2, "--width", 4, "--hidden", 8, "--heads", 2, "--buckets", 32]
CLASSES += ["--members", 2, "--epochs", 2]
INIT = ["--init", "gpt", "--data", "text.txt", "--batch-size", 4, "--block-size", 16, *STOP]

TRAIN = {
    "gpt": ["--model", "gpt", *HEADS],
    "gpt-average": ["--model", "gpt", *HEADS, "--ema", 0.9, "--dropout-ramp", 30, "--accumulate", 2, "--bias"],
    "llama": ["--model", "llama", *HEADS, "--n-kv-head", 1, "--n-hidden", 24],
    "transformer": ["--model", "transformer", *HEADS, "--n-embd", 4, "--n-hidden", 24],  # narrow: it stores 5,000 positions
    "rnn": ["--model", "rnn", *RECURRENT, "--nonlinearity", "relu"],
    "lstm": ["--model", "lstm", *RECURRENT],
    "gru": ["--model", "gru", *RECURRENT, "--n-layer", 2],
    "ensemble": ["--model", "gpt", *HEADS, "--members", 2],
    "words": ["--model", "gpt", *HEADS, "--tokenizer", "word"],
    "pieces": ["--model", "gpt", *HEADS, "--tokenizer", "bpe", "--bpe-size", 280, "--n-embd", 8],
    "ngram": ["--model", "ngram", "--data", "text.txt", "--order", 3],
    "init": INIT,
    "lora": [*INIT, "--lora-rank", 2],
    "failure": ["--model", "gpt", *HEADS, "--lr", 1e30, "--clip", 1e30, "--warmup", 0],
}
TRANSLATORS = {
    "translator": ["--model", "transformer", *TRANSLATION, "--n-head", 2],
    "lstm-translator": ["--model", "lstm", *TRANSLATION],
}
CLASSIFIERS = {
    "bag-classifier": ["--model", "bag", *CLASSES],
    "lstm-classifier": ["--model", "lstm", *CLASSES],
    "transformer-classifier": ["--model", "transformer", *CLASSES, "--members", 1],
}
KILLED = {"gpt", "ensemble", "transformer", "lstm", "words", "translator", "bag-classifier"}
STOPPED_BY_SIGNAL = {"lstm-classifier", "transformer-classifier"}  # within an epoch

TEXTS = ["The fox went down to the mill.", "the river and the sea"]
SENTENCES = ["the old house sleeps", "a small wolf sings"]
OPINIONS = ["the soup was lovely", "a terrible, dull film", "not bad at all"]


def run(command: list[Any], folder: Path = RUNS, checkout: Path = CHECKOUT, status: int = 0) -> str:
    """Runs a script, or Python for "-c", in a folder and returns what it prints. status: how it must end; 130 means
    Ctrl-C after its first line."""
    words = [sys.executable, *map(str, command if command[0] == "-c" else [checkout / "scripts" / command[0], *command[1:]])]
    environment = {**os.environ, "PYTHONPATH": f"{checkout}:{RUNS}", "PYTHONWARNINGS": "ignore"}
    with subprocess.Popen(words, cwd=folder, stdout=subprocess.PIPE, encoding="utf-8", env=environment) as process:
        assert process.stdout is not None
        first = process.stdout.readline()
        if status == 130:
            time.sleep(0.01)
            process.send_signal(signal.SIGINT)
        out = first + process.stdout.read()
    assert process.returncode == status, command
    return out


def make(name: str) -> None:
    """Makes the run, and removes the files that no test needs."""
    folder = RUNS / name
    shutil.rmtree(folder, ignore_errors=True)
    if name in CLASSIFIERS:
        run(["classify.py", "train", "--out", name, *CLASSIFIERS[name]], status=130 if name in STOPPED_BY_SIGNAL else 0)
    elif name in TRANSLATORS:
        run(["translate.py", "train", "--out", name, *TRANSLATORS[name]])
    else:
        run(["train.py", "--out", name, *TRAIN[name]], status=2 if name == "failure" else 0)
    if name in KILLED:
        newest(folder).unlink()
        for left in ("model.safetensors", "summary.json"):
            (folder / left).unlink()
    kept = {newest(folder)} if name not in ("failure", "ngram") else set()
    for path in {*(folder / "checkpoints").glob("*"), folder / "failure" / "report.json", folder / "lock"} - kept:
        path.unlink(missing_ok=True)
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    if config["train"].get("init"):  # an absolute path, which would be right on one machine only
        config["train"]["init"] = Path(config["train"]["init"]).name
        (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")


def commands(name: str) -> dict[str, list[list[Any]]]:
    """Returns the commands by part: those on the run as it is here ("before"), those that resume it ("resume"), and
    those on the resumed run ("after")."""
    if name == "failure":
        return {"before": [["replay.py", name]], "resume": [], "after": []}
    if name in CLASSIFIERS:
        return {"before": [], "resume": [["classify.py", "train", "--resume", name]], "after": [["classify.py", "run", name, *OPINIONS]]}
    if name in TRANSLATORS:
        use = [["translate.py", "run", name, *SENTENCES], ["translate.py", "run", name, *SENTENCES, "--beams", 1]]
        return {"before": use, "resume": [["translate.py", "train", "--resume", name, "--steps", 306]], "after": use}
    use = [
        ["generate.py", name, "--prompt", "The ", "--tokens", 40, "--greedy"],
        ["generate.py", name, "--prompt", "The ", "--tokens", 40, "--seed", 3],
        ["score.py", name, *TEXTS],
    ]
    return {"before": use, "resume": [["train.py", "--resume", name, "--steps", 66]], "after": use} if name != "ngram" else {"before": use}


def expect(name: str, asked: dict[str, list[list[Any]]], texts: list[str], folder: Path, checkout: Path = CHECKOUT) -> dict[str, Any]:
    """Returns what a checkout gives for the copy of a run in a folder."""
    expected: dict[str, Any] = {"texts": texts}
    for part, commands in asked.items():
        outs = [run(command, folder, checkout).replace(f"{checkout}/", "") for command in commands]
        expected[part] = [{"command": c, "out": out} for c, out in zip(commands, outs, strict=True)] if part != "resume" else commands
        if part != "resume" and commands and texts:
            program = "import json, measure, pathlib, sys; print(json.dumps(measure.scores_of(pathlib.Path(sys.argv[1]), sys.argv[2:])))"
            expected[f"{part}_scores"] = json.loads(run(["-c", program, name, *texts], folder, checkout))
    if expected.get("resume"):
        expected |= {"arrays": arrays_of(newest(folder / name)), "losses": losses_of(folder / name), "summary": summary_of(folder / name)}
    return expected


def main(names: list[str]) -> None:
    record = RUNS / "expected.json"
    expected = json.loads(record.read_text(encoding="utf-8")) if record.exists() else {"runs": {}}
    expected["machine"] = machine()
    for name in names:
        make(name)
        with tempfile.TemporaryDirectory() as place:
            shutil.copytree(RUNS, place, dirs_exist_ok=True)
            texts = OPINIONS if name in CLASSIFIERS else TEXTS if name not in (*TRANSLATORS, "failure") else []
            expected["runs"][name] = expect(name, commands(name), texts, Path(place))
    record.write_text(json.dumps(expected, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:] or [*TRAIN, *TRANSLATORS, *CLASSIFIERS])
