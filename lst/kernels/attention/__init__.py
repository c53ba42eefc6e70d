"""Attention on joined documents, without leaks and without dense masks over all tokens.

Each function has a plain twin in ``reference`` that builds the whole mask; tests compare values and every gradient.
``local_attention`` and ``patch_cross_attention`` cost O(N·window): they work on blocks of the window, each block seeing
itself and what the window reaches before it. They are made of PyTorch operations, which run on the CPU and on a GPU.
"""

from lst.kernels.attention.blocked import local_attention, patch_cross_attention, patch_pool_attention, row_attention

__all__ = ["local_attention", "patch_cross_attention", "patch_pool_attention", "row_attention"]
