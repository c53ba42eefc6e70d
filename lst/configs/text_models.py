"""``config.json`` of a text model, as Hugging Face's transformers has it, and the backbone of the same shape.

::

    FOLDER/config.json ──read_shape──▶ options of ``model.``          (``model.init_from=FOLDER``)
    ModelConfig ──────────text_model_config──▶ config.json            (``export.format=llama``)

Read are models in the layout of Llama: Llama 2 and 3, SmolLM, Qwen2 and Qwen3. What else their configuration may ask
for is refused by name, not left out.
"""

from __future__ import annotations

from dataclasses import fields, replace
from pathlib import Path
from typing import Annotated, Any, TypedDict

from lst.errors import raise_problems
from lst.model.config import ModelConfig
from lst.storage import Between, read_json
from lst.storage.hub import HUB_PREFIX, hub_folder

TEXT_CONFIG_FILE = "config.json"
MODEL_TYPES = ("llama", "qwen2", "qwen3")
# By their names in transformers; linear and llama3 are those of model.rope_scaling too.
_SCALINGS = {"default": "none", "linear": "linear", "llama3": "llama3"}
_WITH_QKV_BIAS, _WITH_HEAD_NORM = ("qwen2",), ("qwen3",)
# Where its configuration says nothing.
QWEN3_HEAD_DIM = 128
_REMEDY = "Give a folder with config.json, model.safetensors and tokenizer.json, or hub:OWNER/NAME."

_Size = Annotated[int, Between(1)]


class RotaryValues(TypedDict, total=False):
    """``rope_scaling`` of transformers 4, ``rope_parameters`` of transformers 5.

    Keys:
        rope_type, type: kind of scaling, by its newer and its older name.
    """

    rope_type: str
    type: str
    rope_theta: float
    factor: float
    low_freq_factor: float
    high_freq_factor: float
    original_max_position_embeddings: _Size


class _Shape(TypedDict):
    model_type: str
    vocab_size: _Size
    hidden_size: _Size
    intermediate_size: _Size
    num_hidden_layers: _Size
    num_attention_heads: _Size


class TextModelValues(_Shape, total=False):
    """``config.json`` of a text model: what decides its logits."""

    num_key_value_heads: _Size | None
    head_dim: _Size | None
    hidden_act: str
    rms_norm_eps: float
    rope_theta: float
    rope_scaling: RotaryValues | None
    rope_parameters: RotaryValues | None
    max_position_embeddings: _Size
    tie_word_embeddings: bool
    attention_bias: bool
    mlp_bias: bool
    sliding_window: int | None
    use_sliding_window: bool
    partial_rotary_factor: float
    quantization_config: Any


def text_model_folder(source: str, *patterns: str) -> Path:
    """The local folder of ``model.init_from``: itself, or the files of ``hub:OWNER/NAME`` that match the patterns."""
    if source.startswith(HUB_PREFIX):
        return hub_folder(source, [TEXT_CONFIG_FILE, *patterns], "model.init_from")
    return Path(source).expanduser()


def read_text_config(source: str) -> TextModelValues:
    """``config.json`` of ``model.init_from``; raises ``UserError`` where it is missing or damaged."""
    path = text_model_folder(source) / TEXT_CONFIG_FILE
    return read_json(path, TextModelValues, f"the text model of model.init_from={source}", _REMEDY)


def with_shape_of(config: ModelConfig, source: str) -> ModelConfig:
    """The options of the model with a backbone of a text model's shape.

    Raises:
        UserError: ``config.json`` is missing or damaged, or asks for what the backbone has not; all of it is named.
    """
    values = read_text_config(source)
    problems = [f"model.init_from={source}: {problem}" for problem in _unknown(values)]
    raise_problems("configuration", problems, "Choose another text model.")
    kind, heads = values["model_type"], values["num_attention_heads"]
    bias = "qkv" if kind in _WITH_QKV_BIAS else "all" if values.get("attention_bias") else "none"
    return replace(
        config,
        global_dim=values["hidden_size"],
        global_layers=values["num_hidden_layers"],
        global_heads=heads,
        global_kv_heads=values.get("num_key_value_heads") or 0,
        global_head_dim=values.get("head_dim") or (QWEN3_HEAD_DIM if kind == "qwen3" else 0),
        global_ffn_dim=values["intermediate_size"],
        global_mixers=["attention"],
        positions="rotary",
        norm="rms",
        norm_eps=values.get("rms_norm_eps", 1e-6),
        ffn="swiglu",
        attention_bias=bias,
        query_key_norm=kind in _WITH_HEAD_NORM,
        tied_head=values.get("tie_word_embeddings", False),
        **_rotary_options(values),
    )


def _rotary(values: TextModelValues) -> RotaryValues:
    return values.get("rope_parameters") or values.get("rope_scaling") or {}


