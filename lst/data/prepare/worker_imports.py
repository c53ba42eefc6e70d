"""Modules that workers of ``lst prepare`` need, imported once in the server that they are forked from.

A package that does not load here is reported by the first task that needs it.
"""

from __future__ import annotations

import contextlib
import importlib

from lst.errors import UserError
from lst.lazy import import_or_explain, import_torchaudio

# The stages of preparing import these modules when they run.
importlib.import_module("lst.data.prepare.shard_tasks")
importlib.import_module("lst.data.prepare.fitting")
# The writer of shards loads it when it is first used.
importlib.import_module("webdataset")
with contextlib.suppress(UserError):
    import_torchaudio()
with contextlib.suppress(UserError):
    import_or_explain("pocketsphinx", "alignment", "pip install pocketsphinx")
