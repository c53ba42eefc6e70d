"""What the files of a CTC model may say: networks are not built of other values.

::

    FOLDER/ctc.json                                            architecture: Architecture
    FOLDER/config.json                                         HuggingFaceConfig
    FOLDER/preprocessor_config.json, tokenizer_config.json     Preprocessor, and texts
"""

from __future__ import annotations

from typing import Annotated, Literal, TypedDict

from lst.storage import Between

# Wider and deeper networks than anybody trains.
_Width = Annotated[int, Between(1, 65_536)]
_Depth = Annotated[int, Between(1, 1_000)]
_Share = Annotated[float, Between(0, 1)]


class Architecture(TypedDict, total=False):
    """Arguments of ``torchaudio.models.wav2vec2_model``; it says which are missing."""

    extractor_mode: Literal["group_norm", "layer_norm"]
    extractor_conv_layer_config: list[list[_Width]] | None
    extractor_conv_bias: bool
    encoder_embed_dim: _Width
    encoder_projection_dropout: _Share
    encoder_pos_conv_kernel: _Width
    encoder_pos_conv_groups: _Width
    encoder_num_layers: _Depth
    encoder_num_heads: _Width
    encoder_attention_dropout: _Share
    encoder_ff_interm_features: _Width
    encoder_ff_interm_dropout: _Share
    encoder_dropout: _Share
    encoder_layer_norm_first: bool
    encoder_layer_drop: _Share
    aux_num_out: Annotated[int, Between(1, 1_000_000)] | None


class HuggingFaceConfig(TypedDict, total=False):
    """What is read of Hugging Face's configuration; it may hold other keys."""

    model_type: str
    conv_dim: list[_Width]
    conv_kernel: list[_Width]
    conv_stride: list[_Width]
    feat_extract_norm: Literal["group", "layer"]
    conv_bias: bool
    hidden_size: _Width
    num_conv_pos_embeddings: _Width
    num_conv_pos_embedding_groups: _Width
    num_hidden_layers: _Depth
    num_attention_heads: _Width
    intermediate_size: _Width
    do_stable_layer_norm: bool
    vocab_size: Annotated[int, Between(0, 1_000_000)]
    pad_token_id: Annotated[int, Between(0, 1_000_000)] | None


class Preprocessor(TypedDict, total=False):
    """How Hugging Face's feature extractor prepares audio."""

    sampling_rate: Annotated[int, Between(1, 1_000_000)]
    do_normalize: bool