def _scaling(values: TextModelValues) -> str:
    rotary = _rotary(values)
    return rotary.get("rope_type") or rotary.get("type") or "default"


def _rotary_options(values: TextModelValues) -> dict[str, Any]:
    rotary = _rotary(values)
    given = {
        "rope_factor": rotary.get("factor"),
        "rope_low_factor": rotary.get("low_freq_factor"),
        "rope_high_factor": rotary.get("high_freq_factor"),
        "rope_original_patches": rotary.get("original_max_position_embeddings"),
    }
    theta = rotary.get("rope_theta") or values.get("rope_theta") or 10_000.0
    scaling = _SCALINGS[_scaling(values)]
    defaults = {item.name: item.default for item in fields(ModelConfig) if item.name in given}
    return {
        "rope_theta": float(theta),
        "rope_scaling": scaling,
        **{key: default if given[key] is None else given[key] for key, default in defaults.items()},
    }


def _unknown(values: TextModelValues) -> list[str]:
    """What a text model asks for and the backbone has not."""
    found = []
    if values["model_type"] not in MODEL_TYPES:
        found.append(f"model_type={values['model_type']}: allowed are {', '.join(MODEL_TYPES)}")
    if values.get("hidden_act", "silu") != "silu":
        found.append(f"hidden_act={values['hidden_act']}: the backbone's feed-forward has silu")
    if _scaling(values) not in _SCALINGS:
        found.append(f"rope_type={_scaling(values)}: allowed are {', '.join(_SCALINGS)}")
    if values.get("partial_rotary_factor", 1.0) != 1.0:
        found.append(f"partial_rotary_factor={values['partial_rotary_factor']}: the backbone rotates whole heads")
    if values.get("mlp_bias"):
        found.append("mlp_bias=true: the backbone's swiglu has no bias")
    if values.get("sliding_window") and values.get("use_sliding_window"):
        found.append(f"sliding_window={values['sliding_window']}: its layers see a window, the backbone's see all")
    if values.get("quantization_config") is not None:
        found.append("quantization_config: weights must be floating-point numbers")
    return found


def text_model_config(config: ModelConfig, vocab_size: int, bos_id: int, eos_id: int, pad_id: int) -> dict[str, Any]:
    """``config.json`` of a token baseline as a text model of transformers.

    Args:
        config: of the model.
        vocab_size: of the joint vocabulary.
        bos_id, eos_id, pad_id: of it.

    Raises:
        UserError: the model has parts that no text model of transformers has; all of them are named.
    """
    wrong = {
        "model.encoder_layers, decoder_layers: it has patches; only a token baseline is a text model": (
            config.has_local_modules
        ),
        f"model.global_mixers={config.global_mixers}: needed is attention": set(config.mixers) != {"attention"},
        f"model.positions={config.positions}: needed is rotary": config.positions != "rotary",
        f"model.norm={config.norm}: needed is rms": config.norm != "rms",
        f"model.ffn={config.ffn}: needed is swiglu": config.ffn != "swiglu",
        "model.attention_bias=qkv with query_key_norm=true: no text model has both": (
            config.query_key_norm and config.attention_bias == "qkv"
        ),
    }
    problems = [problem for problem, is_wrong in wrong.items() if is_wrong]
    raise_problems("this model cannot be written as a Llama", problems, "Export another model with name=MODEL.")
    kind = "qwen3" if config.query_key_norm else "qwen2" if config.attention_bias == "qkv" else "llama"
    scaling: RotaryValues | None = None
    if config.rope_scaling != "none":
        scaling = {"rope_type": config.rope_scaling, "factor": config.rope_factor}
    if scaling is not None and config.rope_scaling == "llama3":
        scaling |= {
            "low_freq_factor": config.rope_low_factor,
            "high_freq_factor": config.rope_high_factor,
            "original_max_position_embeddings": config.rope_original_patches,
        }
    values: TextModelValues = {
        "model_type": kind,
        "vocab_size": vocab_size,
        "hidden_size": config.global_dim,
        "intermediate_size": config.backbone_ffn_dim,
        "num_hidden_layers": config.global_layers,
        "num_attention_heads": config.global_heads,
        "num_key_value_heads": config.global_key_heads,
        "head_dim": config.head_dim,
        "hidden_act": "silu",
        "rms_norm_eps": config.norm_eps,
        "rope_theta": config.rope_theta,
        "rope_scaling": scaling,
        "max_position_embeddings": config.max_patches,
        "tie_word_embeddings": config.tied_head,
        "attention_bias": config.attention_bias == "all",
    }
    architecture = {"llama": "LlamaForCausalLM", "qwen2": "Qwen2ForCausalLM", "qwen3": "Qwen3ForCausalLM"}[kind]
    ids = {"bos_token_id": bos_id, "eos_token_id": eos_id, "pad_token_id": pad_id}
    return {"architectures": [architecture], **values, **ids}
