"""The steps to measure, with PyTorch. Importing this file imports PyTorch."""

import inspect
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch.nn import functional as F

from benchmark.workloads import Side, Workload, decay_groups, peak_megabytes
from tinylm.errors import ConfigError
from tinylm.models.gpt import GPTConfig
from tinylm.verify.torch.models import TorchGPT, TorchRNNModel, TorchTransformerModel


def torch_side(work: Workload, device: str, compiled: bool = False, autocast: bool = False) -> Side:
    """autocast: a training step's products are in bfloat16."""
    model = build(work).to(device)
    if work.prompt:
        step = (greedy_generation if work.model == "llama" else generation)(model, work, device, compiled)
    else:
        step = training(model, work, device, compiled, autocast)
    if device == "cpu":
        return Side(step, peak_megabytes)

    def mark() -> Any:
        event = torch.cuda.Event(enable_timing=True)
        event.record(torch.cuda.current_stream(device))
        return event

    def seconds(a: Any, b: Any) -> float:
        b.synchronize()
        return a.elapsed_time(b) / 1e3

    return Side(step, lambda: torch.cuda.max_memory_reserved(device) / 2**20, mark, seconds)


def build(work: Workload) -> torch.nn.Module:
    if work.model == "gpt":
        return TorchGPT(GPTConfig(work.vocab_size, work.block_size, work.layers, work.heads, work.width, work.dropout))
    if work.model == "llama":
        return llama(work)
    if work.model == "transformer":
        return TorchTransformerModel(work.vocab_size, work.width, work.heads, work.width, work.layers, work.dropout)
    return TorchRNNModel(work.model, work.vocab_size, work.width, work.width, work.layers, work.dropout)


def llama(work: Workload) -> Any:
    """Returns Hugging Face's model."""
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        vocab_size=work.vocab_size, hidden_size=work.width, intermediate_size=work.hidden, num_hidden_layers=work.layers,
        num_attention_heads=work.heads, num_key_value_heads=work.kv_heads, max_position_embeddings=work.block_size,
        rms_norm_eps=1e-5, tie_word_embeddings=True,
    )  # fmt: skip
    return LlamaForCausalLM(config)


def training(
    model: torch.nn.Module, work: Workload, device: str, compiled: bool, autocast: bool = False
) -> Callable[[np.ndarray], Any]:  # fmt: skip
    optimizer: torch.optim.Optimizer
    if work.rows_first:
        optimizer, max_norm = torch.optim.AdamW(decay_groups(model.parameters()), lr=1e-3, betas=(0.9, 0.99), fused=True), 1.0
    else:
        optimizer, max_norm = torch.optim.SGD(model.parameters(), lr=5.0, fused=True), 0.5

    def on_device(array: np.ndarray) -> torch.Tensor:
        host = torch.from_numpy(np.ascontiguousarray(array))
        return host if device == "cpu" else host.pin_memory().to(device, non_blocking=True)

    def loss_of(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        logits = model(x)
        logits = logits[0] if isinstance(logits, tuple) else getattr(logits, "logits", logits)
        return F.cross_entropy(logits.view(-1, work.vocab_size), y.view(-1))

    loss_function = torch.compile(loss_of, dynamic=False) if compiled else loss_of
    kind = torch.device(device).type

    def step(rows: np.ndarray) -> torch.Tensor:
        x, y = (rows[:, :-1], rows[:, 1:]) if work.rows_first else (rows[:-1], rows[1:])
        with torch.autocast(kind, torch.bfloat16, enabled=autocast):  # the backward pass then has the forward pass's types
            loss = loss_function(on_device(x), on_device(y))
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), max_norm)
        optimizer.step()
        return loss.detach()

    return step


# ---------------------------------------------------------------- generation with a cache


def cached_logits(model: Any, ids: torch.Tensor, position: torch.Tensor, cache: torch.Tensor, stop: int | None = None) -> torch.Tensor:
    """Returns the logits (N, V) of the next token, for ids (N, T) at `position` (T,).

    cache (layers, 2, N, heads, block, C/heads) gets their keys and values. It is read up to `stop`,
    the end of these positions, or as a whole under a mask.
    """
    trunk = model.transformer
    x = trunk["wte"](ids) + trunk["wpe"](position)
    n, t, width = x.shape
    mask = torch.arange(cache.shape[4], device=ids.device) <= position[:, None] if stop is None else None
    for block, (keys, values) in zip(trunk["h"], cache, strict=True):
        attention = block.attn
        heads = (part.view(n, t, attention.n_head, -1).transpose(1, 2) for part in attention.c_attn(block.ln_1(x)).split(width, dim=2))
        q, k, v = heads
        keys.index_copy_(2, position, k)
        values.index_copy_(2, position, v)
        y = F.scaled_dot_product_attention(q, keys[:, :, :stop], values[:, :, :stop], mask, is_causal=mask is None and t > 1)
        x = x + attention.c_proj(y.transpose(1, 2).reshape(n, t, width))
        x = x + block.mlp(block.ln_2(x))
    return model.lm_head(trunk["ln_f"](x[:, -1]))


def generation(model: Any, work: Workload, device: str, compiled: bool) -> Callable[[np.ndarray], Any]:
    """Draws each token from the softmax. Compiled, every step reads the whole cache, since a changed
    shape would be compiled again."""
    model.eval()
    cache = torch.zeros(work.layers, 2, work.batch_size, work.heads, work.block_size, work.width // work.heads, device=device)
    next_logits: Any = torch.compile(cached_logits, dynamic=False) if compiled else cached_logits

    @torch.inference_mode()
    def step(prompt: np.ndarray) -> list[int]:
        logits = cached_logits(model, torch.from_numpy(prompt).to(device), torch.arange(work.prompt, device=device), cache, work.prompt)
        text = []
        for at in range(work.prompt, work.block_size):
            drawn = torch.multinomial(logits.softmax(-1), 1)
            text.append(drawn[0, 0].item())  # each token is shown as soon as it is known
            if at + 1 < work.block_size:
                logits = next_logits(model, drawn, torch.tensor([at], device=device), cache, None if compiled else at + 1)
        return text

    return step


def greedy_generation(model: Any, work: Workload, device: str, compiled: bool) -> Callable[[np.ndarray], Any]:
    """Uses Hugging Face's growing cache; compiled, its cache of a fixed size, since a changed shape would be compiled again. Raises
    ConfigError for a version of transformers that would leave the cache aside."""
    from transformers import DynamicCache, StaticCache
    from transformers.models.llama.modeling_llama import LlamaModel

    if "cache" not in inspect.signature(LlamaModel.forward).parameters:
        raise ConfigError("these transformers take no cache= and would compute every token again: pip install --upgrade transformers")

    model.eval()
    forward: Any = torch.compile(model, dynamic=False) if compiled else model

    @torch.inference_mode()
    def step(prompt: np.ndarray) -> list[int]:
        cache = StaticCache(model.config, work.block_size) if compiled else DynamicCache(config=model.config)
        ids, text = torch.from_numpy(prompt).to(device), []
        for _ in range(work.prompt, work.block_size):
            run = forward if text else model
            ids = run(ids, cache=cache, use_cache=True, logits_to_keep=1).logits[:, -1].argmax(-1, keepdim=True)
            text.append(ids.item())
        return text

    return step
