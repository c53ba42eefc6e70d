"""A run's folder and what is opened from it.

::

    RUN/data ──open_data──▶ PreparedData ───────────┐
    RUN/models/NAME/final ───────────open_trained───┴─▶ TrainedModel: weights, patching, vocabulary, tokenizers
    a copy of such a folder ─────────open_whole───────▶ WholeModel: the same without the data

``folder`` gives the paths of a run, ``formats`` documents its JSON files, ``fitted_patching`` fits patchings before
training, ``model_tokenizers`` keeps tokenizers beside a model, and ``trained`` opens models after it.
"""

from lst.runs.fitted_patching import FittedPatching, fit_patching, load_patching, plain_patching
from lst.runs.folder import RunFolder, open_data, require_models
from lst.runs.model_tokenizers import ModelTokenizers
from lst.runs.trained import TrainedModel, WholeModel, each_trained, is_trained, open_trained, open_whole, save_trained

__all__ = [
    "FittedPatching",
    "ModelTokenizers",
    "RunFolder",
    "TrainedModel",
    "WholeModel",
    "each_trained",
    "fit_patching",
    "is_trained",
    "load_patching",
    "open_data",
    "open_trained",
    "open_whole",
    "plain_patching",
    "require_models",
    "save_trained",
]
