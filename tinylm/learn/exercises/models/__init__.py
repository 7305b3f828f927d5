"""Models: from counting to a GPT."""

ORDER = ("bigram", "kneser_ney", "block", "gpt", "generate")
