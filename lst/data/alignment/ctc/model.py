"""CTC models of the wav2vec 2.0 family, loaded from a folder or a bundle.

There are three kinds of checkpoint: a Hugging Face folder (``config.json``, ``model.safetensors``, ``vocab.json``), a
folder of this project (``ctc.json``, ``model.safetensors`` with the names of torchaudio's ``wav2vec2_model``), and the
name of a torchaudio bundle. The weights of a bundle are downloaded to torch's hub cache (``TORCH_HOME``), or given as a
local file.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, TypeVar

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from lst.data.alignment.ctc.formats import Architecture, HuggingFaceConfig, Preprocessor
from lst.errors import UserError, raise_problems
from lst.lazy import import_torchaudio
from lst.storage import Between, FormatError, read_json, staged, write_json
from lst.storage.tensors import open_tensors
from lst.storage.typed import checked
from lst.tokenizers.weights import WeightIndex

T = TypeVar("T")
CTC_SAMPLE_RATE_HZ = 16_000
CTC_CONFIG_FILE, CTC_WEIGHTS_FILE = "ctc.json", "model.safetensors"
MAX_LABELS = 1_000_000
_HUGGING_FACE_KINDS = ("wav2vec2", "hubert")
# Parts of Hugging Face's names of weights, as regular expressions, and torchaudio's.
_RENAMED = {
    r"conv\.weight_g": "conv.parametrizations.weight.original0",
    r"conv\.weight_v": "conv.parametrizations.weight.original1",
    r"^encoder\.": "encoder.transformer.",
    r"^feature_projection\.": "encoder.feature_projection.",
    r"^lm_head\.": "aux.",
}
_REMEDY = "Give a Hugging Face folder, a folder with ctc.json, or a torchaudio bundle with data.align.checkpoint."


@dataclass(frozen=True)
class CtcModel:
    """A model that gives each frame log-probabilities of labels.

    Attributes:
        name: name of the checkpoint.
        module: torchaudio's ``Wav2Vec2Model``, in evaluation mode.
        labels: [V], in the order of the model's outputs.
        blank_id: id of CTC's blank.
        normalizes: whether audio must have mean 0 and variance 1.
    """

    name: str
    module: nn.Module
    labels: tuple[str, ...]
    blank_id: int
    normalizes: bool

    @property
    def convolutions(self) -> list[tuple[int, int]]:
        """Kernel size and stride of each layer between samples and frames."""
        layers: Any = self.module.feature_extractor
        return [(layer.kernel_size, layer.stride) for layer in layers.conv_layers]

    @property
    def samples_a_frame(self) -> int:
        """Samples from one frame to the next."""
        return math.prod(stride for _, stride in self.convolutions)

    @property
    def receptive_samples(self) -> int:
        """Samples that one frame depends on, before the Transformer."""
        total = 1
        for kernel, stride in reversed(self.convolutions):
            total = (total - 1) * stride + kernel
        return total

    def num_frames(self, num_samples: int) -> int:
        """Frames of ``num_samples`` samples; 0 if they are too few for one."""
        return max((num_samples - self.receptive_samples) // self.samples_a_frame + 1, 0)


def load_ctc_model(checkpoint: str, weights: str = "", device: str = "cpu") -> CtcModel:
    """Loads a checkpoint by folder or bundle name.

    Raises:
        UserError: the checkpoint is missing, damaged or of another kind, or there is no such device.
    """
    folder = Path(checkpoint).expanduser()
    if weights and folder.is_dir():
        raise UserError(
            f"data.align.weights={weights} is for bundles; {checkpoint} is a folder and has its own weights."
        )
    if (folder / CTC_CONFIG_FILE).is_file():
        model = _load_own(folder)
    elif (folder / "config.json").is_file():
        model = _load_hugging_face(folder)
    elif folder.exists():
        raise UserError(f"{folder} holds neither config.json nor {CTC_CONFIG_FILE}. {_REMEDY}")
    else:
        model = _load_bundle(checkpoint, weights)
    try:
        model.module.to(torch.device(device)).eval()
    except (RuntimeError, AssertionError) as error:
        raise UserError(f"data.align.device={device}: {str(error).splitlines()[0]}") from None
    return model


def save_ctc_model(
    folder: Path,
    module: nn.Module,
    architecture: Mapping[str, object],
    labels: tuple[str, ...],
    blank_id: int = 0,
    normalizes: bool = False,
) -> None:
    """Writes a folder that ``load_ctc_model`` reads.

    Args:
        folder: the folder, which is made if needed.
        module: a ``torchaudio.models.Wav2Vec2Model`` with outputs.
        architecture: the arguments that ``torchaudio.models.wav2vec2_model`` made it from.
        labels: [V]; the boundary of words, if the model has one, is ``|``.
        blank_id: id of CTC's blank.
        normalizes: whether audio must have mean 0 and variance 1.
    """
    state = {name: value.detach().cpu().contiguous() for name, value in module.state_dict().items()}
    with staged(folder / CTC_WEIGHTS_FILE) as temporary:
        save_file(state, temporary)
    record = {
        "architecture": dict(architecture),
        "labels": labels,
        "blank_id": blank_id,
        "normalizes": normalizes,
        "sample_rate_hz": CTC_SAMPLE_RATE_HZ,
    }
    write_json(folder / CTC_CONFIG_FILE, record)


def _load_own(folder: Path) -> CtcModel:
    path = folder / CTC_CONFIG_FILE
    record = read_json(path, dict[str, Any], "the description of the CTC model", _REMEDY)
    wanted = {"architecture": dict, "labels": list, "blank_id": int, "normalizes": bool, "sample_rate_hz": int}
    found = record if isinstance(record, dict) else {}
    wrong = [key for key, kind in wanted.items() if not isinstance(found.get(key), kind)]
    raise_problems(str(path), [f"{key}: a {wanted[key].__name__} is needed" for key in wrong])
    _check_rate(path, found["sample_rate_hz"])
    _check_types(path, found["architecture"], Architecture, "architecture")
    _check_types(path, found["labels"], list[str], "labels")
    layers = found["architecture"].get("extractor_conv_layer_config") or []
    module = _build(path, {**found["architecture"], "extractor_conv_layer_config": [tuple(layer) for layer in layers]})
    _load_state(module, _read_safetensors(folder / CTC_WEIGHTS_FILE), str(folder / CTC_WEIGHTS_FILE))
    return _checked(folder.name, module, found["labels"], found["blank_id"], found["normalizes"], path)


def _load_hugging_face(folder: Path) -> CtcModel:
    path = folder / "config.json"
    config = read_json(path, dict[str, Any], "the model's configuration", _REMEDY)
    if not isinstance(config, dict):
        raise UserError(f"{path} is not a JSON object. {_REMEDY}")
    raise_problems(str(path), _hugging_face_problems(config), _REMEDY)
    _check_types(path, config, HuggingFaceConfig)
    remedy = f"It must give each label its number (of several languages, keep one). {_REMEDY}"
    numbers = dict[str, Annotated[int, Between(0, MAX_LABELS)]]
    vocabulary = read_json(folder / "vocab.json", numbers, "the labels of the model", remedy)
    special = _optional_json(folder / "tokenizer_config.json")
    delimiter = _token(special.get("word_delimiter_token"), "|")
    # Outputs without a label belong to tokens that were added later.
    labels = [""] * max(max(vocabulary.values(), default=-1) + 1, int(config.get("vocab_size", 0)))
    for label, index in vocabulary.items():
        labels[index] = "|" if label == delimiter else label
    module = _build(path, _hugging_face_architecture(config, len(labels)))
    _load_state(module, _torchaudio_names(_read_sharded(folder), config["model_type"]), str(folder / CTC_WEIGHTS_FILE))
    blank_id = vocabulary.get(_token(special.get("pad_token"), "<pad>"), int(config.get("pad_token_id") or 0))
    preprocessor = _optional_json(folder / "preprocessor_config.json")
    _check_types(folder / "preprocessor_config.json", preprocessor, Preprocessor)
    _check_rate(folder / "preprocessor_config.json", preprocessor.get("sampling_rate", CTC_SAMPLE_RATE_HZ))
    return _checked(folder.name, module, labels, blank_id, preprocessor.get("do_normalize", True), path)


def _hugging_face_problems(config: Mapping[str, Any]) -> list[str]:
    """Why a configuration has no counterpart in torchaudio; empty if it has one."""
    kind = str(config.get("model_type"))
    activations = [config.get("hidden_act", "gelu"), config.get("feat_extract_activation", "gelu")]
    checks = {
        f"model_type is {kind!r}; allowed are {', '.join(_HUGGING_FACE_KINDS)}": kind in _HUGGING_FACE_KINDS,
        "the model has adapters; merge them into its weights, or use the bundle MMS_FA": not (
            config.get("adapter_attn_dim") or config.get("add_adapter")
        ),
        "only gelu activations are known": activations == ["gelu", "gelu"],
        "feat_proj_layer_norm is false: such a model has no counterpart in torchaudio": config.get(
            "feat_proj_layer_norm", True
        ),
    }
    return [problem for problem, is_fine in checks.items() if not is_fine]


def _hugging_face_architecture(config: Mapping[str, Any], num_labels: int) -> Mapping[str, object]:
    """Arguments of ``wav2vec2_model``; options that the configuration lacks have Hugging Face's defaults."""
    layers = zip(
        config.get("conv_dim", [512] * 7),
        config.get("conv_kernel", [10, 3, 3, 3, 3, 2, 2]),
        config.get("conv_stride", [5, 2, 2, 2, 2, 2, 2]),
        strict=True,
    )
    return {
        "extractor_mode": f"{config.get('feat_extract_norm', 'group')}_norm",
        "extractor_conv_layer_config": list(layers),
        "extractor_conv_bias": config.get("conv_bias", False),
        "encoder_embed_dim": config.get("hidden_size", 768),
        "encoder_projection_dropout": 0.0,
        "encoder_pos_conv_kernel": config.get("num_conv_pos_embeddings", 128),
        "encoder_pos_conv_groups": config.get("num_conv_pos_embedding_groups", 16),
        "encoder_num_layers": config.get("num_hidden_layers", 12),
        "encoder_num_heads": config.get("num_attention_heads", 12),
        "encoder_attention_dropout": 0.0,
        "encoder_ff_interm_features": config.get("intermediate_size", 3072),
        "encoder_ff_interm_dropout": 0.0,
        "encoder_dropout": 0.0,
        "encoder_layer_norm_first": config.get("do_stable_layer_norm", False),
        "encoder_layer_drop": 0.0,
        "aux_num_out": num_labels,
    }


