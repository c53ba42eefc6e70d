"""Shape and patching of a trained model of this project that another training begins with, ``model.init_from``.

::

    FOLDER/config.json ──begun_as──▶ options of ``model.`` and ``patching.``
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import fields, replace
from typing import Any, TypedDict

from lst.configs.text_models import TEXT_CONFIG_FILE, text_model_folder
from lst.errors import raise_problems
from lst.model.config import ModelConfig, PatchingConfig
from lst.storage import FormatError, read_json
from lst.storage.typed import checked

# Options of the model that are no part of its weights' shape, and may change.
FREE_OPTIONS = ("init_from", "max_patches", "embedding_dropout", "local_rate")
_REMEDY = "Give the folder of a trained model, RUN/models/NAME/final, or hub:OWNER/NAME."


class _OwnValues(TypedDict, total=False):
    """What ``config.json`` of a trained model says of its shape, and of its patching."""

    model: dict[str, Any]
    patching: dict[str, Any]


def is_own_model(source: str) -> bool:
    """Whether ``model.init_from`` names a trained model of this project, and not a text model of transformers."""
    path = text_model_folder(source) / TEXT_CONFIG_FILE
    return path.is_file() and "patching" in _values(source)


def _values(source: str) -> _OwnValues:
    path = text_model_folder(source) / TEXT_CONFIG_FILE
    return read_json(path, _OwnValues, f"the model of model.init_from={source}", _REMEDY)


def begun_as(
    model: ModelConfig, patching: PatchingConfig, source: str, given: Collection[str]
) -> tuple[ModelConfig, PatchingConfig]:
    """Options of a training that begins with a trained model.

    Args:
        model, patching: the options as they were composed.
        source: ``model.init_from``.
        given: keys of the options that were given; patching that was given is kept.

    Returns:
        The model's shape, and the patches that it reads at inference: static ones after a curriculum.

    Raises:
        UserError: the folder's configuration is damaged, or options of the shape were given.
    """
    values, name = _values(source), f"the model of model.init_from={source}"
    try:
        shape = checked(values.get("model", {}), ModelConfig, "model")
        own = checked(values["patching"], PatchingConfig, "patching")
    except FormatError as error:
        raise FormatError(f"{name} {error}. {_REMEDY}") from None
    wrong = [
        f"model.{item.name}={getattr(model, item.name)}: {name} has {getattr(shape, item.name)}"
        for item in fields(ModelConfig)
        if f"model.{item.name}" in given
        and item.name not in FREE_OPTIONS
        and getattr(model, item.name) != getattr(shape, item.name)
    ]
    raise_problems("a trained model keeps its shape", wrong, "Leave these options out.")
    kept = {key: getattr(model, key) for key in FREE_OPTIONS if key == "init_from" or f"model.{key}" in given}
    if any(key.partition(".")[0] == "patching" for key in given):
        own = patching
    elif own.strategy in ("curriculum", "mixed") or (own.strategy == "aligned" and not shape.boundary_head):
        own = replace(own, strategy="static")
    # The family's rules would make another shape.
    return replace(shape, family=False, **kept), own
