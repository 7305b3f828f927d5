"""Every op has samples and a reference, every setting is tried, and every kernel is called by a binding."""

import inspect
import re
import textwrap
from pathlib import Path

import pytest

import tinylm
from tinylm.bindings.cuda import launching
from tinylm.engine.kernels import registry
from tinylm.errors import ConfigError
from tinylm.verify import samples_of
from tinylm.verify.samples import makers
from tinylm.verify.torch.reference import references, torch_reference

ROOT = Path(tinylm.__file__).parents[1]
ALL = pytest.mark.parametrize("name", list(registry))


@ALL
def test_every_op_has_several_samples(name):
    assert len(samples_of(name)) >= 2, f"{name}: add samples under tinylm/verify/samples/"
    assert len({s.note for s in samples_of(name)}) == len(samples_of(name))


@ALL
def test_every_op_has_a_reference(name):
    assert callable(torch_reference(name))


@ALL
def test_every_parameter_is_tried(name):
    """Each array argument occurs in some sample, and is left out in one if it is optional; each setting has a value
    other than its default in some sample."""
    parameters = list(inspect.signature(registry[name].body).parameters.values())
    samples = samples_of(name)
    for i, p in enumerate(parameters):
        given = [s.settings.get(p.name, s.args[i] if i < len(s.args) else p.default) for s in samples]
        assert any(value is not p.default for value in given), f"{name}: no sample gives {p.name}"
        if p.kind is p.POSITIONAL_ONLY and p.default is None:
            assert any(value is None for value in given), f"{name}: no sample leaves out {p.name}"


def test_samples_are_the_same_at_each_call():
    first, second = samples_of("linear")[0], samples_of("linear")[0]
    for a, b in zip(first.args, second.args, strict=True):
        assert a.tobytes() == b.tobytes()


def test_nothing_is_registered_for_an_op_that_does_not_exist():
    assert set(makers) == set(registry)
    assert set(references) == set(registry)


def test_an_unknown_op_is_named():
    with pytest.raises(ConfigError, match="'sine' has no samples"):
        samples_of("sine")
    with pytest.raises(ConfigError, match="'sine' has no PyTorch reference"):
        torch_reference("sine")


def test_every_op_is_public():
    for name in registry:
        assert getattr(tinylm, name).op is registry[name]
        assert name in tinylm.__all__


# ---------------------------------------------------------------- kernels


def kernels_in(source: str, language: str) -> set[str]:
    """Returns the entry points that a kernel file defines: __global__ functions, or the C functions that Python may call."""
    source = re.sub(r"//[^\n]*|/\*.*?\*/", "", source, flags=re.DOTALL)
    if language == "cuda":
        bounds = r"(?:__launch_bounds__\s*\([^)]*\)\s*)?"
        return set(re.findall(rf"__global__\s+{bounds}void\s+{bounds}(\w+)", source))
    return set(re.findall(r"^EXPORT int (\w+)\(", source, flags=re.MULTILINE))


def test_kernels_are_found_in_sources():
    cuda = 'extern "C" __global__ void first(int n) {}\n// __global__ void no() {}\n__global__ __launch_bounds__(256) void second() {}'
    cuda += "\n__global__ void __launch_bounds__(128, 3) third(int n) {}"
    assert kernels_in(cuda, "cuda") == {"first", "second", "third"}
    c = """
        static inline float helper(float x) { return x; }
        EXPORT int first(const float *x,
                         int n) {
            return n ? helper(*x) : 0;
        }
        /* EXPORT int no(void) { return 0; } */
        void shared(int n) { (void)n; }
        EXPORT int second(void) { return 0; }
    """
    assert kernels_in(textwrap.dedent(c), "c") == {"first", "second"}


@pytest.mark.parametrize(
    ("path", "language"),
    [*((p, "cuda") for p in sorted(ROOT.glob("kernels/cuda/*.cu"))), *((p, "c") for p in sorted(ROOT.glob("kernels/cpu/*.c")))],
    ids=lambda value: value.name if isinstance(value, Path) else value,
)
def test_every_kernel_is_bound(path, language):
    bindings = "\n".join(p.read_text() for p in ROOT.glob("tinylm/bindings/**/*.py"))
    names = kernels_in(launching.source(path.stem) if language == "cuda" else path.read_text(), language)  # with its includes
    assert names or path.with_suffix(".h").exists(), f"{path.name} defines no kernel, and has no header for other files"
    unbound = sorted(name for name in names if not re.search(rf"\b{name}\b", bindings))
    assert not unbound, f"{path.name}: nothing in tinylm/bindings calls {', '.join(unbound)}"