def _torchaudio_names(state: Mapping[str, Tensor], kind: str) -> dict[str, Tensor]:
    """Weights under torchaudio's names instead of Hugging Face's."""
    renamed = {}
    for name, value in state.items():
        plain = name.removeprefix(f"{kind}.")
        for old, new in _RENAMED.items():
            plain = re.sub(old, new, plain)
        renamed[plain] = value
    # Used in training alone.
    renamed.pop("masked_spec_embed", None)
    return renamed


def _load_bundle(name: str, weights: str) -> CtcModel:
    torchaudio = import_torchaudio()
    pipelines = torchaudio.pipelines
    bundles = {
        key: value
        for key, value in vars(pipelines).items()
        if hasattr(value, "get_labels") and hasattr(value, "_params")
    }
    if name not in bundles:
        known = ", ".join(sorted(bundles))
        raise UserError(f"data.align.checkpoint={name} is no folder and no bundle; bundles are {known}")
    bundle = bundles[name]
    _check_rate(Path(name), int(bundle.sample_rate))
    if bundle._model_type != "Wav2Vec2":
        raise UserError(f"data.align.checkpoint={name}: a model of the kind {bundle._model_type} is not supported")
    path = Path(weights).expanduser() if weights else Path(name)
    state = _read_safetensors(path) if weights else _download(name, bundle._path)
    if "aux.weight" in state and len(state["aux.weight"]) == len(bundle.get_labels()) + len(bundle._remove_aux_axis):
        # Leave out the outputs of the training tool's special labels.
        kept = [row for row in range(len(state["aux.weight"])) if row not in bundle._remove_aux_axis]
        state = {key: value[kept] if key.startswith("aux.") else value for key, value in state.items()}
    module = _build(Path(name), bundle._params)
    _load_state(module, state, str(path))
    labels = bundle.get_labels(star=None) if hasattr(bundle, "get_dict") else bundle.get_labels()
    return _checked(name, module, labels, 0, bundle._normalize_waveform, Path(name))


