"""Train a run: the loop, the loss, the weights of rows."""
