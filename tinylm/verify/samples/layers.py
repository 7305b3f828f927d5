"""Samples of the functions that layers are made of: products, norms, losses, attention, recurrence."""

import numpy as np

from tinylm.verify.samples.registry import Rng, Sample, Samples, nonzero, normal, sample, samples_for


@samples_for("matmul")
def _matmul(rng: Rng) -> Samples:
    yield sample("matrices", normal(rng, 2, 3), normal(rng, 3, 4))
    yield sample("batches", normal(rng, 2, 3, 4), normal(rng, 2, 4, 2))
    yield sample("batch and matrix", normal(rng, 2, 3, 4), normal(rng, 4, 2))
    yield sample("matrix and batch", normal(rng, 3, 4), normal(rng, 2, 4, 2))
    yield sample("broadcast batches", normal(rng, 2, 1, 2, 3), normal(rng, 3, 3, 2))
    yield sample("vector and matrix", normal(rng, 3), normal(rng, 3, 2))
    yield sample("matrix and vector", normal(rng, 2, 3), normal(rng, 3))
    yield sample("vectors", normal(rng, 4), normal(rng, 4))
    yield sample("batch and vector", normal(rng, 2, 3, 4), normal(rng, 4))
    yield sample("vector and batch", normal(rng, 3), normal(rng, 2, 3, 2))
    yield sample("wide", normal(rng, 2, 17, 33), normal(rng, 33, 19))
    yield sample("no rows", normal(rng, 0, 3), normal(rng, 3, 2))
    yield sample("nothing to sum", normal(rng, 2, 0), normal(rng, 0, 3))


@samples_for("einsum")
def _einsum(rng: Rng) -> Samples:
    def arrays(*shapes: tuple[int, ...]) -> list[np.ndarray]:
        return [normal(rng, *shape) for shape in shapes]

    yield sample("matrices", arrays((2, 3), (3, 4)), "ij,jk->ik")
    yield sample("attention scores", arrays((2, 3, 2, 4), (2, 5, 2, 4)), "bqhd,bkhd->bhqk")
    yield sample("without a result's letters", arrays((2, 3), (4, 3)), "zj,aj")
    yield sample("three operands", arrays((2, 3), (3, 4), (2, 4)), "ij,jk,ik->j")
    yield sample("outer product, spaces", arrays((2,), (3,)), " i , j -> j i ")
    yield sample("element by element", arrays((2, 3), (2, 3)), "ij,ij->ij")
    yield sample("a letter of its own", arrays((2, 3), (4,)), "ij,k->k")
    yield sample("transposed", arrays((2, 3, 4)), "ijk->kij")
    yield sample("trace", arrays((3, 3)), "ii")
    yield sample("diagonal twice", arrays((3, 2, 3), (3, 3)), "iji,ii->ij")
    yield sample("ellipsis", arrays((2, 1, 3, 4), (5, 4, 2)), "...ij,...jk->...ik")
    yield sample("ellipsis between", arrays((3, 2, 2, 4), (4,)), "i...j,j")
    yield sample("axes of length 1", arrays((2, 1), (3, 4), (1, 1)), "ij,jk,ik->ik")
    yield sample("one array twice", [x := normal(rng, 2, 3), x], "ij,kj->ik")
    yield sample("no axes", arrays((), (2,)), ",i->i")
    yield sample("nothing to sum", arrays((2, 0), (0, 3)), "ij,jk->ik")


@samples_for("linear")
def _linear(rng: Rng) -> Samples:
    yield sample("bias", normal(rng, 3, 2), normal(rng, 4, 2), normal(rng, 4))
    yield sample("no bias", normal(rng, 3, 2), normal(rng, 4, 2))
    yield sample("leading axes", normal(rng, 2, 3, 2), normal(rng, 4, 2), normal(rng, 4))
    yield sample("vector", normal(rng, 2), normal(rng, 4, 2), normal(rng, 4))
    yield sample("residual", normal(rng, 2, 3, 2), normal(rng, 4, 2), normal(rng, 4), normal(rng, 2, 3, 4))
    yield sample("residual, no bias", normal(rng, 3, 2), normal(rng, 4, 2), None, normal(rng, 3, 4))
    for activation in ("relu", "gelu", "silu", "sigmoid"):
        yield sample(activation, normal(rng, 3, 2), normal(rng, 4, 2), normal(rng, 4), activation=activation)
    yield sample("gelu, residual", normal(rng, 3, 2), normal(rng, 4, 2), normal(rng, 4), normal(rng, 3, 4), activation="gelu")
    frozen = normal(rng, 3, 2), normal(rng, 4, 2), normal(rng, 4), normal(rng, 3, 4)
    yield Sample("frozen", frozen, {"activation": "silu", "frozen": True}, derivative=False)
    wide = normal(rng, 2, 9, 33), normal(rng, 35, 33), normal(rng, 35), normal(rng, 2, 9, 35)
    yield sample("wide", *wide)
    yield sample("wide, gelu", *wide, activation="gelu")
    yield sample("empty", normal(rng, 0, 2), normal(rng, 4, 2), normal(rng, 4))


