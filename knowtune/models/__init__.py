"""What a model computes: loading, forward passes, generation, hidden states, heads, masks."""
