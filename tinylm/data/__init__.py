"""Corpora, tokenizers and batches."""

from tinylm.data.batching import ShuffledBlocks as ShuffledBlocks
from tinylm.data.batching import consecutive_blocks as consecutive_blocks
from tinylm.data.batching import split_ids as split_ids
from tinylm.data.corpora import load_text as load_text
from tinylm.data.tokenizers import CharTokenizer as CharTokenizer