@samples_for("swiglu_linear")
def _swiglu_linear(rng: Rng) -> Samples:
    def layers(*lead: int, width: int = 2, out: int = 4) -> list[np.ndarray]:
        return [normal(rng, *lead, width), *(normal(rng, out, width) for _ in "gu"), *(normal(rng, out) for _ in "gu")]

    yield sample("biases", *layers(3))
    yield sample("no biases", *layers(3)[:3])
    x, gate, up, gate_bias, up_bias = layers(3)
    yield sample("gate's bias alone", x, gate, up, gate_bias)
    yield sample("up's bias alone, leading axes", x[None], gate, up, None, up_bias)
    yield sample("vector", *layers())
    yield sample("large gates", *(a * 4 for a in layers(3)))
    yield sample("wide", *(a * 0.3 for a in layers(2, 9, width=33, out=35)))
    yield Sample("frozen", tuple(layers(3)), {"frozen": True}, derivative=False)
    yield sample("empty", *layers(0))


@samples_for("rotary_heads")
def _rotary_heads(rng: Rng) -> Samples:
    def layers(*lead: int, width: int = 2, rows: tuple[int, ...] = (4, 2, 2)) -> list[np.ndarray]:
        return [normal(rng, *lead, width), *(normal(rng, n, width) for n in rows), *(normal(rng, n) for n in rows)]

    yield sample("biases", *layers(2, 2), frequencies=[0.5])
    yield sample("interleaved", *layers(1, 3, rows=(4, 4, 4))[:4], frequencies=[1.0, 0.3], pairing="interleaved")
    yield sample("later positions", *layers(1, 2, rows=(4, 4, 4))[:4], frequencies=[1.0, 0.3], start=70)
    x, *weights, _, k_bias, v_bias = layers(1, 2)
    yield sample("some biases", x, *weights, None, k_bias, v_bias, frequencies=[0.5])
    yield sample("one position", *layers(1, 1, rows=(6, 2, 4)), frequencies=[0.3], start=9)
    yield sample("wide", *layers(2, 9, width=17, rows=(76, 38, 38))[:4], frequencies=tuple(10000.0 ** (-i / 19) for i in range(19)))
    yield Sample("frozen", tuple(layers(1, 3)), {"frequencies": [0.5], "frozen": True}, derivative=False)
    yield sample("empty", *layers(2, 0), frequencies=[0.5])


@samples_for("layer_norm")
def _layer_norm(rng: Rng) -> Samples:
    yield sample("weight and bias", normal(rng, 3, 4), normal(rng, 4), normal(rng, 4))
    yield sample("leading axes", normal(rng, 2, 3, 4), normal(rng, 4), normal(rng, 4))
    yield sample("no bias", normal(rng, 3, 4), normal(rng, 4))
    yield sample("neither", normal(rng, 3, 4))
    yield sample("bias alone", normal(rng, 3, 4), None, normal(rng, 4))
    yield sample("vector, large eps", normal(rng, 4), normal(rng, 4), normal(rng, 4), eps=0.1)
    yield sample("wide", normal(rng, 5, 67), normal(rng, 67), normal(rng, 67))
    yield sample("empty", normal(rng, 0, 4), normal(rng, 4), normal(rng, 4))


