"""Transformer layers and stacks compared with torch.nn's, positions with their formula."""

from dataclasses import dataclass

import numpy as np
import pytest
import torch
from helpers import assert_parity, randomise, replay_dropout
from hypothesis import given, settings
from hypothesis import strategies as st

from tinylm import Tensor, nn
from tinylm.engine.random_keys import Generator, default_generator
from tinylm.errors import ConfigError, ShapeError

later = {n: ~np.tri(n, dtype=bool) for n in range(1, 13)}  # PyTorch's square subsequent masks


@dataclass
class Case:
    """A stack of layers, its inputs' sizes and its masks."""

    seed: int
    dtype: str
    sizes: tuple[int, int, int]
    heads: int
    depth: int
    norm: bool
    mask: str | None
    padding: str | None
    causal: bool
    options: dict[str, object]

    def __post_init__(self):
        # Sums over a few elements may cancel, and float32 then differs by more than 10⁻⁵.
        more = 0 if self.dtype == "float64" else 8
        self.batch, self.steps, self.keys = (n + more for n in self.sizes)
        self.width = self.heads * (4 + more)
        self.options = {**self.options, "dim_feedforward": self.options["dim_feedforward"] + more}
        if self.mask and self.padding:
            self.padding = self.mask  # PyTorch deprecates mixed kinds
        self.causal = self.causal and self.mask is not None  # a hint about a mask, to PyTorch
        self.rng = np.random.default_rng(self.seed)

    def stack(self, package, name, **more):
        """Returns Transformer<name> of PyTorch's or tinylm's nn."""
        layer = getattr(package, f"Transformer{name}Layer")(self.width, self.heads, dropout=0.0, **self.options)
        norm = package.LayerNorm(self.width, bias=self.options["bias"]) if self.norm else None
        return getattr(package, f"Transformer{name}")(layer, self.depth, norm, **more)

    def sequence(self, steps):
        shape = (self.batch, steps) if self.options["batch_first"] else (steps, self.batch)
        return self.rng.standard_normal((*shape, self.width))

    def make_mask(self, kind, *shape, causal=False):
        """Returns None, or a boolean or floating mask in which every query sees key 0."""
        hidden = later[shape[0]] if causal else self.rng.random(shape) < 0.4
        hidden[..., 0] = False
        added = 0.0 if causal else self.rng.standard_normal(shape)
        return {None: None, "bool": hidden, "float": np.where(hidden, -np.inf, added)}[kind]


kinds = st.sampled_from([None, "bool", "float"])
cases = st.builds(
    Case,
    seed=st.integers(0, 1000),
    dtype=st.sampled_from(["float64", "float32"]),
    sizes=st.tuples(st.integers(1, 3), st.integers(1, 4), st.integers(1, 4)),
    heads=st.integers(1, 3),
    depth=st.integers(1, 2),
    norm=st.booleans(),
    mask=kinds,
    padding=kinds,
    causal=st.booleans(),
    options=st.fixed_dictionaries(
        {
            "dim_feedforward": st.integers(1, 9),
            "activation": st.sampled_from(["relu", "gelu"]),
            "layer_norm_eps": st.sampled_from([1e-5, 1e-2]),
            "batch_first": st.booleans(),
            "norm_first": st.booleans(),
            "bias": st.booleans(),
        }
    ),
)


@settings(max_examples=60)
@given(case=cases)
def test_encoder_equals_pytorch(case):
    ours, theirs = case.stack(nn, "Encoder"), case.stack(torch.nn, "Encoder", enable_nested_tensor=False)
    randomise(theirs, case.rng)
    masks = {
        "mask": case.make_mask(case.mask, case.steps, case.steps, causal=case.causal),
        "src_key_padding_mask": case.make_mask(case.padding, case.batch, case.steps),
    }
    hint = {"is_causal": case.causal}
    assert_parity(ours, theirs, [case.sequence(case.steps)], masks=masks, settings=hint, dtype=case.dtype, seed=case.seed)


@settings(max_examples=60)
@given(case=cases)
def test_decoder_equals_pytorch(case):
    ours, theirs = case.stack(nn, "Decoder"), case.stack(torch.nn, "Decoder")
    randomise(theirs, case.rng)
    masks = {
        "tgt_mask": case.make_mask(case.mask, case.steps, case.steps, causal=case.causal),
        "memory_mask": case.make_mask(case.mask, case.steps, case.keys),
        "tgt_key_padding_mask": case.make_mask(case.padding, case.batch, case.steps),
        "memory_key_padding_mask": case.make_mask(case.padding, case.batch, case.keys),
    }
    inputs, hint = [case.sequence(case.steps), case.sequence(case.keys)], {"tgt_is_causal": case.causal}
    assert_parity(ours, theirs, inputs, masks=masks, settings=hint, dtype=case.dtype, seed=case.seed)


