"""Mistakes planted in the CPU kernels are found by the comparison with the reference that the other tests use; and
kernels for processors with narrower vectors agree with the reference."""

import platform
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cpu_builds import compiled_again, compiled_wrong, linked, use
from helpers import assert_close
from kernel_helpers import (
    UPDATE_SETTINGS,
    assert_agrees,
    attention_inputs,
    joint_inputs,
    linear_inputs,
    norm_inputs,
    recurrent_inputs,
    score_inputs,
    update_inputs,
)
from stored_helpers import assert_joint_product, assert_product, stored

from tinylm.bindings.cpu.library import FORMATS, Library
from tinylm.engine.kernels import updates

ATTENTION = "scaled_dot_product_attention"

# (file, its text, the wrong text, the op that shows the mistake)
MISTAKES = [
    ("gru.c", "(z - z * z)", "z", "gru"),
    ("gru.c", "n + z * (h_before[j] - n)", "n + z * h_before[j]", "gru"),
    ("gru.c", "{ds, all, 3 * hidden, stride, dbias_hh}", "{d, all, 3 * hidden, stride, dbias_hh}", "gru"),
    ("lstm.c", "dc[j] = dc_j * f;", "dc[j] = dc_j;", "lstm"),
    ("lstm.c", "dc_j * c_before[j]", "dc_j * c[j]", "lstm"),
    ("rnn.c", "(1 - h[j] * h[j])", "(1 - h[j])", "rnn"),
    ("rnn.c", "plain(states + before(s, 0, 0), hidden), dweight_hh", "plain(states + after(s, 0, 0), hidden), dweight_hh", "rnn"),
    ("linear.c", "z * density", "density", "linear"),
    ("linear.c", "y[j] += residual[j]", "y[j] -= residual[j]", "linear"),
    ("column_sums.c", "row < end", "row < end - 1", "linear"),
    ("products.c", "p->add || d > 0", "p->add", "deep"),
    ("products.c", "(b->transposed ? j * b->stride + l", "(b->transposed ? l * b->stride + j", "deep"),
    ("products.c", "part / best, parts / best", "part % best, parts / best", "linear"),
    ("products.c", "const int64_t l = grains * d / depths", "const int64_t l = 0 * d / depths", "deep"),
    ("few_rows.c", "(load_four(s + 4) + load_four(s + 12))", "load_four(s + 4)", "few_rows"),
    ("few_rows.c", "l + s < k ? rows[i][l + s] : 0", "0", "few_rows"),
    ("few_rows.c", "(i < width ? j + i : j)", "j", "few_rows"),
    ("few_rows.c", "rows * g / groups", "0", "few_rows"),
    ("vectors.h", "rows[3] = SHUFFLED(high01, high23, 2, 3, 6, 7)", "rows[3] = SHUFFLED(high01, high23, 2, 3, 6, 6)", "few_rows"),
    ("panels.c", "transpose(rows);", "", "linear"),
    ("matmul.c", "i * all->b_next", "0", "matmul"),
    ("panels.c", "right[r] += value * b1", "right[r] += value * b0", "gru"),
    ("recurrent.c", "z->running && z->running[t] < last ? z->running[t] : last", "last", "gru"),
    ("recurrent.c", "z->reverse ? i : z->steps - 1 - i", "i", "lstm"),
    ("normalization.c", "rstd * (dx[j] - sum", "rstd * (dx[j]", "layer_norm"),
    ("normalization.c", "dbias[j] += dy[j]", "dbias[j] = dy[j]", "layer_norm"),
    ("normalization.c", "i = j; i < n", "i = j; i < n - 1", "rms_norm"),
    ("cross_entropy.c", "/ (float)classes;\n    int64_t", "* 0;\n    int64_t", "cross_entropy"),
    ("cross_entropy.c", "(1 - b->smoothing) * g", "g", "cross_entropy"),
    ("cross_entropy.c", "(double)valid", "(double)rows", "cross_entropy"),
    ("softmax.c", "y[j] * (dy[j] - sum)", "y[j] * dy[j]", "softmax"),
    ("softmax.c", "exp_to_0(y[j]) * sum", "y[j] * sum", "log_softmax"),
    ("exponentials.h", "total += sum;", "total = sum;", "softmax"),
    ("adamw.c", "s.rest2 * (g * g)", "s.rest2 * g", "adamw"),
    ("adamw.c", "s.decay * w", "s.decay", "adamw"),
    ("sgd.c", "g + s.momentum * v", "g + v", "sgd"),
    ("muon.c", "s.momentum * moved + s.rest * g", "moved", "muon"),
    ("muon.c", "B * g[j] + C * y[j]", "B * g[j]", "muon"),
    ("muon.c", "c[j * stride + i] = c[i * stride + j]", "c[i * stride + j] += 0", "muon"),
    ("muon.c", "i < s->count", "i < s->count - 1", "muon"),
    ("squared_norm.c", "i < blocks", "i < blocks - 1", "squared_norm"),
    ("squared_norm.c", "rest[i] * rest[i]", "0", "squared_norm"),
    ("sums.h", "sums[i] += sums[SUMS + i]", "sums[i] += 0 * sums[SUMS + i]", ATTENTION),
    ("dropout.c", "const int64_t block = i / WORDS;", "const int64_t block = (i - first) / WORDS;", "dropout"),
    ("philox.h", "round < 10", "round < 9", "dropout"),
    ("embedding.c", "sums[j] += dy[j]", "sums[j] = dy[j]", "embedding"),
    ("embedding.c", "== l->padding", "== l->padding + 1", "embedding"),
    ("attention.c", "for (int64_t j = end; j < keys; j++) scores[j] = 0;", "", ATTENTION),
    ("attention.c", "inverse[r] = sum == 0 ? 0 : 1 / sum", "inverse[r] = 1 / sum", ATTENTION),
    ("attention.c", "drawn[i / 2] >> i % 2 * 32", "drawn[i / 2] >> (i + 1) % 2 * 32", ATTENTION),
    ("scaled_dot_product_attention.c", "result_row(f, pair, first + i)", "result_row(f, pair, first)", ATTENTION),
    ("scaled_dot_product_attention_backward.c", "ds[j] - delta_r", "ds[j]", ATTENTION),
    ("scaled_dot_product_attention_backward.c", "r->k, at->width", "r->k_transposed, at->width", ATTENTION),
    ("attention.h", "/ a->at.group * s->head", "/ a->at.group * 0", "grouped"),
    ("scaled_dot_product_attention.c", "pair / at->group != packed", "pair / at->heads != packed", "grouped"),
    ("scaled_dot_product_attention_backward.c", "pair < (shared + 1) * at->group", "pair < shared * at->group + 1", "grouped"),
    ("rotary.c", "x[n + i]", "x[i]", "rotary"),
    ("rotary.c", "y[2 * i + 1] = a * s + b", "y[2 * i + 1] = a * s - b", "rotary"),
    ("rotary.c", "sign * sin[i]", "sin[i]", "rotary"),
    ("rotary.c", "i / at->heads % at->steps", "i / at->heads % at->heads", "rotary"),
    ("swiglu.c", "(1 - s)))", "(1 - a[i])))", "swiglu"),
    ("swiglu.c", "dy[i] * (a[i] * s)", "dy[i] * s", "swiglu"),
    ("joint_linear.c", "z[j] += bias[j]", "z[j] -= bias[j]", "rotary_heads"),
    ("joint_linear.c", "silu_of(gate[j]) * z[j]", "silu_of(z[j]) * gate[j]", "swiglu_linear"),
    ("joint_linear.c", "dx, s->inputs, i > 0, ", "dx, s->inputs, 0, ", "swiglu_linear"),
    ("joint_linear.c", "dz + s->layers[i].offset", "dz", "rotary_heads"),
    ("rotary_heads.c", "cos, sin, 1,", "cos, sin, -1,", "rotary_heads"),
    ("stored_weights.h", "piece * 18 + 2, 8,", "piece * 18 + 2, 7,", "stored_weights"),
    ("stored_weights.h", "float16_at(row + piece * 20), 1,", "float16_at(row + piece * 20), 0,", "stored_weights"),  # no minimum
    ("stored_weights.h", "const int shift = (g & 1) * 4;", "const int shift = (~g & 1) * 4;", "stored_weights"),  # the halves of bytes
    ("stored_weights.h", "(scales[j] >> 6 << 4)", "0", "stored_weights"),  # the scale of the last groups
    ("stored_weights.h", "ds[i * LANES / 16]", "ds[0]", "stored_weights"),  # the scale of the second group
    ("stored_weights.h", "& 3) << 4", "& 1) << 4", "stored_weights"),
    ("stored_weights.c", "(l - first)", "0", "stored_weights"),
    ("stored_weights.c", "stored + (l + i) * b->stride", "stored + i * b->stride", "stored_weights"),
    ("few_rows.c", "decode_run(format, b, pieces * PIECE, k, right);", "", "stored_weights"),
    ("joint_linear.c", "(int)s->layers[i].format, 1)", "(int)s->layers[0].format, 1)", "several_formats"),
    ("functions.h", "y = y * r + 1.0f / 6;", "y = y * r + 1.0f / 5;", "lstm"),
]


