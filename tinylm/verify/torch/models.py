"""Models written with PyTorch, to compare tinylm's with: for the parity tests, the benchmark and comparisons.

State-dict names equal those of the tinylm models. Importing this file imports PyTorch.
"""

import math
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from tinylm.models.gpt import GPTConfig
from tinylm.models.llama import LlamaConfig


class _Attention(nn.Module):
    def __init__(self, c: GPTConfig) -> None:
        super().__init__()
        self.n_head, self.dropout = c.n_head, c.dropout
        self.c_attn = nn.Linear(c.n_embd, 3 * c.n_embd, bias=c.bias)
        self.c_proj = nn.Linear(c.n_embd, c.n_embd, bias=c.bias)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        n, t, c = x.shape
        q, k, v = (part.view(n, t, self.n_head, -1).transpose(1, 2) for part in self.c_attn(x).split(c, dim=2))
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True, dropout_p=self.dropout if self.training else 0.0)
        return self.c_proj(y.transpose(1, 2).reshape(n, t, c))


class _MLP(nn.Module):
    def __init__(self, c: GPTConfig) -> None:
        super().__init__()
        self.approximate = "tanh" if c.activation == "gelu_tanh" else "none"
        self.c_fc = nn.Linear(c.n_embd, 4 * c.n_embd, bias=c.bias)
        self.c_proj = nn.Linear(4 * c.n_embd, c.n_embd, bias=c.bias)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.c_proj(F.gelu(self.c_fc(x), approximate=self.approximate))


class _Block(nn.Module):
    def __init__(self, c: GPTConfig) -> None:
        super().__init__()
        self.ln_1 = nn.LayerNorm(c.n_embd, c.norm_eps, bias=c.bias)
        self.attn = _Attention(c)
        self.ln_2 = nn.LayerNorm(c.n_embd, c.norm_eps, bias=c.bias)
        self.mlp = _MLP(c)
        self.drop = nn.Dropout(c.dropout)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = x + self.drop(self.attn(self.ln_1(x)))
        return x + self.drop(self.mlp(self.ln_2(x)))


class TorchGPT(nn.Module):
    """tinylm.models.GPT in PyTorch: ids (N, T) -> logits (N, T, vocab_size)."""

    def __init__(self, c: GPTConfig) -> None:
        super().__init__()
        self.config = c
        parts: dict[str, Any] = {
            "wte": nn.Embedding(c.vocab_size, c.n_embd),
            "wpe": nn.Embedding(c.block_size, c.n_embd),
            "drop": nn.Dropout(c.dropout),
            "h": nn.Sequential(*(_Block(c) for _ in range(c.n_layer))),
            "ln_f": nn.LayerNorm(c.n_embd, c.norm_eps, bias=c.bias),
        }
        self.transformer = nn.ModuleDict(parts)
        self.lm_head = nn.Linear(c.n_embd, c.vocab_size, bias=False)
        if c.tied:
            self.lm_head.weight = parts["wte"].weight

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        parts: Any = self.transformer
        x = parts["drop"](parts["wte"](ids) + parts["wpe"](torch.arange(ids.shape[1], device=ids.device)))
        return self.lm_head(parts["ln_f"](parts["h"](x)))


