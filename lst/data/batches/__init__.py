"""Makes batches of shards: order, mixing, packing, and a loader that resumes exactly.

::

    shards ──order, mix_sources──▶ documents ──fill_rows──▶ PackedBatch ──BatchLoader──▶ training
"""

from lst.data.batches.loader import BatchLoader, LoaderState, document_ids
from lst.data.batches.mixing import CorpusPart, mix_sources
from lst.data.batches.packing import fill_rows
from lst.data.batches.stream import BatchStream, StreamPlan

__all__ = [
    "BatchLoader",
    "BatchStream",
    "CorpusPart",
    "LoaderState",
    "StreamPlan",
    "document_ids",
    "fill_rows",
    "mix_sources",
]
