"""Trains a tiny run in one forked process after another, and ends each before another one of its operations on files.

    python kill_program.py KIND FOLDER STRIDE SIGNAL

KIND is one of RUNS below, or a script's command line in SCRIPTS. SIGNAL is KILL, INT or TERM. The first process is not disturbed; of
the operations that it makes in the run folder, every STRIDE-th ends a later process. After each, the run is resumed, or begun again,
and must end as the first one did. Prints {"operations": [...], "problems": [...]} as JSON.
"""

import json
import os
import runpy
import shutil
import signal
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from long_runs import NINE, OPINIONS, TEXT, records, tiny, tiny_classifier, tiny_run
from support import console, display  # noqa: F401  (the scripts need them: loaded once, before the forks)

from tinylm.data import open_corpus
from tinylm.files.json_files import read_json
from tinylm.files.signed_arrays import read_arrays
from tinylm.train import Counting, Run
from tinylm.train.run_folder import never_started

ROOT = Path(__file__).resolve().parents[1]
SHORT = {"steps": 4, "schedule_steps": 4, "log_every": 1, "eval_every": 2, "save_every": 2, "keep": 1, "n_layer": 1}


def language_model(folder: Path, resume: bool) -> Any:
    return Run(tiny("gpt", **SHORT), folder, open_corpus(str(folder.parent / "fox.txt")), resume=resume)


def counting(folder: Path, resume: bool) -> Any:
    return Counting(tiny("ngram", order=3), folder, open_corpus(str(folder.parent / "fox.txt")), resume=resume)


def translator(folder: Path, resume: bool) -> Any:
    return tiny_run("recurrent translator", folder, resume, **SHORT)


def classifier(folder: Path, resume: bool) -> Any:
    return tiny_classifier(folder, resume, epochs=2)


RUNS: dict[str, Callable[[Path, bool], Any]] = {
    "gpt": language_model, "ngram": counting, "translator": translator, "classifier": classifier,
}  # fmt: skip
_SMALL = "--steps 4 --log-every 1 --save-every 2 --eval-every 2"
SCRIPTS = {
    "train": f"train.py {_SMALL} --data fox.txt --n-layer 1 --n-embd 16 --block-size 16 --batch-size 4 --tensorboard",
    "classify": "classify.py train --data opinions.txt --epochs 2 --members 1",
    "translate": f"translate.py train {_SMALL} --data pairs.txt --n-layer 1 --n-embd 16 --n-hidden 16 --bpe-size 280",
}


def perform(kind: str, folder: Path, begin: bool) -> None:
    """Trains the run, to its end if nothing disturbs it. It is resumed if the folder holds one; `begin`: unless it can be begun again."""
    resume = (folder / "config.json").exists() and not (begin and never_started(folder))
    if kind == "ngram" and (folder / "summary.json").exists():
        return  # it had counted: there is nothing to resume
    if kind in RUNS:
        RUNS[kind](folder, resume).train()
        return
    os.chdir(folder.parent)
    command = SCRIPTS[kind].split()
    subcommand = command[1:2] if command[1] == "train" else []
    sys.argv = [str(ROOT / "scripts" / command[0]), *subcommand, "--resume", str(folder)] if resume else [*command, "--out", str(folder)]
    runpy.run_path(str(ROOT / "scripts" / command[0]), run_name="__main__")


def end_of(folder: Path) -> str:
    """Returns all that a run leaves: the weights, the best weights, the summary and the records, without what the clock says."""
    names = ("model.safetensors", "checkpoints/best.safetensors")
    arrays = [read_arrays(folder / name)[0] for name in names if (folder / name).exists()]
    weights = [{name: np.ascontiguousarray(a).tobytes().hex() for name, a in sorted(each.items())} for each in arrays]
    summary = {k: v for k, v in read_json(folder / "summary.json").items() if k not in ("train_seconds", "tokens_per_second")}
    return json.dumps([weights, summary, records(folder)])


# ---------------------------------------------------------------- operations on files


