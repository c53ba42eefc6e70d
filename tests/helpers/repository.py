"""Where the checkout and, beside it, the optional real data of tests lie."""

from __future__ import annotations

import os
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
# Real recordings; what needs them skips without.
SHARED_DATA = Path(os.environ.get("LST_SHARED_DATA") or ROOT.parent / "shared" / "data")
