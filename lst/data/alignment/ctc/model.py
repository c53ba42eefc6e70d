"""CTC models of the wav2vec 2.0 family, from a folder or a bundle, and what they say of each frame.

Three kinds of checkpoint: a Hugging Face folder (``config.json``, ``model.safetensors``, ``vocab.json``), a folder of
this project (``ctc.json``, ``model.safetensors``, in the names of torchaudio's ``wav2vec2_model``), and the name of a
torchaudio bundle, whose weights are downloaded to torch's hub cache (``TORCH_HOME``) or given as a local file.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from lst.errors import ProblemsError, UserError, raise_problems
from lst.lazy import import_torchaudio
from lst.storage import Between, read_json, staged, write_json

CTC_SAMPLE_RATE_HZ = 16_000
CTC_CONFIG_FILE, CTC_WEIGHTS_FILE = "ctc.json", "model.safetensors"
MAX_LABELS = 1_000_000
_HUGGING_FACE_KINDS = ("wav2vec2", "hubert")
_REMEDY = "Give a Hugging Face folder, a folder with ctc.json, or a torchaudio bundle with data.align.checkpoint."


@dataclass(frozen=True)
class CtcModel:
    """A model that gives each frame log-probabilities of labels.

    Attributes:
        name: of the checkpoint.
        module: torchaudio's ``Wav2Vec2Model``, evaluating.
        labels: [V], in the order of the model's outputs.
        blank_id: CTC's blank.
        normalizes: whether audio is brought to mean 0 and variance 1 first.
    """

    name: str
    module: nn.Module
    labels: tuple[str, ...]
    blank_id: int
    normalizes: bool

    @property
    def convolutions(self) -> list[tuple[int, int]]:
        """Kernel size and stride of each layer that makes frames of samples."""
        layers: Any = self.module.feature_extractor
        return [(layer.kernel_size, layer.stride) for layer in layers.conv_layers]

    @property
    def samples_a_frame(self) -> int:
        total = 1
        for _, stride in self.convolutions:
            total *= stride
        return total

    @property
    def receptive_samples(self) -> int:
        """Samples that the convolutions hear for one frame."""
        total = 1
        for kernel, stride in reversed(self.convolutions):
            total = (total - 1) * stride + kernel
        return total

    def num_frames(self, num_samples: int) -> int:
        """Frames of so many samples; 0 for less than one."""
        if num_samples < self.receptive_samples:
            return 0
        return (num_samples - self.receptive_samples) // self.samples_a_frame + 1


def load_ctc_model(checkpoint: str, weights: str = "", device: str = "cpu") -> CtcModel:
    """Loads a checkpoint by folder or bundle name.

    Raises:
        UserError: it is missing, damaged or of another kind, or the device is; all missing weights are named at once.
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
    architecture: Mapping[str, Any],
    labels: tuple[str, ...],
    blank_id: int = 0,
    normalizes: bool = False,
) -> None:
    """Writes a folder that ``load_ctc_model`` reads.

    Args:
        folder: where to.
        module: a ``torchaudio.models.Wav2Vec2Model`` with outputs.
        architecture: the arguments of ``torchaudio.models.wav2vec2_model`` that made it.
        labels: [V]; the boundary of words, where the model has one, is ``|``.
        blank_id: which of them is CTC's blank.
        normalizes: whether it wants audio of mean 0 and variance 1.
    """
    folder.mkdir(parents=True, exist_ok=True)
    state = {name: value.detach().cpu().contiguous() for name, value in module.state_dict().items()}
    with staged(folder / CTC_WEIGHTS_FILE) as temporary:
        save_file(state, temporary)
    record = {
        "architecture": dict(architecture),
        "labels": list(labels),
        "blank_id": blank_id,
        "normalizes": normalizes,
        "sample_rate_hz": CTC_SAMPLE_RATE_HZ,
    }
    write_json(folder / CTC_CONFIG_FILE, record)


