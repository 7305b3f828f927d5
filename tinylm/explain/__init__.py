"""Looking inside: the backward pass step by step, attention maps, gates, and pictures of a run."""

from tinylm.explain.backward import Contribution as Contribution
from tinylm.explain.backward import Leaf as Leaf
from tinylm.explain.backward import Step as Step
from tinylm.explain.backward import leaves as leaves
from tinylm.explain.backward import steps as steps
from tinylm.explain.web_page import page as page
