"""Using a trained language model."""

from tinylm.decode.sampling import generate as generate
from tinylm.decode.sampling import next_distribution as next_distribution