class _LlamaLayer(nn.Module):
    def __init__(self, c: LlamaConfig) -> None:
        super().__init__()
        self.c = c
        width, hidden, queries, keys = c.n_embd, c.n_hidden, c.n_head * c.head_width, c.n_kv_head * c.head_width
        attention = {"q": (width, queries), "k": (width, keys), "v": (width, keys), "o": (queries, width)}
        mlp = {"gate": (width, hidden), "up": (width, hidden), "down": (hidden, width)}
        self.self_attn = nn.ModuleDict({f"{name}_proj": nn.Linear(*sizes, c.attention_bias) for name, sizes in attention.items()})
        self.mlp = nn.ModuleDict({f"{name}_proj": nn.Linear(*sizes, c.mlp_bias) for name, sizes in mlp.items()})
        self.input_layernorm = nn.RMSNorm(c.n_embd, c.norm_eps)
        self.post_attention_layernorm = nn.RMSNorm(c.n_embd, c.norm_eps)
        self.drop = nn.Dropout(c.dropout)

    def turned(self, x: torch.Tensor) -> torch.Tensor:
        """x (N, heads, T, D) with rotary positions, as a product of complex numbers."""
        angles = torch.arange(x.shape[2], dtype=x.dtype)[:, None] * torch.tensor(self.c.frequencies_at(x.shape[2]), dtype=x.dtype)
        interleaved = self.c.rope_pairing == "interleaved"
        a, b = (x[..., ::2], x[..., 1::2]) if interleaved else x.chunk(2, -1)
        z = torch.complex(a, b) * torch.polar(torch.full_like(angles, self.c.rope_attention), angles).to(x.device)
        return torch.stack((z.real, z.imag), -1).flatten(-2) if interleaved else torch.cat((z.real, z.imag), -1)

    def attention(self, x: torch.Tensor) -> torch.Tensor:
        n, t, _ = x.shape
        parts: Any = self.self_attn
        q, k, v = (parts[f"{name}_proj"](x).view(n, t, -1, self.c.head_width).transpose(1, 2) for name in "qkv")
        dropout = self.c.dropout if self.training else 0.0
        y = F.scaled_dot_product_attention(self.turned(q), self.turned(k), v, is_causal=True, dropout_p=dropout, enable_gqa=True)
        return parts["o_proj"](y.transpose(1, 2).reshape(n, t, -1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = x + self.drop(self.attention(self.input_layernorm(x)))
        y, parts = self.post_attention_layernorm(x), self.mlp
        return x + self.drop(parts["down_proj"](F.silu(parts["gate_proj"](y)) * parts["up_proj"](y)))


class TorchLlama(nn.Module):
    """tinylm.models.Llama in PyTorch: ids (N, T) -> logits (N, T, vocab_size). Unlike Hugging Face's, whose angles are
    float32 in a float64 model too, it computes all in its own dtype."""

    def __init__(self, c: LlamaConfig) -> None:
        super().__init__()
        parts: dict[str, Any] = {
            "embed_tokens": nn.Embedding(c.vocab_size, c.n_embd),
            "layers": nn.Sequential(*(_LlamaLayer(c) for _ in range(c.n_layer))),
            "norm": nn.RMSNorm(c.n_embd, c.norm_eps),
            "drop": nn.Dropout(c.dropout),
        }
        self.model = nn.ModuleDict(parts)
        self.lm_head = nn.Linear(c.n_embd, c.vocab_size, bias=False)
        if c.tied:
            self.lm_head.weight = parts["embed_tokens"].weight

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        parts: Any = self.model
        x = parts["drop"](parts["embed_tokens"](ids))
        return self.lm_head(parts["norm"](parts["layers"](x)))


class TorchPositionalEncoding(nn.Module):
    """tinylm.nn.PositionalEncoding in PyTorch."""

    pe: torch.Tensor

    def __init__(self, d_model: int, dropout: float, max_len: int = 5000) -> None:
        super().__init__()
        self.dropout = nn.Dropout(dropout)
        angles = torch.arange(max_len)[:, None] * torch.exp(torch.arange(0, d_model, 2) * (-math.log(10000.0) / d_model))
        pe = torch.zeros(max_len, 1, d_model)
        pe[:, 0, 0::2] = torch.sin(angles)
        pe[:, 0, 1::2] = torch.cos(angles[:, : d_model // 2])
        self.register_buffer("pe", pe)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.dropout(x + self.pe[: x.shape[0]])


class TorchTransformerModel(nn.Module):
    """tinylm.models.TransformerModel in PyTorch: ids (T, N) -> logits (T, N, ntoken)."""

    def __init__(self, ntoken: int, ninp: int, nhead: int, nhid: int, nlayers: int, dropout: float = 0.5) -> None:
        super().__init__()
        self.ninp = ninp
        self.pos_encoder = TorchPositionalEncoding(ninp, dropout)
        layer = nn.TransformerEncoderLayer(ninp, nhead, nhid, dropout)
        self.transformer_encoder = nn.TransformerEncoder(layer, nlayers, enable_nested_tensor=False)
        self.encoder = nn.Embedding(ntoken, ninp)
        self.decoder = nn.Linear(ninp, ntoken)

    def forward(self, src: torch.Tensor, has_mask: bool = True) -> torch.Tensor:
        weight = self.decoder.weight
        mask = nn.Transformer.generate_square_subsequent_mask(src.shape[0], weight.device, weight.dtype) if has_mask else None
        x = self.pos_encoder(self.encoder(src) * math.sqrt(self.ninp))
        return self.decoder(self.transformer_encoder(x, mask, is_causal=has_mask))


class TorchRNNModel(nn.Module):
    """tinylm.models.RNNModel in PyTorch: ids (T, N) -> logits (T, N, ntoken) and the state."""

    def __init__(
        self, rnn_type: str, ntoken: int, ninp: int, nhid: int, nlayers: int, dropout: float = 0.5,
        nonlinearity: str = "tanh", input_dropout: float | None = None,
    ) -> None:  # fmt: skip
        super().__init__()
        self.drop = nn.Dropout(dropout)
        self.input_drop = nn.Dropout(dropout if input_dropout is None else input_dropout)
        self.encoder = nn.Embedding(ntoken, ninp)
        settings: dict[str, Any] = {"nonlinearity": nonlinearity} if rnn_type == "rnn" else {}
        self.rnn: Any = {"rnn": nn.RNN, "lstm": nn.LSTM, "gru": nn.GRU}[rnn_type](ninp, nhid, nlayers, dropout=dropout, **settings)
        self.decoder = nn.Linear(nhid, ntoken)

    def forward(self, ids: torch.Tensor, hidden: Any = None) -> tuple[torch.Tensor, Any]:
        y, hidden = self.rnn(self.input_drop(self.encoder(ids)), hidden)
        return self.decoder(self.drop(y)), hidden


class TorchTranslator(nn.Module):
    """tinylm.models.translator.Translator in PyTorch: the two halves of torch.nn.Transformer between an
    embedding and its transpose. Takes ids (N, S), lengths (N,) and ids (N, T), gives logits (N, T, vocab_size).
    """

    def __init__(
        self, vocab_size: int, d_model: int, nhead: int, dim_feedforward: int, num_layers: int, dropout: float, max_len: int
    ) -> None:
        super().__init__()
        self.d_model = d_model
        self.embedding = nn.Embedding(vocab_size, d_model)
        self.positions = TorchPositionalEncoding(d_model, dropout, max_len)
        layer = nn.TransformerEncoderLayer(d_model, nhead, dim_feedforward, dropout, norm_first=True)
        whole = nn.Transformer(
            d_model, nhead, num_decoder_layers=num_layers, dim_feedforward=dim_feedforward, dropout=dropout, norm_first=True,
            custom_encoder=nn.TransformerEncoder(layer, num_layers, nn.LayerNorm(d_model), enable_nested_tensor=False),  # or it warns
        )  # fmt: skip
        self.encoder, self.decoder = whole.encoder, whole.decoder

    def forward(self, source: torch.Tensor, lengths: torch.Tensor, target_in: torch.Tensor) -> torch.Tensor:
        padding = torch.arange(source.shape[1], device=source.device) >= lengths[:, None]
        future = torch.ones(target_in.shape[1], target_in.shape[1], dtype=torch.bool, device=source.device).triu(1)
        memory = self.encoder(self._embed(source), src_key_padding_mask=padding)
        y = self.decoder(self._embed(target_in), memory, tgt_mask=future, memory_key_padding_mask=padding, tgt_is_causal=True)
        return F.linear(y.transpose(0, 1), self.embedding.weight)

    def _embed(self, ids: torch.Tensor) -> torch.Tensor:
        return self.positions(self.embedding(ids.T) * math.sqrt(self.d_model))


class TorchRecurrentTranslator(nn.Module):
    """tinylm.models.translator.RecurrentTranslator in PyTorch: two LSTMs, of which the first reads each source
    backwards from its end, packed. Takes ids (N, S), lengths (N,) and ids (N, T), gives logits (N, T, vocab_size).
    """

    def __init__(self, vocab_size: int, width: int, num_layers: int, dropout: float) -> None:
        super().__init__()
        self.embedding = nn.Embedding(vocab_size, width)
        self.drop = nn.Dropout(dropout)
        self.encoder = nn.LSTM(width, width, num_layers, dropout=dropout)
        self.decoder = nn.LSTM(width, width, num_layers, dropout=dropout)

    def forward(self, source: torch.Tensor, lengths: torch.Tensor, target_in: torch.Tensor) -> torch.Tensor:
        backwards = torch.stack([torch.cat([row[:n].flip(0), row[n:]]) for row, n in zip(source, lengths.tolist(), strict=True)])
        x = self.drop(self.embedding(backwards.T))
        _, state = self.encoder(nn.utils.rnn.pack_padded_sequence(x, lengths.cpu(), enforce_sorted=False))
        y, _ = self.decoder(self.drop(self.embedding(target_in.T)), state)
        return F.linear(self.drop(y).transpose(0, 1), self.embedding.weight)
