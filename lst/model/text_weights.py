"""Weights of text models by the names of Hugging Face's transformers, and where they lie in this project's models.

::

    FOLDER/model*.safetensors ──load_text_weights──▶ backbone, embeddings and head of a model
    a token baseline ──text_weights──▶ tensors by the names of transformers

One table, ``backbone_places``, serves both ways. A model with local modules takes the backbone and text embeddings.
Where its embeddings are narrower than the backbone, they are the text embeddings on their principal axes. The way from
a token to the backbone begins as the way back, so the backbone reads a token of text nearly as in the text model.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple, TypedDict

import torch

from lst.errors import UserError, raise_problems
from lst.model.config import ModelConfig
from lst.model.encoder import PatchEncoder
from lst.model.lst import LatentSpeechTextModel
from lst.model.pointwise import Linear
from lst.storage import read_json
from lst.storage.tensors import TensorFile, read_header

EMBEDDING, HEAD, NORM = "model.embed_tokens.weight", "lm_head.weight", "model.norm.weight"
WEIGHT_PATTERNS = ("model*.safetensors", "model.safetensors.index.json")
_REMEDY = "Download the folder again."


class Rows(NamedTuple):
    """Rows ``first`` … ``last`` (exclusive) of the parameter ``name`` of a model."""

    name: str
    first: int
    last: int


class WeightFiles(TypedDict):
    """``model.safetensors.index.json``: the file of each tensor."""

    weight_map: dict[str, str]


def backbone_places(config: ModelConfig) -> dict[str, Rows]:
    """Where each weight of a text model's layers lies in the backbone, by its name in transformers."""
    dim, hidden = config.global_dim, config.backbone_ffn_dim
    queries, keys = config.global_heads * config.head_dim, config.global_key_heads * config.head_dim
    joint = {"q": (0, queries), "k": (queries, queries + keys), "v": (queries + keys, queries + 2 * keys)}
    found = {NORM: Rows("backbone.norm.weight", 0, dim)} if config.ends_backbone_in_norm else {}
    for layer in range(config.global_layers):
        theirs, ours = f"model.layers.{layer}", f"backbone.blocks.{layer}"
        found |= {
            f"{theirs}.input_layernorm.weight": Rows(f"{ours}.mixer_norm.weight", 0, dim),
            f"{theirs}.post_attention_layernorm.weight": Rows(f"{ours}.ffn_norm.weight", 0, dim),
            f"{theirs}.self_attn.o_proj.weight": Rows(f"{ours}.mixer.output.weight", 0, dim),
            f"{theirs}.mlp.gate_proj.weight": Rows(f"{ours}.ffn.gate_up.weight", 0, hidden),
            f"{theirs}.mlp.up_proj.weight": Rows(f"{ours}.ffn.gate_up.weight", hidden, 2 * hidden),
            f"{theirs}.mlp.down_proj.weight": Rows(f"{ours}.ffn.output.weight", 0, dim),
        }
        for kind in ["weight", *(["bias"] if config.attention_bias != "none" else [])]:
            found |= {
                f"{theirs}.self_attn.{part}_proj.{kind}": Rows(f"{ours}.mixer.query_key_value.{kind}", *rows)
                for part, rows in joint.items()
            }
        if config.attention_bias == "all":
            found[f"{theirs}.self_attn.o_proj.bias"] = Rows(f"{ours}.mixer.output.bias", 0, dim)
        if config.query_key_norm:
            for part, norm in (("q", "query"), ("k", "key")):
                place = Rows(f"{ours}.mixer.{norm}_norm.weight", 0, config.head_dim)
                found[f"{theirs}.self_attn.{part}_norm.weight"] = place
    return found


def text_weights(model: LatentSpeechTextModel) -> dict[str, torch.Tensor]:
    """The weights of a token baseline by their names in transformers; a tied head is left out, as it is there."""
    state = model.state_dict()
    found = {name: state[at.name][at.first : at.last].clone() for name, at in backbone_places(model.config).items()}
    found[EMBEDDING] = state["embedding.weight"].clone()
    if not model.config.tied_head:
        found[HEAD] = state["head.weight"].clone()
    return found


