"""Small versions of the workloads of scripts/benchmark.py."""

import sys

from script_helpers import SCRIPTS

sys.path.insert(0, str(SCRIPTS))

from benchmark.workloads import Workload

sys.path.remove(str(SCRIPTS))

TINY = {
    "gpt": Workload("gpt", 2, 8, block_size=6, batch_size=2, steps=4, heads=2, vocab_size=11),
    "transformer": Workload("transformer", 2, 8, block_size=6, batch_size=3, steps=4, heads=2, vocab_size=11),
    **{name: Workload(name, 2, 8, block_size=6, batch_size=3, steps=4, vocab_size=11) for name in ("rnn", "lstm", "gru")},  # type: ignore[arg-type]
    "decode": Workload("gpt", 2, 8, block_size=12, batch_size=1, steps=4, heads=2, vocab_size=11, prompt=3),
    "llama": Workload("llama", 2, 8, block_size=6, batch_size=2, steps=4, heads=2, vocab_size=11, hidden=12),
    "decode-llama": Workload("llama", 2, 8, block_size=12, batch_size=1, steps=4, heads=2, vocab_size=11, hidden=12, prompt=3),
}
