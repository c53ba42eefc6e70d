"""Linear layer and cross-entropy in one, over chunks of tokens: the logits [N, V] never exist at once.

Where gradients are wanted they are computed with the logits at hand, so nothing is computed twice and nothing of the
size of the logits is kept. ``reference`` is the plain twin.
"""

from lst.kernels.cross_entropy.op import linear_cross_entropy

__all__ = ["linear_cross_entropy"]