def _load_own(folder: Path) -> CtcModel:
    path = folder / CTC_CONFIG_FILE
    record = read_json(path, dict[str, Any], "the description of the CTC model", _REMEDY)
    wanted = {"architecture": dict, "labels": list, "blank_id": int, "normalizes": bool, "sample_rate_hz": int}
    record = record if isinstance(record, dict) else {}
    raise_problems(
        str(path),
        [
            f"{key}: a {kind.__name__} is needed"
            for key, kind in wanted.items()
            if not isinstance(record.get(key), kind)
        ],
    )
    _check_rate(path, record["sample_rate_hz"])
    architecture = dict(record["architecture"])
    layers = architecture.get("extractor_conv_layer_config") or []
    architecture["extractor_conv_layer_config"] = [tuple(layer) for layer in layers]
    module = _build(path, architecture)
    _load_state(module, _read_safetensors(folder / CTC_WEIGHTS_FILE), str(folder / CTC_WEIGHTS_FILE))
    return _checked(folder.name, module, tuple(record["labels"]), record["blank_id"], record["normalizes"], path)


def _load_hugging_face(folder: Path) -> CtcModel:
    path = folder / "config.json"
    config = read_json(path, dict[str, Any], "the model's configuration", _REMEDY)
    if not isinstance(config, dict):
        raise UserError(f"{path} is not a JSON object. {_REMEDY}")
    kind = str(config.get("model_type"))
    problems = []
    if kind not in _HUGGING_FACE_KINDS:
        problems.append(f"model_type is {kind!r}; allowed are {', '.join(_HUGGING_FACE_KINDS)}")
    if config.get("adapter_attn_dim") or config.get("add_adapter"):
        problems.append("the model has adapters; merge them into its weights, or use the bundle MMS_FA")
    if config.get("hidden_act", "gelu") != "gelu" or config.get("feat_extract_activation", "gelu") != "gelu":
        problems.append("only gelu activations are known")
    if not config.get("feat_proj_layer_norm", True):
        problems.append("feat_proj_layer_norm is false: such a model has no counterpart in torchaudio")
    raise_problems(str(path), problems, _REMEDY)
    remedy = f"It must give each label its number (of several languages, keep one). {_REMEDY}"
    numbers = dict[str, Annotated[int, Between(0, MAX_LABELS)]]
    vocabulary = read_json(folder / "vocab.json", numbers, "the labels of the model", remedy)
    labels = [""] * (max(vocabulary.values(), default=-1) + 1)
    for label, index in vocabulary.items():
        labels[index] = label
    # Tokens that were added later are outputs without a letter.
    labels += [""] * (int(config.get("vocab_size", len(labels))) - len(labels))
    special = _optional_json(folder / "tokenizer_config.json")
    delimiter = _token(special.get("word_delimiter_token"), "|")
    blank = _token(special.get("pad_token"), "<pad>")
    module = _build(path, _hugging_face_architecture(config, len(labels)))
    state = _own_names(_read_sharded(folder), kind)
    _load_state(module, state, str(folder / CTC_WEIGHTS_FILE))
    blank_id = vocabulary.get(blank, int(config.get("pad_token_id") or 0))
    preprocessor = _optional_json(folder / "preprocessor_config.json")
    _check_rate(folder / "preprocessor_config.json", preprocessor.get("sampling_rate", CTC_SAMPLE_RATE_HZ))
    plain = tuple("|" if label == delimiter else label for label in labels)
    return _checked(folder.name, module, plain, blank_id, preprocessor.get("do_normalize", True), path)


def _hugging_face_architecture(config: Mapping[str, Any], num_labels: int) -> dict[str, Any]:
    """torchaudio's arguments; what a configuration leaves out has Hugging Face's default."""
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


def _own_names(state: Mapping[str, Tensor], kind: str) -> dict[str, Tensor]:
    """Hugging Face's names of weights as torchaudio's."""
    renamed = {}
    for name, value in state.items():
        plain = name.removeprefix(f"{kind}.")
        plain = plain.replace("conv.weight_g", "conv.parametrizations.weight.original0")
        plain = plain.replace("conv.weight_v", "conv.parametrizations.weight.original1")
        if plain == "masked_spec_embed":
            continue  # Of training alone.
        if plain.startswith("encoder."):
            plain = f"encoder.transformer.{plain.removeprefix('encoder.')}"
        elif plain.startswith("feature_projection."):
            plain = f"encoder.{plain}"
        elif plain.startswith("lm_head."):
            plain = f"aux.{plain.removeprefix('lm_head.')}"
        renamed[plain] = value
    return renamed