def _download(name: str, path: str) -> dict[str, Tensor]:
    """Weights of a bundle, from torch's hub cache or its server; nothing but tensors is unpickled."""
    url = path if path.startswith("https") else f"https://download.pytorch.org/torchaudio/models/{path}"
    # Several bundles' files are called model.pt.
    file = f"{name}.pt" if url.endswith("/model.pt") else url.rsplit("/", 1)[1]
    try:
        state: Any = torch.hub.load_state_dict_from_url(
            url, map_location="cpu", progress=False, file_name=file, weights_only=True
        )
    except OSError as error:
        target = Path(torch.hub.get_dir(), "checkpoints", file)
        raise UserError(
            f"the weights of {name} are not there and cannot be downloaded ({error}). Download {url} elsewhere and "
            f"put it at {target}, or give it as safetensors with data.align.weights=FILE."
        ) from None
    except Exception as error:
        raise UserError(f"the weights of {name} in {file} are damaged: {str(error).splitlines()[0]}") from None
    return dict(state)


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    try:
        return open_tensors(path).read()
    except FileNotFoundError:
        raise UserError(f"the weights {path} are missing; pickled ones (.bin) must be converted first") from None
    except (FormatError, OSError) as error:
        raise UserError(f"{path} is damaged or not safetensors (it {error})") from None


