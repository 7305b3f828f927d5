"""Questions to a trained model about one text, each answered by forward passes in which activations are read or changed."""
