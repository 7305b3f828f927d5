"""The walk: from the loss back to every parameter."""

ORDER = ("backward", "hvp")
