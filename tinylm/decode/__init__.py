"""Uses of a trained model: generation, scoring, and decoding of translations."""

from tinylm.decode.beams import Hypothesis as Hypothesis
from tinylm.decode.beams import beam_search as beam_search
from tinylm.decode.beams import greedy as greedy
from tinylm.decode.sampling import Sampling as Sampling
from tinylm.decode.sampling import generate as generate
from tinylm.decode.sampling import generate_batch as generate_batch
from tinylm.decode.scoring import Score as Score
from tinylm.decode.scoring import score_text as score_text
from tinylm.decode.scoring import token_log_probabilities as token_log_probabilities
from tinylm.decode.stepping import Stepper as Stepper
