"""Options of the model and of patching. Imports no torch, so that mistakes are answered at once."""

from __future__ import annotations

from dataclasses import dataclass

from lst.options import Options, option

STRATEGIES = ("none", "static", "aligned", "mixed", "curriculum", "entropy", "speech_bpe")
SILENCES = ("separate", "merged")
INITS = ("depth_scaled", "mup")
MIXERS = ("attention", "window_attention", "h3", "s4d")
HYBRID = "h3_hybrid"
# Least and greatest depth of ``model=family``.
FAMILY_DEPTHS = (2, 32)
POSITIONS = ("rotary", "learned", "none")
ATTENTION_BIASES = ("none", "qkv", "all")
ROPE_SCALINGS = ("none", "linear", "llama3")
NORMS = ("rms", "layer")
FEED_FORWARDS = ("swiglu", "gelu")
DISCRETISATIONS = ("bilinear", "zoh")
SEGMENT_LEVELS = ("word", "bpe")
ENTROPY_MEASURES = ("entropy", "surprisal")
PATCH_PROJECTIONS = ("always", "if_needed")
# A text model brings its own shape.
_OWN_SHAPE = "model.init_from=null"
# Every token is a patch of its own: a model without local modules can use these.
UNPATCHED_STRATEGIES = ("none", "speech_bpe")


@dataclass
class PatchingConfig(Options, prefix="patching."):
    """How speech is cut into patches."""

    strategy: str = option(
        "curriculum",
        "none, static, aligned, mixed, curriculum (aligned, then static), entropy, or speech_bpe (no "
        "patches, but units joined by BPE)",
        choices=STRATEGIES,
    )
    static_size: int = option(
        4, "units in a static patch", low=1, unit="units", needs="patching.strategy=static|mixed|curriculum"
    )
    silence: str = option(
        "separate",
        "silences of aligned patching: separate patches, or merged into a word",
        choices=SILENCES,
        needs="patching.strategy=aligned|mixed|curriculum",
    )
    max_patch: int = option(
        0,
        "longest patch in units; 0 sets no limit",
        low=0,
        unit="units",
        needs="patching.strategy!=none|speech_bpe",
    )
    curriculum_start: float = option(
        1 / 3,
        "share of training after which aligned patching begins to give way",
        low=0,
        high=1,
        needs="patching.strategy=curriculum",
    )
    curriculum_end: float = option(
        2 / 3,
        "share of training after which all patching is static",
        low=0,
        high=1,
        needs="patching.strategy=curriculum",
    )
    aligned_to: str = option(
        "word",
        "aligned patches hold a word, or a bpe piece (its share of the word's units is estimated)",
        choices=SEGMENT_LEVELS,
        needs="patching.strategy=aligned|mixed|curriculum",
    )
    entropy_measure: str = option(
        "entropy",
        "entropy ends a patch where the next unit is uncertain, surprisal begins one at a rare unit",
        choices=ENTROPY_MEASURES,
        needs="patching.strategy=entropy",
    )
    entropy_size: float = option(
        4.0,
        "mean entropy patch in units, which the threshold is fitted to",
        low=1,
        unit="units",
        needs="patching.strategy=entropy",
    )
    entropy_threshold: float | None = option(
        None,
        "threshold in nats of entropy patching; null fits it to entropy_size",
        low=0,
        unit="nats",
        needs="patching.strategy=entropy",
    )
    unit_context: int = option(
        8,
        "units that the entropy patching's unit model looks back",
        low=1,
        unit="units",
        needs="patching.strategy=entropy",
    )
    speech_bpe_size: int = option(
        1000, "pieces that speech_bpe joins units to", low=1, needs="patching.strategy=speech_bpe"
    )
    speech_bpe_sequences: int = option(
        100_000, "utterances at most that speech_bpe is fitted on", low=1, needs="patching.strategy=speech_bpe"
    )
    marker_inside: bool = option(
        False,
        "static patches: a speech marker is the first token of its span's first patch (published), not a patch of its "
        "own",
        is_later=True,
    )
    rest_closes_late: bool = option(
        True,
        "static patches: the decoder reads the rest at the end of a span from the next token on, which shows its end; "
        "false: from its last unit on in training (published), which gives the end away",
        is_later=True,
    )
    deduplicate: bool = option(
        False, "a run of one speech unit is read once, before it is patched or joined; shards keep every frame"
    )

    @property
    def static_patch_size(self) -> int:
        """Units of a full static patch: ``static_size``, or ``max_patch`` where that is less."""
        return min(self.static_size, self.max_patch) if self.max_patch else self.static_size

    def rules(self) -> list[str]:
        """The curriculum starts before it ends, and patches can have the mean that is asked for."""
        found = []
        if self.curriculum_start > self.curriculum_end:
            found.append(
                f"patching.curriculum_start={self.curriculum_start}, curriculum_end={self.curriculum_end}: "
                "must satisfy start ≤ end"
            )
        if self.strategy == "entropy" and 0 < self.max_patch < self.entropy_size:
            found.append(
                f"patching.entropy_size={self.entropy_size}: no mean can exceed patching.max_patch={self.max_patch}"
            )
        return found


