"""Looking inside: the backward pass step by step, attention maps, gates, and pictures of a run."""

from tinylm.explain.activations import Activations, cache, names, replace
from tinylm.explain.attention_maps import Attention, attention_weights, by_word
from tinylm.explain.attention_pictures import draw_attention
from tinylm.explain.backward import Contribution, Leaf, Step, leaves, steps
from tinylm.explain.gate_pictures import draw_gates
from tinylm.explain.gates import Gates, gate_values
from tinylm.explain.live.model_page import ModelPage, model_page
from tinylm.explain.run_report import report
from tinylm.explain.time_steps import TimeSteps, time_steps
from tinylm.explain.web_page import backward_record, page

__all__ = [
    "Activations", "Attention", "Contribution", "Gates", "Leaf", "ModelPage", "Step", "TimeSteps", "attention_weights", "backward_record",
    "by_word", "cache", "draw_attention", "draw_gates", "gate_values", "leaves", "model_page", "names", "page", "replace", "report",
    "steps", "time_steps",
]  # fmt: skip
