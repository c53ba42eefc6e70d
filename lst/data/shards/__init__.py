"""Aligned utterances in checksummed webdataset tars, each with a receipt of its content.

::

    utterances ──write_shard──▶ NAME.tar, NAME.json (the receipt) ──ShardReader──▶ utterances
                                     └──verify_shards──▶ damage, by shard and sample
"""

from lst.data.shards.files import (
    INDEX_FILE,
    SHARD_FOLDER,
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
    SPEECH_SPLIT,
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
from lst.data.shards.provenance import (
    NO_SOURCE,
    SourceHours,
    has_provenance,
    hours_by,
    hours_by_source,
    hours_text,
    licence_warnings,
    source_lines,
    source_names,
    source_of,
)
from lst.data.shards.reader import ShardReader
from lst.data.shards.verify import Damage, verify_samples, verify_shards

__all__ = [
    "INDEX_FILE",
    "NO_SOURCE",
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
    "SourceHours",
    "SourceRecord",
    "TextFacts",
    "UnitFacts",
    "add_to_index",
    "entries_of",
    "finished_receipt",
    "has_provenance",
    "hours_by",
    "hours_by_source",
    "hours_text",
    "index_entry",
    "is_altered",
    "licence_warnings",
    "load_index",
    "read_index",
    "shard_name",
    "source_lines",
    "source_names",
    "source_of",
    "verify_samples",
    "verify_shards",
    "write_index",
    "write_shard",
]
