"""What workers of ``lst prepare`` need, imported once in the server that they are forked from.

What does not load here is said by the first task that needs it.
"""

from __future__ import annotations

import contextlib
import importlib

from lst.errors import UserError
from lst.lazy import import_or_explain, import_torchaudio

# All that the stages of preparing load when they are used.
importlib.import_module("lst.data.prepare.shard_tasks")
importlib.import_module("lst.data.prepare.fitting")
with contextlib.suppress(UserError):
    import_torchaudio()
with contextlib.suppress(UserError):
    import_or_explain("pocketsphinx", "alignment", "pip install pocketsphinx")
