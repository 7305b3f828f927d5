"""Language models."""

from tinylm.models.gpt import GPT as GPT
from tinylm.models.gpt import GPTConfig as GPTConfig
