"""A run's folder and what is opened from it.

::

    RUN/data ──open_data──▶ PreparedData ───────────┐
    RUN/models/NAME/final ───────────open_trained───┴─▶ TrainedModel: weights, patching, vocabulary, tokenizers

``folder`` gives the paths of a run, ``formats`` documents its JSON files, ``fitted_patching`` fits patchings before
training, ``trained`` opens models after it.
"""

from lst.runs.fitted_patching import FittedPatching, fit_patching, load_patching, plain_patching
from lst.runs.folder import RunFolder, open_data, require_models
from lst.runs.trained import TrainedModel, is_trained, open_trained, save_trained

__all__ = [
    "FittedPatching",
    "RunFolder",
    "TrainedModel",
    "fit_patching",
    "is_trained",
    "load_patching",
    "open_data",
    "open_trained",
    "plain_patching",
    "require_models",
    "save_trained",
]
