"""Looking inside: the backward pass step by step, attention maps, gates, and pictures of a run."""

from tinylm.explain.activations import Activations, cache, names, replace
from tinylm.explain.attention_maps import Attention, attention_weights, by_word
from tinylm.explain.attention_pictures import draw_attention
from tinylm.explain.backward import Contribution, Leaf, Step, leaves, steps
from tinylm.explain.gate_pictures import draw_gates
from tinylm.explain.gates import Gates, gate_values
from tinylm.explain.live.model_page import ModelPage, model_page
from tinylm.explain.questions.ablation import Ablation, ablate
from tinylm.explain.questions.attribution import DirectAttribution, direct_attribution, draw_direct_attribution
from tinylm.explain.questions.head_scores import HeadScores, draw_head_scores, head_scores, repeated_tokens
from tinylm.explain.questions.input_attribution import InputAttribution, InputTokens, draw_input_attribution, input_attribution
from tinylm.explain.questions.lens import Lens, lens
from tinylm.explain.questions.patching import Patching, patch
from tinylm.explain.questions.pictures import draw_ablation, draw_lens, draw_patching
from tinylm.explain.questions.probing import Probe, draw_probe, probe
from tinylm.explain.questions.readout import readout
from tinylm.explain.questions.token_losses import TextLosses, draw_text_losses, text_losses
from tinylm.explain.run_comparison import compare_runs
from tinylm.explain.run_report import report
from tinylm.explain.time_steps import TimeSteps, time_steps
from tinylm.explain.web_page import backward_record, page

__all__ = [
    "Ablation", "Activations", "Attention", "Contribution", "DirectAttribution", "Gates", "HeadScores", "InputAttribution",
    "InputTokens", "Leaf", "Lens", "ModelPage", "Patching", "Probe", "Step", "TextLosses", "TimeSteps", "ablate", "attention_weights",
    "backward_record", "by_word", "cache", "compare_runs", "direct_attribution", "draw_ablation", "draw_attention",
    "draw_direct_attribution", "draw_gates", "draw_head_scores", "draw_input_attribution", "draw_lens", "draw_patching", "draw_probe",
    "draw_text_losses", "gate_values", "head_scores", "input_attribution", "leaves", "lens", "model_page", "names", "page", "patch",
    "probe", "readout", "repeated_tokens", "replace", "report", "steps", "text_losses", "time_steps",
]  # fmt: skip
