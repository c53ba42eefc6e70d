"""Vocos (Siuzdak, 2023) as a vocoder of mels: an extra with published weights, from a local folder.

::

    FOLDER/config.yaml          as published: feature extractor, backbone and head
    FOLDER/model.safetensors    its weights

The package vocos requires encodec, whose metadata names a non-commercial licence: it is installed only by those who ask
for it, and never the default. Vocos reads mels of its own. They are taken from Griffin and Lim's sound of ours: spectra
are what both agree on, and phases do not enter a mel.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml

from lst import storage
from lst.data.audio import resample
from lst.errors import UserError
from lst.lazy import import_or_explain
from lst.storage import FormatError
from lst.storage.tensors import read_header
from lst.voice.mel import MelScale

INSTALL = "pip install 'latent-speech-text[vocos]'"
# The parts of a Vocos of mels. A configuration names classes, and no others are made of it.
_PARTS = {
    "feature_extractor": "vocos.feature_extractors.MelSpectrogramFeatures",
    "backbone": "vocos.models.VocosBackbone",
    "head": "vocos.heads.ISTFTHead",
}
# Larger than any size of a published one.
_MOST = 65_536
_REMEDY = "Give the folder of a Vocos of mels, such as charactr/vocos-mel-24khz."


@dataclass(frozen=True, eq=False)
class VocosVocoder:
    """A Vocos of mels.

    Attributes:
        model: in evaluation mode.
        sample_rate_hz: of its mels.
    """

    model: Any
    sample_rate_hz: int
    name = "Vocos"

    @torch.inference_mode()
    def waveform(self, mel: np.ndarray, scale: MelScale) -> np.ndarray:
        """See ``MelVocoder``."""
        heard = resample("the mel", scale.waveform(mel), scale.sample_rate_hz, self.sample_rate_hz)
        made = self.model(torch.from_numpy(heard)[None])[0].numpy()
        found = resample("Vocos", made, self.sample_rate_hz, scale.sample_rate_hz)
        num_samples = mel.shape[1] * scale.hop_samples
        return np.pad(found[:num_samples], (0, max(0, num_samples - len(found))))

    @classmethod
    def load(cls, folder: Path) -> VocosVocoder:
        """Reads the folder of a Vocos.

        Raises:
            UserError: the package or a file is missing, or the files are not of a Vocos of mels.
        """
        import_or_explain("vocos", "this vocoder", INSTALL)
        described = _description(folder / "config.yaml")
        file = read_header(folder / "model.safetensors", "the weights of Vocos are", _REMEDY)
        try:
            model = _model(described)
            model.load_state_dict(file.read())
        except (TypeError, RuntimeError, FormatError) as error:
            raise UserError(f"{folder} holds no Vocos of mels: {str(error).splitlines()[0]} {_REMEDY}") from None
        return cls(model.eval().requires_grad_(False), int(described["feature_extractor"].get("sample_rate", 24_000)))


def random_vocos() -> VocosVocoder:
    """One of the published sizes and random weights, to measure its speed."""
    sizes = {"input_channels": 100, "dim": 512, "intermediate_dim": 1536, "num_layers": 8}
    head = {"dim": 512, "n_fft": 1024, "hop_length": 256, "padding": "center"}
    return VocosVocoder(_model({"feature_extractor": {}, "backbone": sizes, "head": head}).eval(), 24_000)


def _model(described: Mapping[str, dict[str, Any]]) -> Any:
    from vocos import Vocos
    from vocos.feature_extractors import MelSpectrogramFeatures
    from vocos.heads import ISTFTHead
    from vocos.models import VocosBackbone

    features = MelSpectrogramFeatures(**described["feature_extractor"])
    return Vocos(features, VocosBackbone(**described["backbone"]), ISTFTHead(**described["head"]))


def _description(path: Path) -> Mapping[str, dict[str, Any]]:
    """The arguments of each part."""
    try:
        found = yaml.safe_load(storage.read_foreign(path))
        if {name: found[name]["class_path"] for name in _PARTS} != _PARTS:
            raise KeyError("class_path")
        arguments = {name: dict(found[name]["init_args"] or {}) for name in _PARTS}
        if not all(_is_plain(value) for own in arguments.values() for value in own.values()):
            raise ValueError("init_args")
        return arguments
    except FileNotFoundError:
        raise UserError(f"{path} is missing. {_REMEDY}") from None
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror}). {_REMEDY}") from None
    except (yaml.YAMLError, KeyError, TypeError, ValueError, RecursionError):
        raise UserError(f"{path} describes no Vocos of mels: its parts must be {', '.join(_PARTS.values())}") from None


def _is_plain(value: object) -> bool:
    """Whether a value may be an argument of a part: a damaged file must not ask for all memory."""
    is_size = isinstance(value, int) and 0 <= value <= _MOST
    return value is None or is_size or (isinstance(value, (str, float)) and len(str(value)) < 100)
