"""What workers of ``lst prepare`` need, imported once in the server that they are forked from.

What does not load here is said by the first task that needs it. An interrupt meanwhile is the command's to tell, which
stops at it and ends the server.
"""

from __future__ import annotations

import contextlib
import importlib
import signal
import threading

from lst.errors import UserError
from lst.lazy import import_or_explain, import_torchaudio


def import_all() -> None:
    """Imports all that the stages of preparing load when they are used."""
    importlib.import_module("lst.data.prepare_shards")
    importlib.import_module("lst.data.unit_fitting")
    with contextlib.suppress(UserError):
        import_torchaudio()
    with contextlib.suppress(UserError):
        import_or_explain("pocketsphinx", "alignment", "pip install pocketsphinx")


if threading.current_thread() is threading.main_thread():
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    import_all()
    signal.signal(signal.SIGINT, before)