class Operations:
    """Notes the operations on files below a folder, and calls `end` before the one numbered `at`, counted from 1."""

    def __init__(self, folder: Path, at: int, end: Callable[[], None]) -> None:
        self.folder, self.at, self.end, self.seen = str(folder), at, end, list[str]()
        self.fsync, self.write, self.fdopen = os.fsync, os.write, os.fdopen
        sys.addaudithook(self.audit)
        os.fsync = lambda handle: (self.before("fsync", handle), self.fsync(handle))[1]
        os.write = lambda handle, data: (self.before("write", handle), self.write(handle, data))[1]  # type: ignore[assignment]
        os.fdopen = lambda handle, *mode, **settings: Halved(self.fdopen(handle, *mode, **settings), self)  # type: ignore[assignment]

    def audit(self, event: str, arguments: tuple[Any, ...]) -> None:
        if event == "open" and arguments[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
            self.before("open", arguments[0])
        elif event in ("os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.truncate", "os.chmod", "os.link", "os.symlink", "fcntl.flock"):
            self.before(event.rpartition(".")[2], arguments[0])

    def before(self, what: str, path: Any) -> None:
        """An operation on a path, or on an open file, is about to be made."""
        place = os.readlink(f"/proc/self/fd/{path}") if isinstance(path, int) else os.fsdecode(path or b"")
        if place.startswith(self.folder):
            self.seen.append(f"{what} {place.removeprefix(self.folder)}")
            if len(self.seen) == self.at:
                self.end()


class Halved:
    """A file that is written in halves, so that a process can be ended between them."""

    def __init__(self, file: Any, operations: Operations) -> None:
        self.file, self.operations = file, operations

    def write(self, data: Any) -> None:
        for half in (data[: len(data) // 2], data[len(data) // 2 :]):
            self.operations.before("write", self.file.fileno())
            self.file.write(half)
            self.file.flush()

    def writelines(self, parts: Any) -> None:
        for part in parts:
            self.write(part)

    def __enter__(self) -> "Halved":
        return self

    def __exit__(self, *_: object) -> None:
        self.file.close()

    def __getattr__(self, name: str) -> Any:
        return getattr(self.file, name)


# ---------------------------------------------------------------- processes


def in_a_fork(action: Callable[[], str], said: Path) -> tuple[int, str]:
    """Returns (status, what the action returned or printed) of a forked process; the status is negative for a signal."""
    if (child := os.fork()) == 0:
        status, text = 1, ""
        try:
            with open(os.devnull, "w", encoding="utf-8") as nowhere:
                os.dup2(nowhere.fileno(), 1)
            with said.open("w", encoding="utf-8") as file:
                os.dup2(file.fileno(), 2)
            status, text = 0, action()
        except SystemExit as error:
            status = int(error.code or 0)
        except BaseException:
            text = traceback.format_exc()
        if text:
            said.write_text(text, encoding="utf-8")
        os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), said.read_text(encoding="utf-8")


def disturbed(kind: str, folder: Path, at: int, number: int) -> str:
    """Trains, and gets the signal before the operation numbered `at`; 0: never. Returns the operations as JSON."""
    operations = Operations(folder, at, lambda: os.kill(os.getpid(), number))
    try:
        perform(kind, folder, begin=True)
    except SystemExit as error:
        if error.code:
            raise
    return json.dumps(operations.seen)


def completed(kind: str, folder: Path, begin: bool) -> str:
    try:
        perform(kind, folder, begin)
    except SystemExit as error:
        if error.code:
            raise
    return end_of(folder)


def main(kind: str, parent: Path, stride: int, number: int) -> dict[str, Any]:
    parent.mkdir(parents=True)
    (parent / "fox.txt").write_text(TEXT, encoding="utf-8")
    (parent / "opinions.txt").write_text("".join(f"{label}\t{text}\n" for text, label in zip(OPINIONS.texts, OPINIONS.labels, strict=True)))
    (parent / "pairs.txt").write_text("".join(f"{source}\t{target}\n" for source, target in NINE * 4), encoding="utf-8")
    folder, said = parent / "run", parent / "said"
    status, seen = in_a_fork(lambda: disturbed(kind, folder, 0, number), said)
    assert status == 0, seen
    expected, operations, problems = end_of(folder), json.loads(seen), []
    for at in range(1, len(operations) + 1, stride):
        shutil.rmtree(folder)
        status, text = in_a_fork(lambda at=at: disturbed(kind, folder, at, number), said)  # type: ignore[misc]
        ended = (-signal.SIGKILL,) if number == signal.SIGKILL else (0, 130)  # 0: it had made its last step
        if status in ended:
            status, text = in_a_fork(lambda at=at: completed(kind, folder, begin=at % 2 == 0), said)  # type: ignore[misc]
        else:
            status = status or 1
        where = f"{at}: before {operations[at - 1]}"
        if status or text != expected:
            problems.append(f"{where}: status {status}: " + (text[-1500:] if status else "another result"))
        problems += [f"{where}: {left} is left" for left in folder.rglob("*.partial")]
    return {"operations": operations, "problems": problems}


if __name__ == "__main__":
    print(json.dumps(main(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]), signal.Signals[f"SIG{sys.argv[4]}"])))
