"""Preparing: from a corpus to an index of shards.

::

    gather (lists) ──▶ fitting (codebook, tokenizer, vocabulary) ──▶ shard_tasks ──▶ index
"""

from lst.data.prepare.options import PrepareOptions
from lst.data.prepare.prepare import prepare

__all__ = ["PrepareOptions", "prepare"]
