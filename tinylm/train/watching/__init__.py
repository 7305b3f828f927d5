"""What a person sees of a run: what it is in a few words, and how far it is while it trains."""
