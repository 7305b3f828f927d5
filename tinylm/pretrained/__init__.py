"""Other people's weights, tokenizers and chat templates, read with distrust: nothing is executed, and nothing is
allocated that the file's own size does not warrant."""
