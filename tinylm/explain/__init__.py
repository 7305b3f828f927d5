"""Looking inside: the backward pass step by step, attention maps, gates, and pictures of a run."""

from tinylm.explain.attention_maps import Attention as Attention
from tinylm.explain.attention_maps import attention_weights as attention_weights
from tinylm.explain.attention_maps import by_word as by_word
from tinylm.explain.attention_maps import draw_attention as draw_attention
from tinylm.explain.backward import Contribution as Contribution
from tinylm.explain.backward import Leaf as Leaf
from tinylm.explain.backward import Step as Step
from tinylm.explain.backward import leaves as leaves
from tinylm.explain.backward import steps as steps
from tinylm.explain.gates import Gates as Gates
from tinylm.explain.gates import draw_gates as draw_gates
from tinylm.explain.gates import gate_values as gate_values
from tinylm.explain.run_report import report as report
from tinylm.explain.web_page import page as page
