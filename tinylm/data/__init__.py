"""Corpora, tokenizers and batches."""

from tinylm.data.batching import ParallelStreams, ShuffledBlocks, consecutive_blocks, split_text
from tinylm.data.corpora import load_text
from tinylm.data.corpus import Corpus, open_corpus
from tinylm.data.tokenizers import BpeTokenizer, CharTokenizer, Tokenizer, WordTokenizer, train_tokenizer

__all__ = [
    "BpeTokenizer", "CharTokenizer", "Corpus", "ParallelStreams", "ShuffledBlocks", "Tokenizer", "WordTokenizer",
    "consecutive_blocks", "load_text", "open_corpus", "split_text", "train_tokenizer",
]  # fmt: skip
