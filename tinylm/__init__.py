"""tinylm: small language models on a from-scratch tensor and autograd engine."""
