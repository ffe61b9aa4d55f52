"""SK_TUNING: virtual tokens that begin at the meaning of a text (Prottasha et al., arXiv 2410.08598).

    prefix:  K_l' = F_l(K_l), V_l' = G_l(V_l)     (K_l, V_l) of layer l, l = 1..n, from reading the text with the base
    prompt:  E'   = F(E)                          E = embeddings of the text's tokens (P, d), before the input's own

The base is frozen. A model reads its input after the prefix or prompt, and only F, G and a classifier's head learn.

What the paper says: one frozen model reads the text, and again the input with what a small trainable block made of the
text's states, one block a layer for the prefix, one in all for the prompt. What its released code does: the notebooks
train the embeddings E themselves, begun at the text's, and no block (`form: released`; the block of its `transform`
is one matrix for all layers, heads, keys and values). What is our reconstruction (`form: paper`): F and G add to the
states what a matrix makes of them, zero at the start, so that training begins at the base that has read the text.

Departures from the released code: the text is read once and not at every step (paper), or once for a batch and not
once for each row (released), always without the base's dropout; the head is the model's own, see `pooling`.
"""

import peft  # noqa: F401  # first: its import registers this package, which must not be half imported by then

from knowtune.methods.sk_tuning.tuner.config import SkTuningConfig
from knowtune.methods.sk_tuning.tuner.layer import SkTuningLayer
from knowtune.methods.sk_tuning.tuner.model import SkTuningModel

__all__ = ["SkTuningConfig", "SkTuningLayer", "SkTuningModel"]