@pytest.fixture(scope="module")
def right(workspace: Path) -> Path:
    """Returns the kernels without a mistake, as a library."""
    return linked(workspace, "right", {})


def compare_update(name: str) -> None:
    settings: dict[str, dict[str, Any]] = {
        "adamw": {**UPDATE_SETTINGS, "decoupled": False, "grad_scale": 0.5},
        "sgd": {"lr": 0.1, "momentum": 0.9, "weight_decay": 0.3, "nesterov": True, "step": 2, "grad_scale": 0.5},
        "squared_norm": {},
        "muon": {"lr": 3.0, "momentum": 0.9, "weight_decay": 0.3, "grad_scale": 0.5},
    }
    shape = (3 * 41, 41) if name == "muon" else 5000
    found, expected = update_inputs(shape), update_inputs(shape, "float64")
    count = {"adamw": 4, "sgd": 3, "muon": 3, "squared_norm": 1}[name]
    for arrays in (found, expected):
        total = [np.zeros((), arrays[0].dtype)] if name == "squared_norm" else []
        arrays[count:] = total
        updates[name](*arrays, **settings[name])
    assert_close({str(i): (f, e.astype(np.float32)) for i, (f, e) in enumerate(zip(found, expected, strict=True))}, 1e-5)


def compare(op: str) -> None:
    if op == "linear":
        assert_agrees("linear", *linear_inputs((70, 20), 90), device="cpu", activation="gelu")
        assert_agrees("linear", *linear_inputs((9, 800), 90), device="cpu")
    elif op == "deep":
        assert_agrees("linear", *linear_inputs((30, 800), 90), device="cpu")
    elif op == "few_rows":
        assert_agrees("linear", *linear_inputs((9, 90), 30), device="cpu")
    elif op == "matmul":
        rng = np.random.default_rng(0)
        assert_agrees("matmul", rng.standard_normal((3, 4, 5)), rng.standard_normal((3, 5, 6)), device="cpu")
    elif op in ("layer_norm", "rms_norm"):
        assert_agrees(op, *norm_inputs((70, 75))[: 3 if op == "layer_norm" else 2], device="cpu")
    elif op in ("softmax", "log_softmax"):
        assert_agrees(op, score_inputs((3, 1100))[0], device="cpu")
    elif op == "cross_entropy":
        scores, targets = score_inputs((9, 20))
        targets[3] = -100
        assert_agrees(op, scores, targets, device="cpu", label_smoothing=0.2)
    elif op == "embedding":
        assert_agrees(op, np.arange(30) % 7, np.random.default_rng(0).standard_normal((8, 40)), device="cpu", padding_idx=2)
    elif op == "dropout":
        assert_agrees(op, np.ones(30_001), device="cpu", p=0.3, key=(1, 2))
    elif op == "grouped":
        q, _, _ = attention_inputs(2, 6, steps=50, keys=50, width=9)
        _, k, v = attention_inputs(2, 2, steps=50, keys=50, width=9)
        assert_agrees(ATTENTION, q, k, v, device="cpu", causal=True)
    elif op == "rotary":
        for pairing in ("half", "interleaved"):
            assert_agrees(
                op,
                np.random.default_rng(0).standard_normal((2, 3, 5, 6)),
                frequencies=(1.0, 0.2, 0.05),
                start=3,
                device="cpu",
                pairing=pairing,
            )
    elif op == "swiglu":
        assert_agrees(op, *np.random.default_rng(0).standard_normal((2, 7, 50)), device="cpu")
    elif op == "swiglu_linear":
        assert_agrees(op, *joint_inputs((70, 20), 90, 90), device="cpu")
    elif op == "rotary_heads":
        assert_agrees(op, *joint_inputs((2, 35, 20), 60, 30, 24), device="cpu", frequencies=(1.0, 0.2, 0.05), start=3)
    elif op in updates:
        compare_update(op)
    elif op == "stored_weights":
        for format in FORMATS:
            for rows, columns, batch in ((5, 256, 1), (5, 1280, 40), (600, 512, 40), (5, 768, 3)):
                w = stored(format, rows, columns if format not in ("F16", "BF16") else columns + 5)
                assert_product(w, batch, np.random.default_rng(0))
    elif op == "several_formats":
        assert_joint_product("swiglu_linear", 3)
    elif op == ATTENTION:
        mask = np.random.default_rng(0).random((50, 50)) < 0.9
        mask[7] = False
        assert_agrees(op, *attention_inputs(2, steps=50, keys=50, width=9), mask, device="cpu", causal=True, dropout=0.2, key=(1, 2))
    else:
        assert_agrees(op, *recurrent_inputs(op, batch=9, hidden=40), device="cpu")
        assert_agrees(op, *recurrent_inputs(op), device="cpu", lengths=np.array([2, 3, 1, 2]))