@dataclass
class ModelConfig(Options, prefix="model."):
    """Shape of the model."""

    family: bool = option(
        False, "sizes and rates that are not given follow from model.depth (model=family sets this)", is_later=True
    )
    depth: int = option(
        4,
        "layers of the backbone; width, heads, local modules, windows, rate, beta2 and batch follow from them",
        low=FAMILY_DEPTHS[0],
        high=FAMILY_DEPTHS[1],
        needs="model.family=true",
        is_later=True,
    )
    global_dim: int = option(192, "width of the backbone", low=1, needs=_OWN_SHAPE)
    global_layers: int = option(4, "layers of the backbone", low=1, needs=_OWN_SHAPE)
    global_heads: int = option(6, "attention heads of the backbone", low=1, needs=_OWN_SHAPE)
    global_kv_heads: int = option(
        0, "key and value heads of the backbone, each shared by some heads; 0: one a head", low=0, needs=_OWN_SHAPE
    )
    global_mixers: list[str] = option(
        ["attention"],
        "mixers of the backbone, one for all layers or one a layer: attention, window_attention, h3, s4d; "
        "or h3_hybrid: h3, with attention at layers 2 and 2 + half the layers",
        needs=_OWN_SHAPE,
    )
    global_window_patches: int = option(
        512,
        "patches back that window_attention reaches, its own included",
        low=1,
        unit="patches",
        needs="model.global_mixers=window_attention",
    )
    positions: str = option(
        "rotary", "the backbone's positions: rotary, learned, or none (as in H3)", choices=POSITIONS, needs=_OWN_SHAPE
    )
    norm: str = option("rms", "the backbone's norm: rms, or layer (with a bias)", choices=NORMS, needs=_OWN_SHAPE)
    ffn: str = option(
        "swiglu",
        "the backbone's feed-forward: swiglu, or gelu (four times as wide, biased)",
        choices=FEED_FORWARDS,
        needs=_OWN_SHAPE,
    )
    h3_head_dim: int = option(
        1, "channels of an H3 head, whose states are their products", low=1, needs="model.global_mixers=h3|h3_hybrid"
    )
    ssm_modes: int = option(
        32, "modes of a diagonal SSM: half its state size", low=1, needs="model.global_mixers=h3|s4d|h3_hybrid"
    )
    ssm_discretisation: str = option(
        "bilinear",
        "of diagonal SSMs: bilinear, or zoh",
        choices=DISCRETISATIONS,
        needs="model.global_mixers=h3|s4d|h3_hybrid",
    )
    shift_taps: int = option(
        64, "state size of H3's shift SSM, in patches", low=1, needs="model.global_mixers=h3|h3_hybrid"
    )
    local_dim: int = option(96, "width of patch encoder and decoder", low=1, needs="model.encoder_layers!=0")
    local_heads: int = option(3, "attention heads of patch encoder and decoder", low=1, needs="model.encoder_layers!=0")
    local_kv_heads: int = option(
        0, "key and value heads of patch encoder and decoder; 0: one a head", low=0, needs="model.encoder_layers!=0"
    )
    encoder_layers: int = option(1, "layers of the patch encoder; 0 for the token baseline", low=0)
    decoder_layers: int = option(2, "layers of the patch decoder; 0 for the token baseline", low=0)
    sub_queries: int = option(2, "queries a patch sends to its tokens, k", low=1, needs="model.encoder_layers!=0")
    window_tokens: int = option(
        512,
        "sliding window of the local self-attention, in tokens",
        low=1,
        unit="tokens",
        needs="model.encoder_layers!=0",
    )
    encoder_window_patches: int = option(
        512,
        "patches whose tokens a patch's queries read, its own included; 1: its own alone",
        low=1,
        unit="patches",
        needs="model.encoder_layers!=0",
    )
    decoder_window_patches: int = option(
        512,
        "patches back that a token's cross-attention reaches",
        low=1,
        unit="patches",
        needs="model.encoder_layers!=0",
    )
    patch_projection: str = option(
        "always",
        "projection of a patch's k vectors to the backbone: always, or if_needed (published), where their width "
        "is not the backbone's",
        choices=PATCH_PROJECTIONS,
        is_later=True,
    )
    global_norm: bool = option(
        True, "a norm ends the backbone (published: none); without local modules there always is one", is_later=True
    )
    decoder_keys: int = option(
        1, "keys a patch gives to the decoder's cross-attention (published: 2)", low=1, is_later=True
    )
    decoder_shared_projection: bool = option(
        False,
        "one projection of the backbone's outputs to decoder_keys vectors of local width for all decoder layers "
        "(published); false: each layer projects the outputs itself",
        is_later=True,
    )
    cross_residual: int = option(
        1, "how many times cross-attention adds its input to its output (published: 2)", low=1, is_later=True
    )
    boundary_head: bool = option(
        False,
        "aligned patches: a small head learns after which unit a patch ends; scoring and generation, which have no "
        "aligner, cut by it; without, they use static patches",
        needs="patching.strategy=aligned",
        is_later=True,
    )
    max_patches: int = option(4096, "patches of a document at most: the backbone's context", low=1)
    ffn_multiple_of: int = option(32, "feed-forward widths are rounded up to this", low=1)
    rope_theta: float = option(500_000.0, "base of the rotary position embedding", above=0, needs=_OWN_SHAPE)
    rope_scaling: str = option(
        "none",
        "how the backbone's rotary angles are slowed for a longer context: linear (all), or llama3 (the slow ones)",
        choices=ROPE_SCALINGS,
        is_later=True,
        needs=_OWN_SHAPE,
    )
    rope_factor: float = option(
        8.0,
        "how many times slower they become",
        low=1,
        needs="model.rope_scaling=linear|llama3 and model.init_from=null",
        is_later=True,
    )
    rope_low_factor: float = option(
        1.0,
        "turns within rope_original_patches up to which an angle is slow",
        above=0,
        needs="model.rope_scaling=llama3 and model.init_from=null",
        is_later=True,
    )
    rope_high_factor: float = option(
        4.0,
        "turns within rope_original_patches from which an angle stays as it is",
        above=0,
        needs="model.rope_scaling=llama3 and model.init_from=null",
        is_later=True,
    )
    rope_original_patches: int = option(
        8192,
        "context that the angles were made for",
        low=1,
        unit="patches",
        needs="model.rope_scaling=llama3 and model.init_from=null",
        is_later=True,
    )
    global_head_dim: int = option(
        0,
        "width of a head of the backbone's attention; 0: global_dim divided by global_heads",
        low=0,
        is_later=True,
        needs=_OWN_SHAPE,
    )
    global_ffn_dim: int = option(
        0,
        "width of the backbone's swiglu; 0: 8/3 of global_dim, rounded up to ffn_multiple_of",
        low=0,
        needs="model.ffn=swiglu and model.init_from=null",
        is_later=True,
    )
    attention_bias: str = option(
        "none",
        "biases of the backbone's attention: none, qkv (queries, keys and values, as in Qwen2), or all",
        choices=ATTENTION_BIASES,
        is_later=True,
        needs=_OWN_SHAPE,
    )
    query_key_norm: bool = option(
        False, "a norm of each head's queries and keys in the backbone (as in Qwen3)", is_later=True, needs=_OWN_SHAPE
    )
    norm_eps: float = option(
        1e-5, "added to the mean square in the backbone's norms", above=0, is_later=True, needs=_OWN_SHAPE
    )
    init_from: str | None = option(
        None,
        "model to begin with: a trained one, RUN/models/NAME/final, whose shape, patching and weights are taken; or a "
        "text model (Hugging Face's config.json, safetensors), which becomes the backbone; a folder or hub:OWNER/NAME",
        path="folder",
        is_later=True,
    )
    init: str = option(
        "depth_scaled",
        "initial weights: depth_scaled, or mup (and learning rates) that suit every width",
        choices=INITS,
    )
    init_std: float = option(0.02, "standard deviation of the initial weights", above=0)
    local_rate: float = option(
        1.0,
        "factor of the learning rates of patch encoder and decoder: below 1, they change slowly while the backbone "
        "learns what lies between them",
        above=0,
        needs="model.encoder_layers!=0",
        is_later=True,
    )
    tied_head: bool = option(False, "the head's weights are the embedding's", needs=_OWN_SHAPE)
    embedding_dropout: float = option(0.0, "share of embedded values zeroed in training", low=0, below=1)
    mup_base_dim: int = option(256, "width at which init=mup equals depth_scaled", low=1, needs="model.init=mup")

    @property
    def has_local_modules(self) -> bool:
        """Whether there is a patch encoder or decoder; the token baseline has neither."""
        return self.encoder_layers > 0 or self.decoder_layers > 0

    @property
    def projects_patches(self) -> bool:
        """Whether a projection leads from the k vectors of a patch to the backbone."""
        return self.patch_projection == "always" or self.sub_queries * self.local_dim != self.global_dim

    @property
    def ends_backbone_in_norm(self) -> bool:
        """Whether a norm ends the backbone. The head of the token baseline needs one."""
        return self.global_norm or not self.has_local_modules

    @property
    def global_key_heads(self) -> int:
        """Key and value heads of the backbone's attention."""
        return self.global_kv_heads or self.global_heads

    @property
    def local_key_heads(self) -> int:
        """Key and value heads of the attention in patch encoder and decoder."""
        return self.local_kv_heads or self.local_heads

    @property
    def mixers(self) -> list[str]:
        """The mixer of each layer of the backbone."""
        layers = self.global_layers
        if self.global_mixers == [HYBRID]:
            # Counted from one, as the paper does: layers 2 and 2 + L/2.
            return ["attention" if layer in (2, 2 + layers // 2) else "h3" for layer in range(1, layers + 1)]
        return self.global_mixers * layers if len(self.global_mixers) == 1 else list(self.global_mixers)

    @property
    def head_dim(self) -> int:
        """Width of a head of the backbone's attention."""
        return self.global_head_dim or self.global_dim // self.global_heads

    @property
    def backbone_ffn_dim(self) -> int:
        """Width of the backbone's SwiGLU layers."""
        return self.global_ffn_dim or self.ffn_dim(self.global_dim)

    def ffn_dim(self, dim: int) -> int:
        """Width of a SwiGLU layer: 8/3 of ``dim``, rounded up."""
        wanted = 8 * dim / 3
        return int(-(-wanted // self.ffn_multiple_of) * self.ffn_multiple_of)

    def rules(self) -> list[str]:
        """Mixers fit the layers, heads divide widths, and both local modules are there or neither."""
        found = self._mixer_problems() + self._head_problems("global") + self._head_problems("local")
        if self.init == "mup" and self.tied_head:
            found.append(
                "model.init=mup, tied_head=true: head and embedding need different scales; choose init=depth_scaled "
                "or tied_head=false"
            )
        if self.rope_low_factor >= self.rope_high_factor:
            found.append(
                f"model.rope_low_factor={self.rope_low_factor}: must be below model.rope_high_factor="
                f"{self.rope_high_factor}"
            )
        if self.h3_head_dim >= 1 and self.global_dim % self.h3_head_dim:
            found.append(f"model.h3_head_dim={self.h3_head_dim}: must divide model.global_dim={self.global_dim}")
        if (self.encoder_layers == 0) != (self.decoder_layers == 0):
            found.append(
                f"model.encoder_layers={self.encoder_layers}, decoder_layers={self.decoder_layers}: "
                "both are 0 (the token baseline) or neither is"
            )
        if self.boundary_head and not self.has_local_modules:
            found.append(
                "model.boundary_head=true with model.encoder_layers=0: the head reads the patch encoder's states; set "
                "model.boundary_head=false"
            )
        return found

    def _mixer_problems(self) -> list[str]:
        named = self.global_mixers
        if named == [HYBRID]:
            return []
        found = []
        if unknown := sorted(set(named) - set(MIXERS)):
            found.append(
                f"model.global_mixers={unknown[0]}: allowed are {', '.join(MIXERS)} in a list, or [{HYBRID}] alone"
            )
        if len(named) not in (1, self.global_layers):
            found.append(
                f"model.global_mixers has {len(named)} entries: needed is one for all layers, or one for each of "
                f"model.global_layers={self.global_layers}"
            )
        return found

    def _head_problems(self, place: str) -> list[str]:
        """Problems of the heads of the ``global`` or ``local`` attention; none while a count is out of its limits."""
        dim, heads, kv_heads = (getattr(self, f"{place}_{name}") for name in ("dim", "heads", "kv_heads"))
        if min(dim, heads) < 1 or kv_heads < 0:
            return []
        found = []
        if place == "global" and self.global_head_dim:
            if self.global_head_dim % 2:
                found.append(f"model.global_head_dim={self.global_head_dim}: must be even")
        elif dim % (2 * heads):
            found.append(f"model.{place}_dim={dim}: must be an even multiple of model.{place}_heads={heads}")
        if heads % (kv_heads or heads):
            found.append(f"model.{place}_kv_heads={kv_heads}: must divide model.{place}_heads={heads}")
        return found


def patching_problems(model: ModelConfig, strategy: str) -> list[str]:
    """Problems of combining this model with this patching strategy; empty if they fit."""
    found = []
    if model.boundary_head and strategy != "aligned":
        found.append(
            f"model.boundary_head=true with patching.strategy={strategy}: the head learns where aligned patches end; "
            "set model.boundary_head=false, or patching=aligned"
        )
    if not model.has_local_modules and strategy not in UNPATCHED_STRATEGIES:
        found.append(
            f"patching.strategy={strategy} with model.encoder_layers=0: a model without local modules cannot tell the "
            "tokens of a patch apart; choose patching=none, patching=speech_bpe, or a model with a patch encoder and "
            "decoder"
        )
    return found
