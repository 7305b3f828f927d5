"""tinylm.profile: which ops ran, in which implementation, and that the times add up."""

import numpy as np
import pytest

import tinylm
from tinylm import Tensor, nn, optim
from tinylm.engine import kernels, profiler
from tinylm.engine.kernels import profiling


def found(p):
    return {(row.name, row.part, row.implementation): row for row in p.rows}


@pytest.fixture
def clock(monkeypatch):
    """Makes the profiler's clock stand still, unless a test moves it: clock[0] is the time in seconds."""
    now = [0.0]
    monkeypatch.setattr(profiler.time, "perf_counter", lambda: now[0])
    return now


def lazy_op(clock):
    @tinylm.op
    def lazy(x, /):
        """x, in 20 s, and its gradient in 10."""
        clock[0] += 20

        def vjp(dy):
            clock[0] += 10
            return (dy,)

        return x + 0, vjp

    return lazy


def test_forward_and_backward_apart_with_their_times(clock):
    x, lazy = Tensor(np.ones(3), requires_grad=True), lazy_op(clock)
    with tinylm.profile() as p:
        y = lazy(lazy(x))
        clock[0] += 15
        y.sum().backward()
    rows = found(p)
    forward, backward = rows["lazy", "forward", "reference"], rows["lazy", "backward", "reference"]
    assert (forward.calls, backward.calls) == (2, 2)
    assert (forward.seconds, backward.seconds, p.rest, p.seconds) == (40, 20, 15, 75)
    assert p.rows[:2] == [forward, backward], "the most expensive comes first"
    assert {row.seconds for row in p.rows[2:]} == {0}


def test_the_times_by_the_real_clock_add_up():
    x = Tensor(np.ones(3), requires_grad=True)
    with tinylm.profile() as p:
        tinylm.exp(x * x).sum().backward()
    assert all(row.seconds >= 0 for row in p.rows)
    assert [row.seconds for row in p.rows] == sorted((row.seconds for row in p.rows), reverse=True)
    assert p.rest >= 0
    assert sum(row.seconds for row in p.rows) + p.rest == pytest.approx(p.seconds)


def test_bytes_of_what_goes_in_and_comes_out():
    a, b = Tensor(np.ones((4, 3)), requires_grad=True), Tensor(np.ones((3, 5)))
    with tinylm.profile() as p:
        (a @ b).backward(np.ones((4, 5)))
    rows = found(p)
    assert rows["matmul", "forward", "reference"].bytes == 8 * (12 + 15 + 20)
    assert rows["matmul", "backward", "reference"].bytes == 8 * (20 + 12 + 15)


def test_a_sequence_and_several_outputs():
    parts = [Tensor(np.ones(2), requires_grad=True), Tensor(np.ones(3))]
    with tinylm.profile() as p:
        whole = tinylm.concatenate(parts)
        first, _ = tinylm.split(whole, [1])
        first.sum().backward()
    rows = found(p)
    assert rows["concatenate", "forward", "reference"].bytes == 8 * 10
    assert rows["concatenate", "backward", "reference"].bytes == 8 * 10


def test_kernels_and_references_apart(monkeypatch):
    monkeypatch.setattr(kernels, "_kernels_allowed", "auto")

    @tinylm.op
    def double(x, /):
        return x * 2, lambda dy: (dy * 2,)

    @tinylm.kernel(double, device="cpu")
    def fast(x, /):
        return NotImplemented if x.ndim == 2 else (x * 2, lambda dy: (dy * 2,))

    with tinylm.profile() as p:
        for x in (np.ones(2, np.float32), np.ones(3, np.float32), np.ones(2), np.ones((2, 2), np.float32)):
            double(Tensor(x, requires_grad=True)).sum().backward()
    calls = {key[1:]: row.calls for key, row in found(p).items() if key[0] == "double"}
    assert calls == {
        ("forward", "kernel"): 2,
        ("backward", "kernel"): 2,
        ("forward", "reference"): 2,
        ("backward", "reference"): 2,
    }


