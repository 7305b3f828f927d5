"""The program of test_large_texts.py: `python large_text_program.py FILE FOLDER`. Trains on a text that is too long for
memory; prints the peak of the memory in MiB, the number of tokens, and where they are."""

import json
import sys
from pathlib import Path

import numpy as np

from tinylm.data import encoding, open_corpus
from tinylm.train import Run, TrainConfig


def main(file: str, folder: str) -> None:
    encoding.IN_MEMORY = 1_000_000
    corpus = open_corpus(file)
    config = TrainConfig(steps=5, n_layer=1, n_head=2, n_embd=16, batch_size=8, eval_every=5, log_every=5)
    run = Run(config, Path(folder), corpus)
    run.task.val_ids = run.task.val_ids[:10_000]
    run.train()
    status = Path("/proc/self/status").read_text(encoding="ascii")  # getrusage would also count the parent before exec
    peak = int(status.partition("VmHWM:")[2].split()[0]) >> 10
    print(json.dumps([peak, len(run.task.train_ids), isinstance(run.task.train_ids, np.memmap)]))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
