"""Corpora, tokenizers and batches."""

from tinylm.data.batching import ParallelStreams as ParallelStreams
from tinylm.data.batching import ShuffledBlocks as ShuffledBlocks
from tinylm.data.batching import consecutive_blocks as consecutive_blocks
from tinylm.data.batching import split_text as split_text
from tinylm.data.corpora import load_text as load_text
from tinylm.data.corpus import Corpus as Corpus
from tinylm.data.corpus import open_corpus as open_corpus
from tinylm.data.tokenizers import BpeTokenizer as BpeTokenizer
from tinylm.data.tokenizers import CharTokenizer as CharTokenizer
from tinylm.data.tokenizers import Tokenizer as Tokenizer
from tinylm.data.tokenizers import WordTokenizer as WordTokenizer
from tinylm.data.tokenizers import train_tokenizer as train_tokenizer