def step(model, optimizer):
    optimizer.zero_grad()
    tinylm.cross_entropy(model(np.array([0, 1, 4])), np.array([1, 0, 2])).backward()
    optimizer.step(max_norm=1.0)


def test_a_training_step_is_the_same_and_its_updates_are_there():
    def trained(measured):
        tinylm.manual_seed(3)
        model = nn.Sequential(nn.Embedding(5, 4), nn.LayerNorm(4), nn.Dropout(0.5), nn.Linear(4, 5))
        optimizer = optim.AdamW(model.parameters())
        if measured:
            with tinylm.profile() as p:
                step(model, optimizer)
        else:
            p = None
            step(model, optimizer)
        return p, [param.data for param in model.parameters()]

    p, with_profile = trained(True)
    for a, b in zip(with_profile, trained(False)[1], strict=True):
        np.testing.assert_array_equal(a, b)
    parts = {(name, part): row.calls for (name, part, _), row in found(p).items()}
    assert parts["adamw", "update"] == parts["squared_norm", "update"] == 1
    for name in ("embedding", "layer_norm", "dropout", "linear", "cross_entropy"):
        assert parts[name, "forward"] == parts[name, "backward"] == 1, name


def test_an_op_within_an_op_is_counted_once(clock):
    lazy = lazy_op(clock)

    @tinylm.op
    def outer(x, /):
        clock[0] += 5
        return lazy(x).data, None

    with tinylm.profile() as p:
        outer(np.ones(2))
    rows = found(p)
    assert rows["lazy", "forward", "reference"].seconds == 20
    assert rows["outer", "forward", "reference"].seconds == 5
    assert p.seconds == 25


def test_it_ends_with_its_block_and_with_an_exception():
    x = Tensor(np.ones(2), requires_grad=True)
    y = None

    def broken():
        nonlocal y
        with tinylm.profile() as p:
            kept.append(p)
            y = x * 2
            raise ZeroDivisionError

    kept = []
    with pytest.raises(ZeroDivisionError):
        broken()
    (p,) = kept
    assert p.seconds >= 0
    y.sum().backward()
    assert profiling.active is None
    assert set(found(p)) == {("multiply", "forward", "reference")}
    np.testing.assert_array_equal(x.grad, 2)


def test_an_inner_profile_has_its_block_to_itself():
    x = Tensor(np.ones(2))
    with tinylm.profile() as outer:
        x + 1
        with tinylm.profile() as inner:
            x * 2
        x - 1
    assert {row.name for row in outer.rows} == {"add", "subtract"}
    assert {row.name for row in inner.rows} == {"multiply"}


def test_the_table(clock):
    lazy = lazy_op(clock)
    with tinylm.profile() as p:
        lazy(np.ones(1_000_000))
        clock[0] += 5
    lines = [line.split() for line in p.table().splitlines()]
    assert lines[0] == ["op", "pass", "by", "calls", "ms", "%", "MB"]
    assert lines[1][:4] == ["lazy", "forward", "reference", "1"]
    assert lines[1][-1] == "16.0"
    assert [line[:2] for line in lines[2:]] == [["not", "in"], ["in", "all"]]
    assert [float(line[4 if i == 0 else -2]) for i, line in enumerate(lines[1:])] == [20_000, 5_000, 25_000]


def test_an_empty_profile():
    with tinylm.profile() as p:
        pass
    assert p.rows == []
    assert p.table().splitlines()[-1].startswith("in all")


def test_second_derivatives():
    x = Tensor(np.array([3.0]), requires_grad=True)
    with tinylm.profile() as p:
        (g,) = tinylm.grad(x * x * x, [x], np.ones(1), create_graph=True)
        h = tinylm.grad(g, x, np.ones(1))
    assert h.item() == 18
    assert found(p)["multiply", "forward", "reference"].calls > 2


