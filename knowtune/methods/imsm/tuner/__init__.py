"""IMSM: the memories of the base and of the tuned model, interwoven at every token (Song et al., arXiv 2412.17383).

    gate_t = sigmoid([hbar ; h_t ; h'_t ; hbar'] W_A W_B)        h''_t = h'_t + gate_t (h_t - h'_t)

h_t, h'_t     (d,), what the output head reads of the base and of the tuned model: states after the final norm
hbar, hbar'   (d,), their means over the prompt, the query
W_A, W_B      (4d, r), (r, d), without bias; trained together with the inner adapter. gate_t: (d,), each in (0, 1)

The logits are the frozen head's of h''. What the paper says: the equations, gate and adapter trained jointly by the
cross-entropy of the answer, query means fixed after the prompt. What the authors' code does: two copies of the model,
no cache, Kaiming starts of W_A and W_B, dropout on the output of each, the gate in float32.

Ours, and no departure in what is computed for an answer: one copy of the base, which is the frozen memory with the
inner adapter off; both memories cached; and where the paper says nothing of the query, our rules (`query.py`).
"""

import peft  # noqa: F401  # first: its import registers this package, which must not be half imported by then

from knowtune.methods.imsm.tuner.config import ImsmConfig
from knowtune.methods.imsm.tuner.layer import ImsmLayer
from knowtune.methods.imsm.tuner.model import ImsmModel

__all__ = ["ImsmConfig", "ImsmLayer", "ImsmModel"]
