"""The published model as its description tells it: one document, one token or patch at a time, plain torch.

It shares the weights' names with ``lst.model`` and none of its code. Angles of positions are rounded to float32, as in
trained models.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from lst.model.config import ModelConfig

# The options of the model's shape in which the published one differs.
PUBLISHED_CHOICES: dict[str, Any] = {
    "decoder_keys": 2,
    "decoder_shared_projection": True,
    "cross_residual": 2,
    "global_norm": False,
    "patch_projection": "if_needed",
}

Weights = Mapping[str, torch.Tensor]


def rms_norm(x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    return x / (x.square().mean() + 1e-5).sqrt() * weight


def turned(head: torch.Tensor, position: int, theta: float) -> torch.Tensor:
    """A query or key [D] at a position: pair i is turned by position · θ^(−2i/D)."""
    half = len(head) // 2
    steps = torch.tensor([theta ** (-2 * i / len(head)) for i in range(half)], dtype=torch.float32)
    angles = position * steps
    cos, sin = angles.cos().to(head.dtype), angles.sin().to(head.dtype)
    first, second = head[:half], head[half:]
    return torch.cat([first * cos - second * sin, second * cos + first * sin])


def attend(query: torch.Tensor, keys: Sequence[torch.Tensor], values: Sequence[torch.Tensor]) -> torch.Tensor:
    """One query [H, D] over its keys and values [H, D] each, concatenated over heads."""
    heads = []
    for head in range(len(query)):
        scores = torch.stack([key[head] @ query[head] for key in keys]) / query.shape[1] ** 0.5
        shares = scores.softmax(dim=0)
        heads.append(sum(share * value[head] for share, value in zip(shares, values, strict=True)))
    return torch.cat(heads)


def transformer_layer(
    states: list[torch.Tensor], weights: Weights, at: str, num_heads: int, theta: float, window: int
) -> list[torch.Tensor]:
    """x + attention over the last ``window`` positions, then x + SwiGLU; pre-norm."""
    queries, keys, values = [], [], []
    for position, x in enumerate(states):
        joined = weights[f"{at}.mixer.query_key_value.weight"] @ rms_norm(x, weights[f"{at}.mixer_norm.weight"])
        query, key, value = joined.view(3, num_heads, -1)
        queries.append(torch.stack([turned(head, position, theta) for head in query]))
        keys.append(torch.stack([turned(head, position, theta) for head in key]))
        values.append(value)
    out = []
    for position, x in enumerate(states):
        seen = slice(max(position - window + 1, 0), position + 1)
        x = x + weights[f"{at}.mixer.output.weight"] @ attend(queries[position], keys[seen], values[seen])
        gate, up = (weights[f"{at}.ffn.gate_up.weight"] @ rms_norm(x, weights[f"{at}.ffn_norm.weight"])).chunk(2)
        out.append(x + weights[f"{at}.ffn.output.weight"] @ (gate * gate.sigmoid() * up))
    return out


def key_value(state: torch.Tensor, weights: Weights, at: str, num_heads: int) -> list[tuple[torch.Tensor, ...]]:
    """Keys and values [H, D] that a state gives: one pair, or as many as its projection is wide."""
    joined = weights[f"{at}.key_value.weight"] @ rms_norm(state, weights[f"{at}.state_norm.weight"])
    width = len(weights[f"{at}.query.weight"])
    return [tuple(part.view(2, num_heads, -1)) for part in joined.split(2 * width)]


def cross_attention(
    x: torch.Tensor, pairs: Sequence[tuple[torch.Tensor, ...]], weights: Weights, at: str, num_heads: int, residual: int
) -> torch.Tensor:
    query = (weights[f"{at}.query.weight"] @ rms_norm(x, weights[f"{at}.query_norm.weight"])).view(num_heads, -1)
    out = weights[f"{at}.output.weight"] @ attend(query, [key for key, _ in pairs], [value for _, value in pairs])
    return residual * x + out


def encode(
    tokens: list[torch.Tensor], patches: list[range], weights: Weights, config: ModelConfig
) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
    """Token states, and one vector for each patch: its sub-queries, concatenated."""
    heads, dim, queries = config.local_heads, config.local_dim, []
    for layer in range(config.encoder_layers):
        tokens = transformer_layer(
            tokens, weights, f"encoder.blocks.{layer}", heads, config.rope_theta, config.window_tokens
        )
        if layer == 0:
            for patch in patches:
                pooled = torch.stack([tokens[token] for token in patch]).amax(dim=0)
                queries.append(list((weights["encoder.to_queries.weight"] @ pooled).split(dim)))
        at = f"encoder.readers.{layer}"
        pairs = [key_value(token, weights, at, heads)[0] for token in tokens]
        for number, patch in enumerate(patches):
            first = patches[max(number - config.encoder_window_patches + 1, 0)].start
            queries[number] = [
                cross_attention(query, pairs[first : patch.stop], weights, at, heads, config.cross_residual)
                for query in queries[number]
            ]
    vectors = [torch.cat(own) for own in queries]
    if "encoder.to_global.weight" in weights:
        vectors = [weights["encoder.to_global.weight"] @ vector for vector in vectors]
    return tokens, vectors


def decode(
    tokens: list[torch.Tensor], outputs: list[torch.Tensor], last_seen: list[int], weights: Weights, config: ModelConfig
) -> list[torch.Tensor]:
    """Token states; ``last_seen`` is the last patch that each token reads."""
    heads, dim = config.local_heads, config.local_dim
    if "decoder.to_local.weight" in weights:
        states = [list((weights["decoder.to_local.weight"] @ output).split(dim)) for output in outputs]
    else:
        states = [[output] for output in outputs]
    for layer in range(config.decoder_layers):
        at = f"decoder.readers.{layer}"
        pairs = [[pair for state in own for pair in key_value(state, weights, at, heads)] for own in states]
        assert {len(own) for own in pairs} == {config.decoder_keys}
        read = []
        for x, last in zip(tokens, last_seen, strict=True):
            first = max(last - config.decoder_window_patches + 1, 0)
            seen = [pair for own in pairs[first : last + 1] for pair in own]
            read.append(cross_attention(x, seen, weights, at, heads, config.cross_residual))
        tokens = transformer_layer(
            read, weights, f"decoder.blocks.{layer}", heads, config.rope_theta, config.window_tokens
        )
    return tokens


def published_logits(
    weights: Weights, config: ModelConfig, token_ids: Sequence[int], lengths: Sequence[int], late: Sequence[bool]
) -> torch.Tensor:
    """Logits [N, V] of a document's next tokens.

    Args:
        weights: of the model, by name.
        config: its shape.
        token_ids: of the document.
        lengths: tokens of each patch.
        late: of each patch, whether tokens read it only after its last token.
    """
    ends = [sum(lengths[: number + 1]) for number in range(len(lengths))]
    patches = [range(end - length, end) for end, length in zip(ends, lengths, strict=True)]
    tokens, vectors = encode([weights["embedding.weight"][token] for token in token_ids], patches, weights, config)
    for layer in range(config.global_layers):
        at = f"backbone.blocks.{layer}"
        vectors = transformer_layer(vectors, weights, at, config.global_heads, config.rope_theta, len(vectors))
    if "backbone.norm.weight" in weights:
        vectors = [rms_norm(vector, weights["backbone.norm.weight"]) for vector in vectors]
    # A patch is read from its last token on. The first token is a patch of its own.
    last_seen = [
        max(number for number in range(len(ends)) if ends[number] - 1 + late[number] <= max(token, ends[0] - 1))
        for token in range(len(token_ids))
    ]
    tokens = decode(tokens, vectors, last_seen, weights, config)
    return torch.stack([weights["head.weight"] @ rms_norm(x, weights["norm.weight"]) for x in tokens])
