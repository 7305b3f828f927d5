"""The step to measure with llama.cpp, which reads SmolLM2's file. tinylm is not imported here: it would add to the memory measured."""

import itertools
import subprocess
import sys

import numpy as np

from benchmark.workloads import STORED_TEXT, Side, Workload, peak_megabytes


def file_and_threads() -> tuple[str, int]:
    """Returns SmolLM2's file and the number of threads that tinylm has, which another process says."""
    program = (
        "from tinylm.bindings.cpu.cores import thread_count\n"
        "from tinylm.pretrained.model_loading import smollm2_file\n"
        "print(smollm2_file())\nprint(thread_count())"
    )
    shown = subprocess.run([sys.executable, "-P", "-c", program], capture_output=True, encoding="utf-8", check=True).stdout
    path, threads = shown.splitlines()
    return path, int(threads)


def llama_cpp_side(work: Workload, path: str, threads: int) -> Side:
    """path: SmolLM2's file, whose own tokenizer cuts the prompt, as on tinylm's side."""
    from llama_cpp import Llama

    llama = Llama(path, n_ctx=work.block_size, n_threads=threads, n_threads_batch=threads, verbose=False)
    prompt = llama.tokenize(STORED_TEXT.encode(), add_bos=False)[: work.prompt]

    def step(_: np.ndarray) -> list[int]:
        llama.reset()  # else it would keep the state of the same prompt
        return list(itertools.islice(llama.generate(prompt, temp=0.0), work.block_size - work.prompt))

    return Side(step, peak_megabytes)
