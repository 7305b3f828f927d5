"""How the tests run the commands of the READMEs: by default each with --dry-run added.

A new command in a README needs nothing here if --dry-run is enough and `make_runs` makes the run folders that it reads.
Otherwise SHORTER gives the command that runs in its place, or NOT_RUN the reason why none does.
"""

import json
from pathlib import Path

from script_helpers import ends_well, script_here

from tinylm.data.tokenizers import BpeTokenizer
from tinylm.learn.exercise import course
from tinylm.models import Llama, LlamaConfig

NOT_RUN = {  # how the command begins: why it does not run here
    "pip install": "changes the environment; .ci/run does it on a fresh machine",
    "pytest": "the run that this is a part of",
    "python scripts/train.py --device cuda": "needs a GPU; tests/cuda_on_cpu has training steps of every model",
    "python scripts/benchmark.py --device cuda": "needs a GPU",
    "python scripts/benchmark.py --against torch": "runs, with --dry-run, in tests/scripts/test_benchmark_results.py",
    "python scripts/benchmark.py --products": "runs, with --dry-run, in tests/scripts/test_benchmark_products.py",
    "CMAKE_ARGS=": "compiles llama.cpp, for minutes",
    "mpiexec -n 2": "tests/train/test_distributed.py starts mpiexec, also through scripts/train.py",
    "python scripts/replay.py": "needs a step that failed; tests/train/test_failures.py makes some and repeats them",
}

SHORTER = {  # the command: what runs in its place
    "python scripts/train.py --init smollm2 --lora-rank 8 --data notes.txt --out runs/notes": "python scripts/train.py "
    "--init smollm2 --lora-rank 8 --data notes.txt --out runs/notes --block-size 8 --steps 2",
    "python scripts/long_range.py context RUN '[RUN' '...]'": "python scripts/long_range.py context runs/gpt-tinyshakespeare --dry-run",
    "python scripts/long_range.py context runs/far/7gram runs/far/rnn runs/far/lstm runs/far/gru runs/far/gpt": "python "
    "scripts/long_range.py context runs/7gram runs/gru runs/gpt-tinyshakespeare --contexts 1 8 --dry-run",
    "python scripts/long_range.py copy --no-curriculum": "python scripts/long_range.py copy --no-curriculum --models rnn --dry-run",
    "python scripts/long_range.py gradients": "python scripts/long_range.py gradients --models rnn gpt --dry-run",
    "python scripts/compare_gradients.py --model gpt --steps 100": "python scripts/compare_gradients.py --model gpt --steps 100",
    # one process per point, side and model; tests/scripts/test_growth.py goes through all of them
    "python scripts/growth.py --against torch": "python scripts/growth.py --plot sequence --dry-run",
}

_WORDS = "To be, or not to be: The king is dead. A quick brown fox jumps over the lazy dog.\n"
_TINY = ["--steps", 2, "--n-layer", 3, "--n-head", 2, "--n-embd", 16, "--n-hidden", 8, "--block-size", 24, "--batch-size", 2]
_MODELS = {"mine": "lstm", "gpt-tinyshakespeare": "gpt", "lstm-tinyshakespeare": "lstm", "long": "gpt", "gru": "gru", "7gram": "ngram"}


def stand_in_for_smollm2(folder: Path) -> None:
    """Writes a folder named smollm2, which is found before the model in the package: as deep as the commands need, but narrow.
    The real model is tested in tests/pretrained/test_smollm2.py."""
    config = LlamaConfig(vocab_size=260, block_size=64, n_layer=13, n_head=1, n_kv_head=1, n_embd=8, n_hidden=8)
    Llama(config).save_pretrained(folder)
    definition = json.loads(BpeTokenizer.train(_WORDS, 260).to_json()["definition"])
    (folder / "tokenizer.json").write_text(json.dumps(definition), encoding="utf-8")
    settings = {"chat_template": "{% for m in messages %}{{ m.content }}{% endfor %}"}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings), encoding="utf-8")


def make_runs(folder: Path) -> None:
    """Writes the files and small run folders that the commands name into `folder`, which must be the current one."""
    stand_in_for_smollm2(folder / "smollm2")
    texts = folder / "my_texts"
    texts.mkdir()
    (texts / "a.txt").write_text(_WORDS * 400, encoding="utf-8")
    (folder / "book.txt").write_text(_WORDS * 40, encoding="utf-8")
    (folder / "notes.txt").write_text(_WORDS * 3, encoding="utf-8")
    (folder / "letters.txt").write_text("Größe, naïveté\n" * 200, encoding="latin-1")
    (folder / "diary.txt").write_text("Größe, naïveté\n" * 200, encoding="utf-8")
    for part in ("train", "valid", "test"):
        (folder / f"wiki.{part}.txt").write_text(f"{part}: {_WORDS}" * 40, encoding="utf-8")
    for name, model in _MODELS.items():
        settings = ["--order", 3] if model == "ngram" else _TINY
        ends_well(script_here("train.py", "--model", model, "--data", texts, "--out", f"runs/{name}", *settings))
    adapters = ["--init", "runs/gpt-tinyshakespeare", "--lora-rank", 2, "--block-size", 24, "--steps", 2]
    ends_well(script_here("train.py", "--data", texts, "--out", "runs/fine-tuned", *adapters))
    (folder / "mood.tsv").write_text("1\tI would buy it again.\n0\tWhat a waste of time.\n" * 40, encoding="utf-8")
    shape = ["--width", 8, "--hidden", 8, "--epochs", 1, "--members", 1]
    ends_well(script_here("classify.py", "train", "--model", "lstm", "--data", "mood.tsv", "--out", "runs/mood", *shape))
    (folder / "verses.tsv").write_text("".join(f"In the beginning {n}\tEn el principio {n}\n" for n in range(60)), encoding="utf-8")
    small = ["--n-layer", 1, "--n-head", 2, "--n-embd", 16, "--n-hidden", 16, "--steps", 2, "--bpe-size", 300, "--batch-tokens", 64]
    ends_well(script_here("translate.py", "train", "--data", "verses.tsv", "--out", "runs/es", *small))
    ends_well(script_here("learn.py", "start"))
    (folder / "learning" / "01_multiply.py").write_text(course()[0].solution(), encoding="utf-8")
    save = ["--model", "gpt", "--save", "theirs.safetensors"]
    ends_well(script_here("compare_gradients.py", *save))
