"""From cells to tokens: cells and their paths, normal form, templates, chat messages, layouts, tokens, batches."""