def _load_bundle(name: str, weights: str) -> CtcModel:
    torchaudio = import_torchaudio()
    pipelines = torchaudio.pipelines
    known = sorted(
        key
        for key in dir(pipelines)
        if hasattr(getattr(pipelines, key), "get_labels") and hasattr(getattr(pipelines, key), "_params")
    )
    if name not in known:
        raise UserError(f"data.align.checkpoint={name} is no folder and no bundle; bundles are {', '.join(known)}")
    bundle = getattr(pipelines, name)
    _check_rate(Path(name), int(bundle.sample_rate))
    if bundle._model_type != "Wav2Vec2":
        raise UserError(f"data.align.checkpoint={name}: a model of the kind {bundle._model_type} is not supported")
    path = Path(weights).expanduser() if weights else Path(name)
    state = _read_safetensors(path) if weights else _download(name, bundle._path)
    if "aux.weight" in state and len(state["aux.weight"]) == len(bundle.get_labels()) + len(bundle._remove_aux_axis):
        # Outputs of special labels that the training tool put in and that nothing uses.
        kept = [row for row in range(len(state["aux.weight"])) if row not in bundle._remove_aux_axis]
        state = {key: value[kept] if key.startswith("aux.") else value for key, value in state.items()}
    module = _build(Path(name), bundle._params)
    _load_state(module, state, str(path))
    labels = bundle.get_labels(star=None) if hasattr(bundle, "get_dict") else bundle.get_labels()
    return _checked(name, module, tuple(labels), 0, bundle._normalize_waveform, Path(name))


def _download(name: str, path: str) -> dict[str, Tensor]:
    """Weights of a bundle, from torch's hub cache or the net; the reader takes tensors and nothing that could run."""
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
        return load_file(path)
    except FileNotFoundError:
        raise UserError(f"the weights {path} are missing; pickled ones (.bin) must be converted first") from None
    except SafetensorError as error:
        raise UserError(f"{path} is damaged or not safetensors ({error})") from None


def _read_sharded(folder: Path) -> dict[str, Tensor]:
    index = folder / f"{CTC_WEIGHTS_FILE}.index.json"
    if not index.exists():
        return _read_safetensors(folder / CTC_WEIGHTS_FILE)
    names = sorted(set(read_json(index, dict[str, Any], "the list of weight files", _REMEDY)["weight_map"].values()))
    return {key: value for name in names for key, value in _read_safetensors(folder / name).items()}


def _build(path: Path, architecture: Mapping[str, Any]) -> nn.Module:
    import_torchaudio()
    from torchaudio.models import wav2vec2_model

    try:
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
    if problems:
        raise ProblemsError(f"the weights {path}", problems, "Give weights of this architecture.")
    module.load_state_dict({name: value.float() for name, value in state.items()})


def _checked(
    name: str, module: nn.Module, labels: tuple[str, ...], blank_id: int, normalizes: bool, path: Path
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
    return CtcModel(name, module, labels, blank_id, normalizes)


def _check_rate(path: Path, sample_rate_hz: int) -> None:
    if sample_rate_hz != CTC_SAMPLE_RATE_HZ:
        raise UserError(f"{path}: the model hears {sample_rate_hz} Hz; only {CTC_SAMPLE_RATE_HZ} Hz is supported")


def _optional_json(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    except ValueError as error:
        raise UserError(f"{path} is not JSON ({error})") from None
    return found if isinstance(found, dict) else {}


def _token(value: Any, default: str) -> str:
    """A special token, which Hugging Face writes as a string or as a dictionary."""
    found = value.get("content") if isinstance(value, dict) else value
    return found if isinstance(found, str) and found else default
