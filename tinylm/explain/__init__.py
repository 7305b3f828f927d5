"""Looking inside: the backward pass step by step, attention maps, gates, and pictures of a run."""

from tinylm.explain.activations import Activations, cache, names, replace
from tinylm.explain.attention_maps import Attention, attention_weights, by_word
from tinylm.explain.attention_pictures import draw_attention
from tinylm.explain.backward import Contribution, Leaf, Step, leaves, steps
from tinylm.explain.gate_pictures import draw_gates
from tinylm.explain.gates import Gates, gate_values
from tinylm.explain.run_report import report
from tinylm.explain.web_page import page

__all__ = [
    "Activations", "Attention", "Contribution", "Gates", "Leaf", "Step", "attention_weights", "by_word", "cache", "draw_attention",
    "draw_gates", "gate_values", "leaves", "names", "page", "replace", "report", "steps",
]  # fmt: skip
