"""scripts/benchmark.py: which products a step computes, how they are timed, and what is made of the times."""

import json
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from benchmark_cases import TINY
from script_helpers import SCRIPTS, command_module, fails_with_one_line, script, script_here

import tinylm
from tinylm.bindings.cpu.cores import thread_count
from tinylm.bindings.cpu.library import library
from tinylm.engine.kernels import using
from tinylm.engine.products import to_bfloat16
from tinylm.errors import TinylmError

sys.path.insert(0, str(SCRIPTS))

from benchmark import product_process, product_rates, torch_side
from benchmark.limits import Limits
from benchmark.product_process import Timing, median_seconds, operands, timings
from benchmark.product_rates import product_record, product_rounds, product_tables, workload_records
from benchmark.products import Product, counted, products_of

sys.path.remove(str(SCRIPTS))
benchmark = command_module("benchmark")


@pytest.fixture(autouse=True)
def kernels() -> Iterator[None]:
    if library() is None:
        pytest.skip("the products are those of the CPU kernels, which need a C compiler")
    with using("auto"):
        yield


# ---------------------------------------------------------------- which products a step computes


def without_order(products: Counter[Product]) -> Counter[tuple[int, int, int]]:
    """Returns (k, the smaller of m and n, the larger): one library may compute the transpose of the other's product."""
    shapes: Counter[tuple[int, int, int]] = Counter()
    for p, times in products.items():
        shapes[p.k, min(p.m, p.n), max(p.m, p.n)] += times
    return shapes


@pytest.mark.parametrize("name", ["gpt", "llama", "transformer"])
def test_they_are_those_of_pytorchs_step(name: str) -> None:
    """PyTorch's dispatcher sees every product of its own step of the same model."""
    import torch
    from torch.utils._python_dispatch import TorchDispatchMode

    seen: Counter[tuple[int, int, int]] = Counter()

    class Products(TorchDispatchMode):
        def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            if function in (torch.ops.aten.mm.default, torch.ops.aten.addmm.default):
                (m, k), (_, n) = (a.shape for a in args[-2:])
                seen[k, min(m, n), max(m, n)] += 1
            return function(*args, **(kwargs or {}))

    work = TINY[name]
    step = torch_side.torch_side(work, "cpu").step
    with Products():
        step(next(work.batches(1)))
    assert seen.total() > 10
    assert without_order(products_of(work)) == seen


@pytest.mark.parametrize(("name", "gates"), [("rnn", [1]), ("lstm", [4]), ("gru", [2, 1])])
def test_those_of_a_recurrent_step(name: str, gates: list[int]) -> None:
    """2 layers of width 8 and the output layer, on 6 times 3 positions; the gradients of the GRU's inputs come from two products each."""
    rows, width, words, layers = 18, 8, 11, 2
    expected = Counter({
        Product(rows, words, width, b_transposed=True): 1,
        Product(rows, width, words): 1,
        Product(words, width, rows, a_transposed=True): 1,
    })  # fmt: skip
    expected[Product(rows, sum(gates) * width, width, b_transposed=True)] += layers
    for count in gates:
        expected[Product(rows, width, count * width)] += layers
        expected[Product(count * width, width, rows, a_transposed=True)] += layers
    expected[Product(sum(gates) * width, width, rows, a_transposed=True)] += layers  # of the state's weights
    assert products_of(TINY[name]) == expected


@pytest.mark.parametrize(
    ("name", "each"),
    [
        ("decode", {(24, 8): 1, (8, 8): 1, (32, 8): 1, (8, 32): 1}),
        ("decode-llama", {(8, 8): 2, (4, 8): 2, (12, 8): 2, (8, 12): 1}),  # keys and values have one head of two
    ],
)
def test_those_of_each_generated_token(name: str, each: dict[tuple[int, int], int]) -> None:
    """each: how often a layer multiplies by a matrix of (n, k), for each of the 8 tokens after the first."""
    few = {p: times for p, times in products_of(TINY[name]).items() if p.m == 1}
    assert all(p.reads_weights for p in few)
    output = few.pop(Product(1, 11, 8, b_transposed=True))
    assert output in (8, 9), "the first token needs the logits of the prompt's last position: a row of 1, or of all 3"
    assert {(p.n, p.k): times for p, times in few.items()} == {shape: 2 * 8 * times for shape, times in each.items()}