@samples_for("rms_norm")
def _rms_norm(rng: Rng) -> Samples:
    yield sample("weight", normal(rng, 3, 4), normal(rng, 4))
    yield sample("leading axes", normal(rng, 2, 3, 4), normal(rng, 4))
    yield sample("no weight", normal(rng, 3, 4))
    yield sample("vector, large eps", normal(rng, 4), normal(rng, 4), eps=0.1)
    yield sample("wide", normal(rng, 5, 67), normal(rng, 67))
    yield sample("empty", normal(rng, 0, 4), normal(rng, 4))


# ---------------------------------------------------------------- losses


@samples_for("cross_entropy", "nll_loss")
def _losses(rng: Rng) -> Samples:
    targets = np.array([1, 0, 4, 1])
    for reduction in ("mean", "sum", "none"):
        yield sample(reduction, normal(rng, 4, 5), targets, reduction=reduction)
        yield sample(f"{reduction}, some ignored", normal(rng, 4, 5), np.array([1, -100, 4, -100]), reduction=reduction)
    yield sample("leading axes", normal(rng, 2, 2, 5), targets.reshape(2, 2))
    yield sample("wide", normal(rng, 5, 67), np.array([66, 0, -100, 31, 31]))
    yield sample("another ignore_index", normal(rng, 4, 5), targets, ignore_index=1)
    yield sample("one row", normal(rng, 5), np.array(3))
    yield sample("empty", normal(rng, 0, 5), targets[:0], reduction="sum")
    yield sample("class weights", normal(rng, 4, 5), np.array([1, -100, 4, 1]), weight=rng.random(5))
    yield sample("class weights, none", normal(rng, 2, 2, 5), targets.reshape(2, 2), weight=rng.random(5), reduction="none")


@samples_for("cross_entropy")
def _cross_entropy(rng: Rng) -> Samples:
    yield from _losses(rng)
    targets = np.array([1, -100, 4, 1])
    yield sample("class weights, smoothed", normal(rng, 4, 5), targets, weight=rng.random(5), label_smoothing=0.1)
    teacher = rng.dirichlet(np.ones(5), 4)
    yield sample("probabilities", normal(rng, 4, 5), teacher)
    yield sample("probabilities, leading axes", normal(rng, 2, 2, 5), teacher.reshape(2, 2, 5), reduction="none")
    everything = {"weight": rng.random(5), "label_smoothing": 0.1}
    for reduction in ("mean", "sum"):
        yield sample(f"probabilities, weights, smoothed, {reduction}", normal(rng, 4, 5), teacher, **everything, reduction=reduction)
    yield sample("probabilities, one row", normal(rng, 5), teacher[0])
    yield sample("probabilities, empty", normal(rng, 0, 5), teacher[:0], reduction="sum")
    for reduction in ("mean", "sum", "none"):
        yield sample(f"smoothed, {reduction}", normal(rng, 4, 5), targets, label_smoothing=0.1, reduction=reduction)
    yield sample("large values", normal(rng, 3, 4) * 3 + 500, targets[[0, 3, 0]])


@samples_for("binary_cross_entropy_with_logits")
def _binary_cross_entropy(rng: Rng) -> Samples:
    for reduction in ("mean", "sum", "none"):
        yield sample(reduction, nonzero(rng, 3, 2), rng.random((3, 2)), reduction=reduction)
    yield sample("large values", nonzero(rng, 4) * 40, rng.random(4))
    yield sample("0-d", nonzero(rng), rng.random(()))
    yield sample("empty", normal(rng, 0, 2), rng.random((0, 2)), reduction="sum")
    yield sample("positive weights", nonzero(rng, 3, 2), rng.random((3, 2)), pos_weight=np.array([0.5, 3.0]))
    yield sample("a positive weight", nonzero(rng, 4) * 10, rng.random(4), pos_weight=np.array(2.5), reduction="none")


# ---------------------------------------------------------------- attention


@samples_for("split_heads")
def _split_heads(rng: Rng) -> Samples:
    yield sample("queries, keys and values", normal(rng, 2, 3, 12), 3, 2)
    yield sample("sequence first", normal(rng, 3, 2, 8), 2, 2, batch_first=False)
    yield sample("one part", normal(rng, 2, 3, 4), 1, 2)
    yield sample("empty", normal(rng, 0, 3, 6), 3, 1)


@samples_for("merge_heads")
def _merge_heads(rng: Rng) -> Samples:
    yield sample("batch first", normal(rng, 2, 3, 4, 5))
    yield sample("sequence first", normal(rng, 2, 3, 4, 5), batch_first=False)
    yield sample("empty", normal(rng, 2, 3, 0, 5))