@pytest.mark.parametrize("kind", ["Encoder", "Decoder"])
def test_a_single_layer_equals_pytorch_by_position_of_its_arguments(kind):
    rng = np.random.default_rng(2)
    arguments = (8, 2, 12, 0.0, "gelu", 1e-3, True, True, False)
    theirs = getattr(torch.nn, f"Transformer{kind}Layer")(*arguments)
    ours = getattr(nn, f"Transformer{kind}Layer")(*arguments)
    randomise(theirs, rng)
    inputs = [rng.standard_normal((2, 5, 8))] * (1 if kind == "Encoder" else 2)
    mask = {"Encoder": "src_mask", "Decoder": "tgt_mask"}[kind]
    assert_parity(ours, theirs, inputs, masks={mask: later[5]})


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("norm_first", [False, True])
@pytest.mark.parametrize("kind", ["Encoder", "Decoder"])
def test_dropout_equals_pytorch_with_the_same_masks(kind, norm_first, dtype):
    rng, generator = np.random.default_rng(3), Generator()
    layer = getattr(torch.nn, f"Transformer{kind}Layer")(8, 2, 12, 0.3, norm_first=norm_first)
    more = {"enable_nested_tensor": False} if kind == "Encoder" else {}
    theirs = replay_dropout(getattr(torch.nn, f"Transformer{kind}")(layer, 2, **more), generator)
    randomise(theirs, rng)
    ours = getattr(nn, f"Transformer{kind}")(getattr(nn, f"Transformer{kind}Layer")(8, 2, 12, 0.3, norm_first=norm_first), 2)
    their_modules = dict(theirs.named_modules())
    for i, (name, module) in enumerate(ours.named_modules()):
        if isinstance(module, nn.Dropout):  # one p each, so that no two can be confused
            module.p = their_modules[name].p = 0.1 + 0.05 * i % 0.5
    inputs = [rng.standard_normal((5, 3, 8)), rng.standard_normal((4, 3, 8))][: 1 if kind == "Encoder" else 2]
    masks = {"mask" if kind == "Encoder" else "tgt_mask": np.where(later[5], -np.inf, 0.0)}
    before = default_generator.state
    generator.state = before
    assert_parity(ours, theirs, inputs, masks=masks, dtype=dtype)
    draws = {"Encoder": 4, "Decoder": 6}[kind]
    assert default_generator.state[1] == generator.state[1] == before[1] + 2 * draws


def test_memory_is_causal_is_a_mask_of_the_memory():
    layer = nn.TransformerDecoderLayer(8, 2, 12).to(dtype="float64").eval()
    rng = np.random.default_rng(6)
    tgt, memory = Tensor(rng.standard_normal((5, 3, 8))), Tensor(rng.standard_normal((5, 3, 8)))
    expected = layer(tgt, memory, memory_mask=later[5]).data
    assert not np.allclose(layer(tgt, memory).data, expected)
    np.testing.assert_allclose(layer(tgt, memory, memory_is_causal=True).data, expected, atol=1e-12)


@pytest.mark.parametrize("kind", ["Encoder", "Decoder"])
def test_dropout_is_off_in_eval_mode(kind):
    layer = getattr(nn, f"Transformer{kind}Layer")(8, 2, 12, 0.5)
    x = Tensor(np.random.default_rng(4).standard_normal((5, 3, 8)).astype(np.float32))
    inputs = [x] if kind == "Encoder" else [x, x]
    assert not np.array_equal(layer(*inputs).data, layer(*inputs).data)
    layer.eval()
    np.testing.assert_array_equal(layer(*inputs).data, layer(*inputs).data)


def test_layers_are_independent_copies():
    layer = nn.TransformerEncoderLayer(8, 2, 12)
    encoder = nn.TransformerEncoder(layer, 2)
    first, second = (dict(one.named_parameters()) for one in encoder.layers)
    for name, p in layer.named_parameters():
        for other in (first[name], second[name]):
            np.testing.assert_array_equal(p.data, other.data)
            assert not np.shares_memory(p.data, other.data)
        assert not np.shares_memory(first[name].data, second[name].data)
    assert encoder.num_parameters() == 2 * layer.num_parameters()
    version = encoder.layers[1].linear1.weight.version
    encoder.layers[0].linear1.weight.data[:] = 0
    encoder.layers[0].linear1.weight.bump_version()
    assert layer.linear1.weight.data.any()
    assert encoder.layers[1].linear1.weight.version == version


def test_defaults_are_pytorchs():
    ours, theirs = nn.TransformerEncoderLayer(8, 2), torch.nn.TransformerEncoderLayer(8, 2)
    assert [(k, v.shape) for k, v in ours.state_dict().items()] == [(k, tuple(v.shape)) for k, v in theirs.state_dict().items()]
    assert (ours.dropout.p, ours.self_attn.dropout, ours.norm1.eps) == (theirs.dropout.p, theirs.self_attn.dropout, theirs.norm1.eps)
    assert (ours.activation, ours.norm_first, ours.self_attn.batch_first) == ("relu", theirs.norm_first, theirs.self_attn.batch_first)
    with pytest.raises(ConfigError, match=r"activation 'tan': expected one of relu, gelu, .*tanh.*; did you mean 'tanh'"):
        nn.TransformerDecoderLayer(8, 2, activation="tan")


