"""Linear layer and cross-entropy in one, over chunks of tokens: the logits [N, V] are never all in memory.

The forward pass computes the gradients too, chunk by chunk: logits are computed once and never stored. ``reference`` is
the plain twin.
"""

from lst.kernels.cross_entropy.op import linear_cross_entropy

__all__ = ["linear_cross_entropy"]