def test_a_gpu_is_waited_for(cuda):
    x = Tensor(np.ones((2, 3), np.float32)).to("cuda")
    x.requires_grad = True
    with tinylm.profile() as p:
        tinylm.softmax(x).sum().backward()
    rows = found(p)
    assert rows["softmax", "forward", "kernel"].calls == 1
    assert rows["softmax", "backward", "kernel"].calls == 1


def test_the_tables_columns_stand_below_one_another():
    x = Tensor(np.ones((2, 3)), requires_grad=True)
    with tinylm.profile() as p:
        tinylm.log_softmax(x).sum().backward()
    lines = p.table().split("\n")
    assert len({len(line) for line in lines}) == 1
    assert lines[0].split() == ["op", "pass", "by", "calls", "ms", "%", "MB"]
    for name in ("pass", "by"):  # words begin where their heading does, numbers end there
        at = lines[0].index(name)
        assert all(line[at - 2 : at] == "  " for line in lines)
    for name in ("calls", "ms", "%", "MB"):
        end = lines[0].index(name) + len(name)
        assert all(line[end : end + 2].strip() == "" for line in lines)
    assert [line.split()[0] for line in lines[-2:]] == ["not", "in"]
    assert float(lines[-1].split()[-2]) == pytest.approx(1e3 * p.seconds, abs=0.006)


def test_the_table_line_by_line(clock):
    lazy = lazy_op(clock)
    x = Tensor(np.ones(250_000), requires_grad=True)
    with tinylm.profile() as p:
        assert (p.seconds, p.rows, p.rest) == (0, [], 0), "before anything ran"
        assert p.table().splitlines()[-1].split() == ["in", "all", "0.00", "0.0"]
        y = lazy(x)
        y.backward(np.ones(250_000))
        clock[0] += 10
    assert p.table().splitlines() == [
        "op          pass      by         calls        ms      %   MB",
        "lazy        forward   reference      1  20000.00   50.0  4.0",
        "lazy        backward  reference      1  10000.00   25.0  4.0",
        "not in ops                              10000.00   25.0     ",
        "in all                                  40000.00  100.0     ",
    ]


def test_a_backward_pass_after_its_profile_or_in_another_is_not_measured(clock):
    lazy = lazy_op(clock)
    x = Tensor(np.ones(3), requires_grad=True)
    with tinylm.profile() as first:
        y, z = lazy(x), lazy(x)
    y.backward(np.ones(3))
    with tinylm.profile() as second:
        z.backward(np.ones(3))
    assert [(row.name, row.part, row.calls, row.seconds, row.bytes) for row in first.rows] == [("lazy", "forward", 2, 40, 96)]
    assert second.rows == []
    assert (first.seconds, second.seconds) == (40, 10)


def test_ops_within_ops_and_updates_are_each_counted_once(clock):
    lazy = lazy_op(clock)

    @tinylm.op
    def outer(x, /):
        clock[0] += 5
        y = lazy(lazy(x)).data
        clock[0] += 1
        return y, lambda dy: ((clock.__setitem__(0, clock[0] + 2), lazy(dy).data)[1],)

    @tinylm.update
    def slow(parameter):
        clock[0] += 7

    x = Tensor(np.ones(2), requires_grad=True)
    with tinylm.profile() as p:
        y = outer(x)
        outer(x)
        y.backward(np.ones(2))
        slow(np.ones(4))
    assert {key: (row.calls, row.seconds, row.bytes) for key, row in found(p).items()} == {
        ("lazy", "forward", "reference"): (5, 100, 5 * 32),
        ("outer", "forward", "reference"): (2, 12, 64),
        ("outer", "backward", "reference"): (1, 2, 32),
        ("slow", "update", "reference"): (1, 7, 32),
    }
    assert p.seconds == 121
    assert p.rest == 0
