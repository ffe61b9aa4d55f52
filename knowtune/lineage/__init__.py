"""Where a model comes from and where a row went, from what the stages recorded: plain data, text and a picture."""
