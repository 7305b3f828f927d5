"""Marks GELU."""

import numpy as np
from scipy.special import erf

from tinylm import ops
from tinylm.learn.exercise import Mistake
from tinylm.learn.op_marking import call, check_float32, check_op, normal
from tinylm.learn.work import Work

HINTS = (
    "The product rule: ∂(x Φ(x))/∂x = Φ(x) + x φ(x).",
    "Compute below = 0.5 * (1 + xp.erf(x / math.sqrt(2))) once: y is x * below, and the vjp uses it again.",
    "xp.exp(-0.5 * x * x) / math.sqrt(2 * math.pi) is φ(x). The vjp returns (dy * (below + x * density),), with the comma.",
)
THEN = "tinylm/ops/activations.py has it as `gelu`, with the approximation by tanh that GPT-2 was trained with."
MISTAKES = (
    Mistake.of("Φ is held constant", "(below + x * density)", "below", says="the term x φ(x) is missing"),
    Mistake.of("the factor x is held constant", "(below + x * density)", "(x * density)", says="the term Φ(x) is missing"),
    Mistake.of("φ without its factor", " / math.sqrt(2 * math.pi)", "", says="1/√(2π) is missing"),
    Mistake.of(
        "a number that is float64",
        "xp.erf(x / math.sqrt(2))",
        "xp.erf(x / np.sqrt(2))",
        "import math\n",
        "import math\n\nimport numpy as np\n",
        says="would be float64",
    ),
    Mistake.of("erf of x, not of x/√2", "xp.erf(x / math.sqrt(2))", "xp.erf(x)", says="erf(x) instead of erf(x/√2)"),
    Mistake.of("the sign of a term", "(below + x * density)", "(below - x * density)", says="line 25: the term `x * density` has"),
    Mistake.of("float32 within", "below = 0.5 * (1", "x = x.astype('float32')\n    below = 0.5 * (1", says="float32 within"),
    Mistake.of(
        "no comma", "return (dy * (below + x * density),)", "return (dy * (below + x * density))", says="a comma makes a tuple of one"
    ),
)


def _causes(x):
    return {
        "erf(x) instead of erf(x/√2)": 0.5 * x * (1 + erf(x)),
        "the approximation by tanh": ops.gelu(x, approximate="tanh"),
        "Φ(x) alone: the factor x is missing": 0.5 * (1 + erf(x / np.sqrt(2))),
    }


def _vjp_causes(dy, x):
    below, density = 0.5 * (1 + erf(x / np.sqrt(2))), np.exp(-0.5 * x * x) / np.sqrt(2 * np.pi)
    return {
        "the product rule has two terms: the term x φ(x) is missing": (dy * below,),
        "the product rule has two terms: the term Φ(x) is missing": (dy * x * density,),
        "the factor x of φ(x) is missing": (dy * (below + density),),
        "φ has no factor: 1/√(2π) is missing": (dy * (below + x * density * np.sqrt(2 * np.pi)),),
    }


def mark(work: Work) -> None:
    check_op(work, "gelu", [call(normal(2, 3)), call([-3.0, -0.5, 0.7, 4.0])], causes=_causes, vjp_causes=_vjp_causes)
    check_float32(work, "gelu", call(normal(2, 3)))