@pytest.mark.parametrize("norm_first", [False, True])
@pytest.mark.parametrize("kind", ["Encoder", "Decoder"])
def test_cached_steps_equal_one_causal_call(kind, norm_first):
    layer = getattr(nn, f"Transformer{kind}Layer")(8, 2, 12, norm_first=norm_first)
    model = getattr(nn, f"Transformer{kind}")(layer, 2).to(dtype="float64").eval()
    rng = np.random.default_rng(5)
    x, memory = rng.standard_normal((6, 3, 8)), [Tensor(rng.standard_normal((4, 3, 8)))] * (kind == "Decoder")
    causal = {"is_causal" if kind == "Encoder" else "tgt_is_causal": True}
    whole = model(Tensor(x), *memory, **causal)
    cache = [nn.KeyValueCache(), nn.KeyValueCache()]
    parts = [model(Tensor(part), *memory, cache=cache, **causal).data for part in (x[:3], x[3:5], x[5:])]
    np.testing.assert_allclose(np.concatenate(parts), whole.data, atol=1e-12)
    assert all(c.shape == (3, 2, 6, 4) for one in cache for c in (one.keys, one.values))
    with pytest.raises(ShapeError, match="the cache has 1 members, expected one for each of the 2 layers"):
        model(Tensor(x), *memory, cache=[nn.KeyValueCache()], **causal)


@pytest.mark.parametrize("norm_first", [False, True])
@pytest.mark.parametrize("batch_first", [False, True])
def test_a_decoder_takes_keys_and_values_for_its_memory(norm_first, batch_first):
    layer = nn.TransformerDecoderLayer(8, 2, 12, 0.0, norm_first=norm_first, batch_first=batch_first)
    model, rng = nn.TransformerDecoder(layer, 2).to(dtype="float64"), np.random.default_rng(8)
    for p in model.parameters():
        p.data[:] += 0.1 * rng.standard_normal(p.shape)
    x, memory, cotangent = (rng.standard_normal((4, 4, 8)) for _ in range(3))
    padding = np.arange(4) >= np.array([[4], [2], [3], [1]])
    found = []
    for projected in (False, True):
        model.zero_grad()
        source = Tensor(memory, requires_grad=True)
        y = model(Tensor(x), model.keys_and_values(source) if projected else source, memory_key_padding_mask=padding)
        y.backward(cotangent)
        found.append([y.data, source.grad, *(p.grad for p in model.parameters())])
    for a, b in zip(*found, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-12)
    with pytest.raises(ShapeError, match="the memory has 1 members, expected one for each of the 2 layers"):
        model(Tensor(x), model.keys_and_values(Tensor(memory))[:1])


# ---------------------------------------------------------------- positions


@pytest.mark.parametrize("width", [1, 4, 7])
def test_positional_encoding_is_its_formula(width):
    module = nn.PositionalEncoding(width, dropout=0.0, max_len=5000)
    assert module.pe.shape == (5000, 1, width)
    for t in (0, 1, 2, 77, 4999):
        for i in range(width):
            angle = t / 10000 ** ((i - i % 2) / width)
            assert module.pe.data[t, 0, i] == pytest.approx(np.cos(angle) if i % 2 else np.sin(angle), abs=1e-7)
    x = np.random.default_rng(0).standard_normal((3, 2, width)).astype(np.float32)
    np.testing.assert_array_equal(module(Tensor(x)).data, x + module.pe.data[:3])
    np.testing.assert_array_equal(module(Tensor(x), start=5).data, x + module.pe.data[5:8])


def test_positional_encoding_drops_out_and_is_saved():
    module = nn.PositionalEncoding(6, max_len=10)
    assert module.dropout.p == 0.1
    assert list(module.state_dict()) == ["pe"]
    assert list(module.parameters()) == []
    module = nn.PositionalEncoding(6, 0.5, max_len=10)
    x = np.ones((10, 50, 6), np.float32)
    y = module(Tensor(x)).data
    kept = y != 0
    assert 0.4 < kept.mean() < 0.6
    np.testing.assert_allclose(y[kept], (2 * (x + module.pe.data))[kept], rtol=1e-6)
    np.testing.assert_array_equal(module.eval()(Tensor(x)).data, x + module.pe.data)


def test_positional_encoding_passes_gradients_through():
    module = nn.PositionalEncoding(4, 0.0)
    x = Tensor(np.zeros((3, 2, 4), np.float32), requires_grad=True)
    cotangent = np.random.default_rng(1).standard_normal((3, 2, 4)).astype(np.float32)
    module(x).backward(cotangent)
    np.testing.assert_array_equal(x.grad, cotangent)
    assert module.pe.grad is None


@pytest.mark.parametrize(("shape", "start"), [((11, 2, 4), 0), ((4, 2, 4), 7), ((3, 2, 5), 0), ((3, 4), 0)])
def test_positional_encoding_says_what_does_not_fit(shape, start):
    module = nn.PositionalEncoding(4, 0.0, max_len=10)
    message = f"x has shape {shape} from position {start}, expected (T, N, 4) with at most 10 positions"
    with pytest.raises(ShapeError) as error:
        module(Tensor(np.zeros(shape, np.float32)), start)
    assert message in str(error.value)
