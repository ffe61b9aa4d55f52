"""KaSA: a low-rank change in the form of a singular value decomposition, on a base without its smallest components."""
