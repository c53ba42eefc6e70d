"""Aligned utterances in checksummed webdataset tars, each with a receipt of its content.

::

    utterances ──write_shard──▶ NAME.tar, NAME.json (the receipt) ──ShardReader──▶ utterances
                                     └──verify_shards──▶ damage, by shard and sample
"""

from lst.data.shards.files import (
    INDEX_FILE,
    SHARD_FOLDER,
    SPEECH_SPLIT,
    SPLITS,
    add_to_index,
    entries_of,
    finished_receipt,
    index_entry,
    is_altered,
    load_index,
    read_index,
    shard_name,
    write_index,
    write_shard,
)
from lst.data.shards.formats import (
    VERSION,
    Index,
    IndexEntry,
    LeftOut,
    MadeFrom,
    NamedRow,
    Receipt,
    SimulatedFacts,
    SourceRecord,
    TextFacts,
    UnitFacts,
)
from lst.data.shards.reader import ShardReader
from lst.data.shards.verify import Damage, verify_samples, verify_shards

__all__ = [
    "INDEX_FILE",
    "SHARD_FOLDER",
    "SPEECH_SPLIT",
    "SPLITS",
    "VERSION",
    "Damage",
    "Index",
    "IndexEntry",
    "LeftOut",
    "MadeFrom",
    "NamedRow",
    "Receipt",
    "ShardReader",
    "SimulatedFacts",
    "SourceRecord",
    "TextFacts",
    "UnitFacts",
    "add_to_index",
    "entries_of",
    "finished_receipt",
    "index_entry",
    "is_altered",
    "load_index",
    "read_index",
    "shard_name",
    "verify_samples",
    "verify_shards",
    "write_index",
    "write_shard",
]
