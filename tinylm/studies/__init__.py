"""Studies of training: time and memory, scaling laws, long range, mixing, dynamic evaluation."""
