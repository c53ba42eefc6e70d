"""Interval attention: query i sees keys ``first_key[i]`` … ``last_key[i]``, and both ends are non-decreasing in i.

Every attention of the model has this form, on the tokens and patches of all documents of a batch:

========================  ==========================================  =========================
queries, and keys         first key                                   last key
========================  ==========================================  =========================
tokens, tokens            document's start, or window − 1 back        itself
patches, patches          document's start                            itself
tokens, patches           document's start, or window − 1 back        last complete patch
patch queries, tokens     first token of the patch window − 1 back    last token of its patch
========================  ==========================================  =========================

So there is no padding and no mask over all pairs, and the cost grows with the intervals alone. It is one operator to
``torch.compile``, ``torch.ops.lst.interval_attention``, with three paths: ``cpu`` (blocks of queries, in PyTorch),
``triton`` (CUDA) and ``reference`` (one dense mask: for tests, and for other devices). ``attention_path`` tells which
path a device takes.

>>> import torch
>>> query, key, value = torch.ones(3, 1, 2), torch.ones(3, 1, 2), torch.eye(3)[:, None, :2]
>>> first_key, last_key = torch.tensor([0, 0, 2]), torch.tensor([0, 1, 2])
>>> interval_attention(query, key, value, first_key, last_key)[:, 0].tolist()
[[1.0, 0.0], [0.5, 0.5], [0.0, 0.0]]
"""

from lst.kernels.attention.op import attention_path, forced_path, interval_attention

__all__ = ["attention_path", "forced_path", "interval_attention"]