@torch.no_grad()
def load_text_weights(model: LatentSpeechTextModel, folder: Path, num_text: int) -> None:
    """Takes backbone, text embeddings and head from the text model in a folder.

    Rows of the other ids, special tokens and units, are drawn with the mean and the deviation of those of text.

    Args:
        model: with a backbone of the text model's shape, and initial weights.
        folder: of the text model.
        num_text: text ids of the joint vocabulary, which come first.

    Raises:
        UserError: weights are missing, unknown, of another shape or type, or not finite; or the text model has fewer
            ids than there are text pieces. All of them are named.
    """
    config = model.config
    places = backbone_places(config)
    files = [read_header(path, "the text model's weights are", _REMEDY) for path in _weight_files(folder)]
    _check_names(model, files, folder, num_text)
    parameters = dict(model.named_parameters())
    tables: dict[str, torch.Tensor] = {}
    for file in files:
        for name, tensor in file.read().items():
            if not bool(torch.isfinite(tensor).all()):
                raise UserError(f"weights in {file.path}: {name} holds values that are not finite. {_REMEDY}")
            if name in places:
                at = places[name]
                parameters[at.name].data[at.first : at.last].copy_(tensor)
            elif name in (EMBEDDING, HEAD):
                tables[name] = tensor[:num_text].float()
    axes = _principal_axes(tables[EMBEDDING], model.embedding.embedding_dim)
    _take_rows(model.embedding.weight, tables[EMBEDDING] @ axes)
    if not config.tied_head:
        _take_rows(model.head.weight, tables[HEAD] @ axes)
    if model.encoder is not None:
        _begin_as_way_back(model.encoder, axes)


def _weight_files(folder: Path) -> list[Path]:
    index = folder / "model.safetensors.index.json"
    if (folder / "model.safetensors").exists() or not index.exists():
        return [folder / "model.safetensors"]
    named = read_json(index, WeightFiles, "the index of the text model's weights", _REMEDY)["weight_map"]
    return [folder / Path(name).name for name in sorted(set(named.values()))]


def _check_names(model: LatentSpeechTextModel, files: list[TensorFile], folder: Path, num_text: int) -> None:
    """Raises one ``UserError`` that names every weight that is missing, unknown or of another shape or type."""
    config = model.config
    tensors = {name: info for file in files for name, info in file.tensors.items()}
    shapes = {name: tensor.shape for name, tensor in model.state_dict().items()}
    needed = {name: [at.last - at.first, *shapes[at.name][1:]] for name, at in backbone_places(config).items()}
    tables = [EMBEDDING] if config.tied_head else [EMBEDDING, HEAD]
    # A tied head may be there twice; without a norm at the end of the backbone, the text model's has no place.
    idle = {HEAD, NORM}
    problems = [f"{name} is missing" for name in [*needed, *tables] if name not in tensors]
    for name, info in tensors.items():
        if name in needed and info.shape != needed[name]:
            problems.append(f"{name} has shape {info.shape}, needed is {needed[name]}")
        elif name in tables and (info.shape[1:] != [config.global_dim] or info.shape[0] < num_text):
            problems.append(f"{name} has shape {info.shape}, needed is [{num_text} or more, {config.global_dim}]")
        elif name not in {*needed, *tables, *idle} and not name.endswith("rotary_emb.inv_freq"):
            problems.append(f"{name} is unknown to this shape")
        elif name in needed and "float" not in info.type.torch_name:
            problems.append(f"{name} is of type {info.type.torch_name}, weights are floating-point numbers")
    raise_problems(
        f"weights in {folder}", problems, "Give the folder of a text model whose config.json fits its weights."
    )


def _principal_axes(table: torch.Tensor, width: int) -> torch.Tensor:
    """The ``width`` axes of a table [V, D] along which it is largest, [D, width]; a copy's where it need not shrink."""
    dim = table.shape[1]
    if width >= dim:
        return torch.eye(dim, width)
    # Eigenvalues rise.
    return torch.linalg.eigh(table.double().T @ table.double()).eigenvectors[:, -width:].float()


def _take_rows(weight: torch.Tensor, text: torch.Tensor) -> None:
    """Text rows first; the others keep their draws, with the mean and the deviation of the text rows."""
    others = weight[len(text) :]
    others.div_(others.std()).mul_(text.std(dim=0)).add_(text.mean(dim=0))
    weight[: len(text)].copy_(text)


def _begin_as_way_back(encoder: PatchEncoder, axes: torch.Tensor) -> None:
    """Makes the path of a patch of one token to the backbone begin as ``axes`` [D, width]."""
    if isinstance(encoder.to_global, Linear):
        encoder.to_queries.weight.copy_(torch.eye(axes.shape[1]).repeat(encoder.num_queries, 1))
        encoder.to_global.weight.copy_(axes.repeat(1, encoder.num_queries) / encoder.num_queries)
    else:
        encoder.to_queries.weight.copy_(axes)
