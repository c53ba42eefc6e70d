"""A run's folder, and what is opened from it.

::

    RUN/data ──open_data──▶ PreparedData ─┐
    RUN/models/NAME/final ──load_patching─┴─▶ model, patching and vocabulary that belong together

``folder`` knows the paths below a run, ``fitted_patching`` the patchings that are fitted before training, ``trained``
what a model and the data agree on.
"""

from lst.runs.fitted_patching import FittedPatching, fit_patching, load_patching, plain_patching
from lst.runs.folder import RunFolder, open_data, require_models
from lst.runs.trained import token_layout

__all__ = [
    "FittedPatching",
    "RunFolder",
    "fit_patching",
    "load_patching",
    "open_data",
    "plain_patching",
    "require_models",
    "token_layout",
]