def _read_sharded(folder: Path) -> dict[str, Tensor]:
    index = folder / f"{CTC_WEIGHTS_FILE}.index.json"
    names = {CTC_WEIGHTS_FILE}
    if index.exists():
        names = set(read_json(index, WeightIndex, "the list of weight files", _REMEDY)["weight_map"].values())
    # By their last part: the list comes with the model, and names no file outside its folder.
    return {key: value for name in sorted(names) for key, value in _read_safetensors(folder / Path(name).name).items()}


def _build(path: Path, architecture: Mapping[str, object]) -> nn.Module:
    import_torchaudio()
    from torchaudio.models import wav2vec2_model

    try:
        # Its sizes are compared with the weights before it takes memory.
        with torch.device("meta"):
            module: nn.Module = wav2vec2_model(**architecture)
    except (TypeError, ValueError, RuntimeError, ZeroDivisionError) as error:
        raise UserError(f"{path} describes no wav2vec 2.0 model: {error}") from None
    return module


def _load_state(module: nn.Module, state: Mapping[str, Tensor], path: str) -> None:
    own = module.state_dict()
    problems = [f"{name} is missing" for name in own if name not in state]
    problems += [f"{name} belongs to no part of the model" for name in state if name not in own]
    problems += [
        f"{name} has the shape {list(state[name].shape)}, the model needs {list(value.shape)}"
        for name, value in own.items()
        if name in state and state[name].shape != value.shape
    ]
    raise_problems(f"the weights {path}", problems, "Give weights of this architecture.")
    module.load_state_dict({name: value.float() for name, value in state.items()}, assign=True)


def _checked(
    name: str, module: nn.Module, labels: Sequence[str], blank_id: int, normalizes: bool, path: Path
) -> CtcModel:
    outputs = module.state_dict().get("aux.bias")
    problems = []
    if outputs is None:
        problems.append("the model has no outputs: it is not a CTC model")
    elif len(outputs) != len(labels):
        problems.append(f"the model has {len(outputs)} outputs, there are {len(labels)} labels")
    if not 0 <= blank_id < max(len(labels), 1):
        problems.append(f"the blank is label {blank_id} of {len(labels)}")
    raise_problems(str(path), problems, _REMEDY)
    return CtcModel(name, module, tuple(labels), blank_id, normalizes)


def _check_rate(path: Path, sample_rate_hz: int) -> None:
    if sample_rate_hz != CTC_SAMPLE_RATE_HZ:
        raise UserError(f"{path}: the model hears {sample_rate_hz} Hz; only {CTC_SAMPLE_RATE_HZ} Hz is supported")


def _check_types(path: Path, value: object, kind: type[T], where: str = "") -> None:
    """Raises ``UserError`` unless a part of a file is of a type."""
    try:
        checked(value, kind, where)
    except FormatError as error:
        raise UserError(f"{path} {error}. {_REMEDY}") from None


def _optional_json(path: Path) -> Mapping[str, Any]:
    found = read_json(path, dict[str, Any], "a part of the checkpoint", _REMEDY) if path.exists() else None
    return found if isinstance(found, dict) else {}


def _token(value: object, default: str) -> str:
    """A special token; Hugging Face writes it as a string or as an object with ``content``."""
    found = value.get("content") if isinstance(value, dict) else value
    return found if isinstance(found, str) and found else default