@pytest.mark.parametrize("frozen", [False, True])
def test_those_of_layers_and_matrices(frozen: bool) -> None:
    x, w = (tinylm.Tensor(np.ones(shape, np.float32), requires_grad=True) for shape in ((5, 3), (4, 3)))
    with counted() as products:
        tinylm.linear(x, w, frozen=frozen).sum().backward()
        tinylm.swiglu_linear(x, w, w, frozen=frozen).sum().backward()
    gradients = {} if frozen else {Product(4, 3, 5, a_transposed=True): 3}
    assert products == {Product(5, 4, 3, b_transposed=True): 3, Product(5, 3, 4): 3, **gradients}
    with counted() as products:
        tinylm.Tensor(np.ones((2, 5, 3), np.float32)) @ tinylm.Tensor(np.ones((2, 4, 3), np.float32)).swapaxes(1, 2)
    assert products == {Product(5, 4, 3, b_transposed=True): 2}


def test_counting_changes_nothing() -> None:
    found = library()
    assert found is not None
    before = dict(found.functions)
    with counted():
        assert found.functions != before
    assert found.functions == before
    with pytest.raises(ValueError, match="invalid literal"), counted():
        int("x")
    assert found.functions == before


def test_what_a_product_is_called() -> None:
    forward, dx, dw = Product(5, 3, 2, b_transposed=True), Product(5, 2, 3), Product(3, 2, 5, a_transposed=True)
    assert [p.name for p in (forward, dx, dw)] == ["Y = X Wᵀ", "dX = dY W", "dW = dYᵀ X"]
    assert {p.operations for p in (forward, dx, dw)} == {60}
    assert forward.weight_bytes == 24
    assert [Product(m, 3, 2, False, True).reads_weights for m in (1, 4, 5)] == [True, True, False]
    assert not Product(1, 3, 2).reads_weights


# ---------------------------------------------------------------- times


