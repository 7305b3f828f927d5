"""The steps to measure, with tinylm."""

from collections.abc import Callable
from typing import Any

import numpy as np

import tinylm
from benchmark.workloads import STORED_TEXT, Side, Workload, decay_groups, peak_megabytes
from tinylm.decode import Sampling, generate
from tinylm.engine.devices import device_namespace, to_device
from tinylm.models import GPT, GPTConfig, LanguageModel, Llama, LlamaConfig, RNNModel, TransformerModel
from tinylm.optim import SGD, AdamW


def tinylm_side(work: Workload, device: str, precision: str = "float32") -> Side:
    """precision: of a training step's products."""
    model = build(work)
    model.to(device)
    step = generation(model, work, device) if work.prompt else training(model, work, device, precision)
    if device == "cpu":
        return Side(step, peak_megabytes)
    space = device_namespace(device)

    def mark() -> Any:
        event = space.cuda.Event()
        event.record()
        return event

    def seconds(a: Any, b: Any) -> float:
        b.synchronize()
        return space.cuda.get_elapsed_time(a, b) / 1e3

    return Side(step, lambda: space.get_default_memory_pool().total_bytes() / 2**20, mark, seconds)


def build(work: Workload) -> LanguageModel:
    if work.model == "gpt":
        return GPT(GPTConfig(work.vocab_size, work.block_size, work.layers, work.heads, work.width, work.dropout))
    if work.model == "llama":
        shape = {"n_layer": work.layers, "n_head": work.heads, "n_kv_head": work.kv_heads, "n_embd": work.width, "n_hidden": work.hidden}
        return Llama(LlamaConfig(work.vocab_size, work.block_size, **shape, dropout=work.dropout))
    if work.model == "transformer":
        return TransformerModel(work.vocab_size, work.width, work.heads, work.width, work.layers, work.dropout)
    return RNNModel(work.model, work.vocab_size, work.width, work.width, work.layers, work.dropout)


def training(model: Any, work: Workload, device: str, precision: str = "float32") -> Callable[[np.ndarray], Any]:
    optimizer: Any
    if work.rows_first:
        optimizer, max_norm = AdamW(decay_groups(model.parameters()), lr=1e-3, betas=(0.9, 0.99)), 1.0
    else:
        optimizer, max_norm = SGD(model.parameters(), lr=5.0), 0.5

    def step(rows: np.ndarray) -> tinylm.Tensor:
        pairs = (rows[:, :-1], rows[:, 1:]) if work.rows_first else (rows[:-1], rows[1:])
        x, y = (tinylm.Tensor(to_device(a, device)) for a in pairs)
        with tinylm.products(precision):
            logits = model(x)
            loss = tinylm.cross_entropy(logits[0] if isinstance(logits, tuple) else logits, y)  # a recurrent model also returns its state
            optimizer.zero_grad()
            loss.backward()
            optimizer.step(max_norm=max_norm)
        return loss

    return step


def generation(model: LanguageModel, work: Workload, device: str) -> Callable[[np.ndarray], Any]:
    sampling = Sampling(greedy=work.model == "llama")

    def step(prompt: np.ndarray) -> None:
        for _ in generate(model, prompt[0].tolist(), work.block_size - work.prompt, sampling, device=device):
            pass

    return step


def stored_side(work: Workload) -> Side:
    """Continues a text with SmolLM2 from its file."""
    from tinylm.pretrained.model_loading import load_pretrained, smollm2_file  # here: other workloads need no file

    model, tokenizer = load_pretrained(smollm2_file(), "stored")
    prompt = tokenizer.encode(STORED_TEXT).tolist()[: work.prompt]

    def step(_: np.ndarray) -> list[int]:
        return list(generate(model, prompt, work.block_size - work.prompt, Sampling(greedy=True)))

    return Side(step, peak_megabytes)
