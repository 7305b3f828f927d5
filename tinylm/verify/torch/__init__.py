"""Twins of models, layers and training in PyTorch and Hugging Face transformers."""
