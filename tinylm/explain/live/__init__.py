"""The live page: the model in a browser, computed by plain JavaScript on the weights that Python packs."""
