"""Where a model is: a folder, a run with the model's name, or the Hugging Face Hub.

::

    FOLDER                      a model's folder, such as RUN/models/NAME/final, or a copy of one anywhere
    RUN and name=NAME           RUN/models/NAME/final; without a name where the run has one model only
    hub:OWNER/NAME, OWNER/NAME  a model of the Hub, kept in its cache
"""

from __future__ import annotations

from pathlib import Path

import torch

from lst.api.model import SpeechTextModel
from lst.api.voices import voice_of
from lst.errors import UserError
from lst.lazy import import_or_explain
from lst.model.checkpoint import CONFIG_FILE, WEIGHTS_FILE
from lst.runs import RunFolder, open_whole
from lst.storage import locate
from lst.tokenizers.weights import HUB_PREFIX

# All that a model's folder may hold; nothing else of a repository is fetched.
FILES = ("*.safetensors", "*.json", "*.model", "README.md", "unit_model/*")


def open_model(
    place: Path | str,
    name: str | None = None,
    *,
    revision: str | None = None,
    data_dir: Path | str | None = None,
    weights: str | None = None,
    device: str = "cpu",
    verify: bool = True,
) -> SpeechTextModel:
    """``lst.load``; see there."""
    if device != "cpu" and not (device.startswith("cuda") and torch.cuda.is_available()):
        raise UserError(f"device={device}: allowed are cpu and, where torch sees a GPU, cuda")
    whole = open_whole(
        model_folder(place, name, revision),
        {"weights": weights} if weights else None,
        verify,
        None if data_dir is None else locate(str(data_dir)),
    )
    whole.model.to(device)
    return SpeechTextModel(whole, voice_of(whole))


def model_folder(place: Path | str, name: str | None = None, revision: str | None = None) -> Path:
    """The folder of a model; one of the Hub is fetched.

    Raises:
        UserError: there is no such model, or a run has several and no name says which.
    """
    folder = Path(place).expanduser()
    if not str(place).startswith(HUB_PREFIX) and folder.is_dir():
        if (folder / CONFIG_FILE).exists() and (folder / WEIGHTS_FILE).exists():
            return folder
        return _of_run(RunFolder(folder), name)
    if isinstance(place, Path) or not _is_repository(place.removeprefix(HUB_PREFIX)):
        raise UserError(f"no model in {place}: there is no such folder; a model of the Hub is called OWNER/NAME")
    return _fetched(place.removeprefix(HUB_PREFIX), revision)


def _of_run(run: RunFolder, name: str | None) -> Path:
    names = run.trained_models()
    if not names:
        raise UserError(f"{run.root} is neither a model's folder nor a run with a trained model: run lst train first")
    if name is None and len(names) > 1:
        raise UserError(f"{run.root} has the models {', '.join(sorted(names))}: say which, as in name={names[0]!r}")
    if name is not None and name not in names:
        raise UserError(f"no trained model {name!r} in {run.root}; there are {', '.join(sorted(names))}")
    return run.final(name or names[0])


def _is_repository(name: str) -> bool:
    owner, _, own = name.partition("/")
    return bool(owner and own) and "/" not in own and not name.startswith((".", "~"))


def _fetched(name: str, revision: str | None) -> Path:
    hub = import_or_explain("huggingface_hub", f"the model {name} of the Hub", "pip install huggingface_hub")
    try:
        return Path(hub.snapshot_download(name, revision=revision, allow_patterns=list(FILES)))
    except Exception as error:
        told = str(error).splitlines() or [""]
        raise UserError(
            f"no model {name!r}: there is no such folder, and it cannot be fetched from the Hugging Face Hub "
            f"({type(error).__name__}: {told[0]})"
        ) from None
