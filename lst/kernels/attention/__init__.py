"""Interval attention: query i sees keys ``first_key[i]`` … ``last_key[i]``, and both ends never move back.

Every attention of the model has this form, on tokens and patches joined over all documents of a batch:

========================  ==========================================  =========================
who asks                  first key                                   last key
========================  ==========================================  =========================
token, of tokens          document's start, or window − 1 back        itself
patch, of patches         document's start                            itself
token, of patches         document's start, or window − 1 back        last patch complete
patch's query, of tokens  first token of the patch window − 1 back    last token of its patch
========================  ==========================================  =========================

So nothing is padded, no mask over all pairs is made, and the cost is that of the intervals. One operator,
``torch.ops.lst.interval_attention``, that ``torch.compile`` sees as a whole, with three paths: ``cpu`` (blocks of
queries, in PyTorch), ``triton`` (CUDA) and ``reference`` (one dense mask; the tests' measure, and what runs on other
devices). ``attention_path`` says which one a device gets.
"""

from lst.kernels.attention.op import attention_path, forced_path, interval_attention

__all__ = ["attention_path", "forced_path", "interval_attention"]
