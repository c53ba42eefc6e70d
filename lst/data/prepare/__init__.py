"""Preparing: from a corpus to an index of shards.

::

    gather (lists) ──▶ fitting (codebook, tokenizer, vocabulary) ──▶ shard_tasks ──▶ index
"""

from lst.data.prepare.options import PrepareOptions
from lst.data.prepare.prepare import check_preparing, prepare

__all__ = ["PrepareOptions", "check_preparing", "prepare"]
