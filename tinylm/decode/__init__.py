"""Uses of a trained model: generation, scoring, and decoding of translations."""

from tinylm.decode.beams import Hypothesis, beam_search, greedy
from tinylm.decode.constraints import token_biases
from tinylm.decode.sampling import Sampling, generate, generate_batch
from tinylm.decode.scoring import Score, score_text, token_log_probabilities
from tinylm.decode.stepping import Stepper
from tinylm.decode.texts import generate_text, stream_text

__all__ = [
    "Hypothesis", "Sampling", "Score", "Stepper", "beam_search", "generate", "generate_batch", "generate_text", "greedy", "score_text",
    "stream_text", "token_biases", "token_log_probabilities",
]  # fmt: skip
