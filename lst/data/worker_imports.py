"""What workers of ``lst prepare`` need, imported once in the server that they are forked from.

What does not load here is said by the first task that needs it.
"""

from __future__ import annotations

import contextlib

import lst.data.prepare_shards
import lst.data.unit_fitting  # noqa: F401
from lst.errors import UserError
from lst.lazy import import_or_explain, import_torchaudio

with contextlib.suppress(UserError):
    import_torchaudio()
with contextlib.suppress(UserError):
    import_or_explain("pocketsphinx", "alignment", "pip install pocketsphinx")
