"""From cells to tokens: cells, normal form, templates, chat messages, layouts, tokens, batches."""