@pytest.mark.parametrize("op", sorted({op for *_, op in MISTAKES}))
def test_without_a_mistake_they_agree(native_cpu: Library, right: Path, monkeypatch: pytest.MonkeyPatch, op: str) -> None:
    use(right, monkeypatch)
    compare(op)


@pytest.mark.parametrize("number", range(len(MISTAKES)), ids=lambda number: f"{MISTAKES[number][0]}-{number}")
def test_a_mistake_is_found(native_cpu: Library, workspace: Path, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    file, right, wrong, op = MISTAKES[number]
    users = ["attention", ATTENTION, f"{ATTENTION}_backward"] if file in ("attention.h", "sums.h") else [op]
    users = ["few_rows", "stored_weights"] if file == "stored_weights.h" else users
    changed = [file] if file.endswith(".c") else [f"{user}.c" for user in users]
    others = compiled_wrong(workspace, f"wrong-{number}", file, {right: wrong}, changed)
    use(linked(workspace, f"wrong-{number}", others), monkeypatch)
    with np.errstate(all="ignore"), pytest.raises(AssertionError, match="relative error"):  # unwritten memory may contain anything
        compare(op)


@pytest.mark.skipif(platform.machine() != "x86_64", reason="its options are those of x86-64")
@pytest.mark.parametrize("option", ["-mno-avx512f", "-mno-avx"])
def test_narrower_vectors_agree(native_cpu: Library, workspace: Path, monkeypatch: pytest.MonkeyPatch, option: str) -> None:
    names = [
        "panels",
        "products",
        "few_rows",
        "stored_weights",
        "recurrent",
        "gru",
        "normalization",
        "softmax",
        "attention",
        ATTENTION,
        f"{ATTENTION}_backward",
    ]
    others = compiled_again(workspace, f"narrow{option}", [f"{name}.c" for name in names], option)
    use(linked(workspace, f"narrow{option}", others), monkeypatch)
    for op in ("linear", "few_rows", "stored_weights", "gru", "layer_norm", "softmax", ATTENTION):
        compare(op)