@samples_for("rotary")
def _rotary(rng: Rng) -> Samples:
    frequencies = [1.0, 0.3, 0.01]
    for pairing in ("half", "interleaved"):
        yield sample(f"heads, {pairing}", normal(rng, 2, 3, 4, 6), frequencies, pairing=pairing)
        yield sample(f"later positions, {pairing}", normal(rng, 2, 4, 6), frequencies, 70, pairing=pairing)
    yield sample("matrix", normal(rng, 5, 2), [0.5])
    yield sample("one position", normal(rng, 2, 3, 1, 6), frequencies, start=9)
    yield sample("wide", normal(rng, 2, 2, 9, 38), tuple(10000.0 ** (-i / 19) for i in range(19)))
    yield sample("empty", normal(rng, 2, 0, 6), frequencies)


@samples_for("scaled_dot_product_attention")
def _attention(rng: Rng) -> Samples:
    def qkv(*lead: int, steps: int = 3, keys: int = 4, width: int = 2, out: int = 2) -> list[np.ndarray]:
        return [normal(rng, *lead, steps, width), normal(rng, *lead, keys, width), normal(rng, *lead, keys, out)]

    allowed = np.array([[True, False, True, True], [False, True, False, False], [True, True, True, False]])
    yield sample("plain", *qkv())
    yield sample("heads", *qkv(2, 2))
    yield sample("causal", *qkv(2, steps=4), causal=True)
    yield sample("causal, more keys", *qkv(steps=2), causal=True)
    yield sample("causal, more queries", *qkv(steps=5, keys=3), causal=True)
    yield sample("boolean mask", *qkv(2), allowed)
    yield sample("mask broadcast over heads", *qkv(2, 2), rng.random((2, 1, 3, 4)) < 0.8)
    yield sample("a query that may look nowhere", *qkv(), allowed & [[True], [False], [True]])
    yield sample("floating mask", *qkv(2), normal(rng, 3, 4))
    yield sample("floating mask broadcast", *qkv(2, 2), normal(rng, 2, 1, 1, 4))
    yield sample("floating mask, causal", *qkv(steps=4), normal(rng, 4, 4), causal=True)
    yield sample("scale", *qkv(), scale=0.3)
    yield sample("value width", *qkv(2, out=3))
    yield sample("shared keys", normal(rng, 2, 3, 2), normal(rng, 4, 2), normal(rng, 1, 4, 2))
    yield sample("weights", *qkv(), return_weights=True)
    yield sample("dropout", *qkv(2), dropout=0.4, key=(5, 1))
    yield sample("dropout, causal, weights", *qkv(steps=4), causal=True, dropout=0.3, return_weights=True, key=(5, 2))
    yield sample("one position", *qkv(2, steps=1, keys=1))
    yield sample("wide", *qkv(1, 2, steps=9, keys=9, width=16, out=16), causal=True)

    def in_groups(*lead: int, heads: int, shared: int, steps: int = 3, keys: int = 4, out: int = 2) -> list[np.ndarray]:
        _, k, v = qkv(*lead, shared, steps=steps, keys=keys, out=out)
        return [normal(rng, *lead, heads, steps, 2), k, v]

    yield sample("grouped heads", *in_groups(2, heads=4, shared=2))
    yield sample("grouped heads, one for all", *in_groups(2, heads=3, shared=1))
    yield sample("grouped heads, causal, value width", *in_groups(1, heads=6, shared=2, steps=4, out=3), causal=True)
    yield sample("grouped heads without a batch", *in_groups(heads=4, shared=2))
    yield sample("grouped heads, mask of each", *in_groups(2, heads=4, shared=2), rng.random((2, 4, 3, 4)) < 0.8)
    yield sample("grouped heads, floating mask", *in_groups(2, heads=4, shared=2), normal(rng, 2, 1, 3, 4))
    yield sample("grouped heads, dropout, weights", *in_groups(1, heads=4, shared=2), dropout=0.3, return_weights=True, key=(5, 3))
    yield sample("grouped heads, one query", *in_groups(1, heads=4, shared=2, steps=1, keys=5), causal=True)
    yield sample("no queries", *qkv(steps=0))
    yield sample("empty batch", *qkv(0))
