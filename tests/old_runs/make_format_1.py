"""Makes the runs of format_1/ again, and its expected.json, each by the commit named: `python tests/old_runs/make_format_1.py`.

Until 17bccbe a checkpoint was called last.safetensors, had no digest, and config.json had fewer settings.
"""

import json
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Any

from make import CHECKOUT, OPINIONS, SENTENCES, TEXTS, expect, run
from measure import RUNS, machine

HERE = RUNS / "format_1"
SMALL = ["--n-embd", 8, "--n-layer", 1, "--dropout", 0.1, "--warmup", 5, "--log-every", 4, "--eval-every", 30, "--save-every", 30]
LANGUAGE = ["train.py", "--data", "text.txt", "--batch-size", 4, "--lr", 0.02, *SMALL, "--steps", 60, "--schedule-steps", 100]
LANGUAGE += ["--block-size", 16]
TRANSLATION = ["translate.py", "train", "--data", "pairs.txt", "--bpe-size", 264, "--batch-tokens", 100, "--n-hidden", 16, *SMALL]
TRANSLATION += ["--block-size", 32, "--lr", 0.02, "--n-head", 2, "--steps", 300, "--schedule-steps", 500]
CLASSES = ["classify.py", "train", "--data", "labelled.txt", "--batch-size", 2, "--width", 4, "--buckets", 32, "--epochs", 2]

MADE: dict[str, tuple[str, list[Any]]] = {  # each by the last commit before the one named in its comment
    "gpt": ("1caa740", [*LANGUAGE, "--n-head", 2]),  # 17bccbe and 03c936e: format 2
    "lstm": ("1caa740", [*LANGUAGE, "--model", "lstm", "--n-hidden", 16, "--input-dropout", 0.05]),
    "translator": ("1caa740", TRANSLATION),
    "bag-classifier": ("1caa740", CLASSES),
    "early-gpt": ("48f7f1f", [*LANGUAGE, "--n-head", 2]),  # 5163e3e: settings of other models and tokenizers
    "early-lstm": ("a1a25e5", [*LANGUAGE, "--model", "lstm", "--n-hidden", 16]),  # 70f0912: input_dropout, which was dropout
    "early-translator": ("63786ee", TRANSLATION),  # 61e63e7 and c51110d: optimizer, which was adamw, and embedding, which was random
}
MODEL_IS_NEEDED = ("translator", "bag-classifier")  # the latter had no checkpoints; for the others the checkpoint is enough


def commands(name: str) -> dict[str, list[list[Any]]]:
    """Returns the commands as in make.py, with the options that the commit knew."""
    if name.endswith("classifier"):
        return {"before": [["classify.py", "run", name, *OPINIONS]]}
    if name.endswith("translator"):
        use = [["translate.py", "run", name, *SENTENCES, "--beams", 1]]
        return {"before": use, "resume": [["translate.py", "train", "--resume", name, "--steps", 306]], "after": use}
    use = [["generate.py", name, "--prompt", "The ", "--tokens", 40, "--top-k", 1]]
    return {"before": use, "resume": [["train.py", "--resume", name, "--steps", 66]], "after": use}


def main() -> None:
    expected = {}
    shutil.rmtree(HERE, ignore_errors=True)
    for name, (commit, command) in MADE.items():
        with tempfile.TemporaryDirectory() as place:
            checkout, copy = Path(place) / "checkout", Path(place) / "copy"
            subprocess.run(["git", "worktree", "add", "--quiet", "--detach", checkout, commit], cwd=CHECKOUT, check=True)
            copy.mkdir()
            for data in RUNS.glob("*.txt"):
                shutil.copy(data, copy)
            run([*command, "--out", name], copy, checkout)
            (copy / name / "checkpoints" / "best.safetensors").unlink(missing_ok=True)
            if name not in MODEL_IS_NEEDED:
                (copy / name / "model.safetensors").unlink()
            shutil.copytree(copy / name, HERE / name)
            texts = OPINIONS if name.endswith("classifier") else TEXTS if name in ("gpt", "lstm", "early-lstm") else []
            expected[name] = expect(name, commands(name), texts, copy, checkout)
            subprocess.run(["git", "worktree", "remove", "--force", checkout], cwd=CHECKOUT, check=True)
    (HERE / "expected.json").write_text(
        json.dumps({"machine": machine(), "runs": expected}, indent=1, ensure_ascii=False) + "\n", encoding="utf-8"
    )


if __name__ == "__main__":
    main()