def test_the_median_with_a_clock_that_is_given() -> None:
    now, spent = [0.0], iter([100.0, 1.0, 5.0, 2.0, 4.0, 3.0, 3.0, 3.0])

    def run() -> None:
        now[0] += next(spent)

    assert median_seconds(run, 0.0, lambda: now[0]) == 3.0, "the first call is not counted, then five are"
    assert now[0] == 115.0
    now, spent = [0.0], iter([1.0] * 20)
    assert median_seconds(run, 10.0, lambda: now[0]) == 1.0
    assert now[0] == 11.0, "one call, then calls for ten seconds"


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("side", ["tinylm", "torch"])
def test_both_sides_multiply_what_the_product_says(side: str, precision: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """In bfloat16 PyTorch's result is one too, so that it differs by up to 2^-9 of it, of a sum of two numbers here."""
    import torch

    seen: list[Any] = []
    threads: list[int] = []

    def once(run: Any, budget: float) -> float:
        seen.append(run())
        return budget

    monkeypatch.setattr(torch, "set_num_threads", threads.append)
    monkeypatch.setattr(product_process, "median_seconds", once)
    store = np.resize(np.random.default_rng(0).standard_normal(1 << 20).astype(np.float32), 1 << 20)
    for p in (Product(5, 3, 2, False, True), Product(5, 2, 3), Product(3, 2, 5, True), Product(1, 3, 2, False, True)):
        seen.clear()
        (timing,) = timings(side, precision, [p], 240, 0.5)
        a, (b, *_) = operands(p, store, 2)
        assert (a.shape, b.shape) == ((p.m, p.k), (p.k, p.n))
        assert a.T.flags.c_contiguous == (p.a_transposed or p.m == 1)
        assert b.T.flags.c_contiguous == p.b_transposed
        exact = a @ b if precision == "float32" else to_bfloat16(a) @ to_bfloat16(b)
        tolerance = 2**-8 if (side, precision) == ("torch", "bfloat16") else 1e-5
        np.testing.assert_allclose(torch.as_tensor(seen[0]).float().numpy(), exact, rtol=tolerance, atol=1e-6)
        assert timing == (Timing(0.5, 0.05) if p.reads_weights else Timing(0.5))  # 240 bytes are 10 matrices of 3 x 2
    assert set(threads) == (set() if side == "tinylm" else {thread_count()}), "both have the same number of threads"


def test_the_sides_take_turns_and_a_failure_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def fake(module: str, side: str, precision: str, dry_run: str, listed: str) -> tuple[Any, str]:
        asked.append(side)
        assert (module, precision, dry_run, len(json.loads(listed))) == ("benchmark.product_process", "bfloat16", "whole", 1)
        return [{"seconds": 1.0, "from_memory": None}], ""

    monkeypatch.setattr(product_rates, "fresh_process", fake)
    found = product_rounds([Product(5, 2, 3)], ["tinylm", "torch"], "bfloat16", 2, False)
    assert asked == ["tinylm", "torch"] * 2
    assert found == {"tinylm": [[Timing(1.0)]] * 2, "torch": [[Timing(1.0)]] * 2}
    monkeypatch.setattr(product_rates, "fresh_process", lambda *_: (None, "ImportError: no torch"))
    with pytest.raises(TinylmError, match="the products of the tinylm side failed: ImportError: no torch"):
        product_rounds([Product(5, 2, 3)], ["tinylm"], "float32", 1, False)


# ---------------------------------------------------------------- rates


def test_rates_are_operations_or_bytes_by_the_median() -> None:
    many = product_record(Product(500, 100, 10), 3, {"tinylm": [Timing(1e-3), Timing(2e-3), Timing(9e-3)]})
    assert many["sides"]["tinylm"]["gigaflops"] == pytest.approx(2 * 500 * 100 * 10 / 2e-3 / 1e9)
    assert (many["times_per_step"], many["name"], many["reads_weights"]) == (3, "dX = dY W", False)
    few = product_record(Product(1, 100, 10, b_transposed=True), 3, {"torch": [Timing(1e-6, 4e-6)]})["sides"]["torch"]
    assert few["cache_gigabytes_per_second"] == pytest.approx(4.0)
    assert few["memory_gigabytes_per_second"] == pytest.approx(1.0)
    assert "gigaflops" not in few


def test_a_workload_together_and_its_tables(capsys: pytest.CaptureFixture[str]) -> None:
    slow, quick, few = Product(1000, 100, 50), Product(1000, 100, 50, b_transposed=True), Product(1, 1000, 250, b_transposed=True)
    every = {"a": Counter({slow: 1, quick: 2, few: 4}), "b": Counter({quick: 1}), "c": Counter({few: 1})}
    found = {"tinylm": [[Timing(2e-3), Timing(1e-3), Timing(1e-3, 2e-3)]], "torch": [[Timing(1e-3), Timing(1e-3), Timing(5e-4, 1e-3)]]}
    records = workload_records(every, found)
    assert records["a"]["gigaflops"] == pytest.approx({"tinylm": 3e7 / 4e-3 / 1e9, "torch": 3e7 / 3e-3 / 1e9})
    assert records["b"]["gigaflops"] == pytest.approx({"tinylm": 10, "torch": 10})
    assert records["c"]["gigaflops"] == {}
    tables = product_tables(records, {"gigaflops": 20.0})
    for table in tables:
        benchmark.screen().print(table)
    rows = [line.split("  ") for line in capsys.readouterr().out.splitlines()]
    shown = [[cell.strip() for cell in row if cell.strip()] for row in rows]
    assert shown[:4] == [
        ["a: product", "m × n × k", "per step", "GFLOP/s", "PyTorch", "ratio of rates", "of the limit"],
        ["dX = dY W", "1000 × 100 × 50", "1", "5", "10", "0.50", "25 %"],
        ["Y = X Wᵀ", "1000 × 100 × 50", "2", "10", "10", "1.00", "50 %"],
        ["all together", "8", "10", "0.75", "38 %"],
    ]
    assert shown[4:6] == [
        ["a: few rows, GB/s", "m × n × k", "per step", "tinylm, cache", "PyTorch, cache", "tinylm, memory", "PyTorch, memory"],
        ["Y = X Wᵀ", "1 × 1000 × 250", "4", "1", "2", "0", "1"],
    ]
    alone = {side: rounds for side, rounds in found.items() if side == "tinylm"}
    (table, _) = product_tables({"a": workload_records(every, alone)["a"]}, {"gigaflops": 20.0})
    assert [column.header for column in table.columns] == ["a: product", "m × n × k", "per step", "GFLOP/s", "of the limit"]


def test_the_limits_are_measured() -> None:
    limits = Limits()
    assert limits.gigaflops(dry_run=True) > 0
    assert limits.cache_gigabytes(dry_run=True) > 0


# ---------------------------------------------------------------- the command


def test_the_products_of_a_small_workload(tmp_path: Path) -> None:
    result = script("benchmark.py", "--products", "--against", "torch", "--dry-run", "--out", tmp_path / "never")
    assert result.returncode == 0, result.stderr
    for words in (
        "processor: ",
        "products: ",
        "float32 multiply-adds in registers, with all threads: ",
        "gpt-small: product",
        "768 × 384 × 128",
    ):
        assert words in result.stdout
    assert "recording a + b" not in result.stdout
    assert not (tmp_path / "never").exists()


def test_the_file_of_the_products(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(benchmark, "WORKLOADS", {name: TINY[name] for name in ("gpt", "decode")})
    monkeypatch.setattr(benchmark, "limits", lambda read, _: {"gigaflops": 2.0, "cache_gigabytes_per_second": 3.0, "memory": read})
    monkeypatch.setattr(benchmark, "read_bandwidth", lambda _: 4.0)
    fake = {"tinylm": [[Timing(1.0, 2.0)] * 40] * 2, "torch": [[Timing(2.0, 4.0)] * 40] * 2}
    monkeypatch.setattr(benchmark, "product_rounds", lambda *_: fake)
    monkeypatch.setattr(sys, "argv", ["benchmark.py", "--products", "--against", "torch", "--pairs", "2", "--out", str(tmp_path)])
    benchmark.main()
    record = json.loads((tmp_path / "products.json").read_text(encoding="utf-8"))
    assert record["products"]["precision"] == "float32"
    machine = record["machine"]
    assert machine["processor"]
    assert machine["cpu_products"]
    assert machine["threads"] >= 1
    assert len(machine["date"].split("-")) == 3
    assert list(record["products"]["workloads"]) == ["gpt", "decode"]
    assert record["products"]["limits"] == {"gigaflops": 2.0, "cache_gigabytes_per_second": 3.0, "memory": 4.0}
    for found in record["products"]["workloads"].values():
        for row in found["products"]:
            assert row["sides"]["torch"]["measured_seconds"] == [2.0, 2.0]
    first = record["products"]["workloads"]["gpt"]["products"][0]
    assert (first["m"], first["n"], first["k"], first["times_per_step"]) == (12, 24, 8, 2)


def test_settings_that_do_not_go_together(monkeypatch: pytest.MonkeyPatch) -> None:
    generating = script_here("benchmark.py", "--products", "--precision", "bfloat16", "--workload", "decode", "decode-smollm2")
    fails_with_one_line(generating, "--precision bfloat16 is for training steps, not for workloads that generate: decode, decode-smollm2")
    fails_with_one_line(script_here("benchmark.py", "--products", "--profile"), "choose one of them")
    monkeypatch.setenv("TINYLM_KERNELS", "reference")
    fails_with_one_line(script_here("benchmark.py", "--products"), "kernels that are switched on")
