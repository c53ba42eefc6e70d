"""Options of the model's shape and of patching. Imports no torch, so that mistakes are answered at once."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

STRATEGIES = ("none", "static", "aligned", "mixed", "curriculum", "entropy", "speech_bpe")
SILENCES = ("separate", "merged")
INITS = ("depth_scaled", "mup")
MIXERS = ("attention", "window_attention", "h3", "s4d")
HYBRID = "h3_hybrid"
POSITIONS = ("rotary", "learned", "none")
NORMS = ("rms", "layer")
FEED_FORWARDS = ("swiglu", "gelu")
DISCRETISATIONS = ("bilinear", "zoh")
SEGMENT_LEVELS = ("word", "bpe")
ENTROPY_MEASURES = ("entropy", "surprisal")
# Every token is a patch of its own: a model without local modules can use these.
UNPATCHED_STRATEGIES = ("none", "speech_bpe")


@dataclass
class PatchingConfig:
    strategy: str = field(
        default="curriculum",
        metadata={
            "doc": "none, static, aligned, mixed, curriculum (aligned, then static), entropy, or speech_bpe (no "
            "patches, but units joined by BPE)"
        },
    )
    static_size: int = field(default=4, metadata={"doc": "units in a static patch"})
    silence: str = field(
        default="separate", metadata={"doc": "silences of aligned patching: separate patches, or merged into a word"}
    )
    max_patch: int = field(default=0, metadata={"doc": "longest patch in units; 0 sets no limit"})
    curriculum_start: float = field(
        default=1 / 3, metadata={"doc": "share of training after which aligned patching begins to give way"}
    )
    curriculum_end: float = field(
        default=2 / 3, metadata={"doc": "share of training after which all patching is static"}
    )
    aligned_to: str = field(
        default="word",
        metadata={"doc": "aligned patches hold a word, or a bpe piece (its share of the word's units is estimated)"},
    )
    entropy_measure: str = field(
        default="entropy",
        metadata={"doc": "entropy ends a patch where the next unit is uncertain, surprisal begins one at a rare unit"},
    )
    entropy_size: float = field(
        default=4.0, metadata={"doc": "mean entropy patch in units, which the threshold is fitted to"}
    )
    entropy_threshold: float | None = field(
        default=None, metadata={"doc": "threshold in nats of entropy patching; null fits it to entropy_size"}
    )
    unit_context: int = field(default=8, metadata={"doc": "units that the entropy patching's unit model looks back"})
    speech_bpe_size: int = field(default=1000, metadata={"doc": "pieces that speech_bpe joins units to"})
    speech_bpe_sequences: int = field(
        default=100_000, metadata={"doc": "utterances at most that speech_bpe is fitted on"}
    )
    deduplicate: bool = field(
        default=False,
        metadata={
            "doc": "a run of one speech unit is read once, before it is patched or joined; shards keep every frame"
        },
    )

    @property
    def static_patch_size(self) -> int:
        """Units of a full static patch: ``static_size``, or ``max_patch`` where that is less."""
        return min(self.static_size, self.max_patch) if self.max_patch else self.static_size

    def problems(self) -> list[str]:
        """What is wrong with these values, a line each."""
        found = self._entropy_problems()
        if self.strategy not in STRATEGIES:
            found.append(f"patching.strategy={self.strategy}: allowed are {', '.join(STRATEGIES)}")
        if self.silence not in SILENCES:
            found.append(f"patching.silence={self.silence}: allowed are {', '.join(SILENCES)}")
        if self.static_size < 1:
            found.append(f"patching.static_size={self.static_size}: must be 1 or more")
        if self.max_patch < 0:
            found.append(f"patching.max_patch={self.max_patch}: must be 0 (no limit) or more")
        if not 0 <= self.curriculum_start <= self.curriculum_end <= 1:
            found.append(
                f"patching.curriculum_start={self.curriculum_start}, curriculum_end={self.curriculum_end}: "
                "must satisfy 0 ≤ start ≤ end ≤ 1"
            )
        if self.aligned_to not in SEGMENT_LEVELS:
            found.append(f"patching.aligned_to={self.aligned_to}: allowed are {', '.join(SEGMENT_LEVELS)}")
        for name in ("speech_bpe_size", "speech_bpe_sequences"):
            if getattr(self, name) < 1:
                found.append(f"patching.{name}={getattr(self, name)}: must be 1 or more")
        return found

    def _entropy_problems(self) -> list[str]:
        found = []
        if self.entropy_measure not in ENTROPY_MEASURES:
            found.append(f"patching.entropy_measure={self.entropy_measure}: allowed are {', '.join(ENTROPY_MEASURES)}")
        if not 1 <= self.entropy_size < math.inf:
            found.append(f"patching.entropy_size={self.entropy_size}: must be a number of 1 or more")
        elif self.strategy == "entropy" and 0 < self.max_patch < self.entropy_size:
            found.append(
                f"patching.entropy_size={self.entropy_size}: no mean can exceed patching.max_patch={self.max_patch}"
            )
        if self.entropy_threshold is not None and not 0 <= self.entropy_threshold < math.inf:
            found.append(f"patching.entropy_threshold={self.entropy_threshold}: must be null (fitted), or 0 or more")
        if self.unit_context < 1:
            found.append(f"patching.unit_context={self.unit_context}: must be 1 or more")
        return found


@dataclass
class ModelConfig:
    global_dim: int = field(default=192, metadata={"doc": "width of the backbone"})
    global_layers: int = field(default=4, metadata={"doc": "layers of the backbone"})
    global_heads: int = field(default=6, metadata={"doc": "attention heads of the backbone"})
    global_kv_heads: int = field(
        default=0, metadata={"doc": "key and value heads of the backbone, each shared by some heads; 0: one a head"}
    )
    global_mixers: list[str] = field(
        default_factory=lambda: ["attention"],
        metadata={
            "doc": "mixers of the backbone, one for all layers or one a layer: attention, window_attention, h3, s4d; "
            "or h3_hybrid: h3, with attention at layers 2 and 2 + half the layers"
        },
    )
    global_window_patches: int = field(
        default=512, metadata={"doc": "patches back that window_attention reaches, its own included"}
    )
    positions: str = field(
        default="rotary", metadata={"doc": "the backbone's positions: rotary, learned, or none (as in H3)"}
    )
    norm: str = field(default="rms", metadata={"doc": "the backbone's norm: rms, or layer (with a bias)"})
    ffn: str = field(
        default="swiglu", metadata={"doc": "the backbone's feed-forward: swiglu, or gelu (four times as wide, biased)"}
    )
    h3_head_dim: int = field(default=1, metadata={"doc": "channels of an H3 head, whose states are their products"})
    ssm_modes: int = field(default=32, metadata={"doc": "modes of a diagonal SSM: half its state size"})
    ssm_discretisation: str = field(default="bilinear", metadata={"doc": "of diagonal SSMs: bilinear, or zoh"})
    shift_taps: int = field(default=64, metadata={"doc": "state size of H3's shift SSM, in patches"})
    local_dim: int = field(default=96, metadata={"doc": "width of patch encoder and decoder"})
    local_heads: int = field(default=3, metadata={"doc": "attention heads of patch encoder and decoder"})
    local_kv_heads: int = field(
        default=0, metadata={"doc": "key and value heads of patch encoder and decoder; 0: one a head"}
    )
    encoder_layers: int = field(default=1, metadata={"doc": "layers of the patch encoder; 0 for the token baseline"})
    decoder_layers: int = field(default=2, metadata={"doc": "layers of the patch decoder; 0 for the token baseline"})
    sub_queries: int = field(default=2, metadata={"doc": "queries a patch sends to its tokens, k"})
    window_tokens: int = field(default=512, metadata={"doc": "sliding window of the local self-attention, in tokens"})
    encoder_window_patches: int = field(
        default=512, metadata={"doc": "patches whose tokens a patch's queries read, its own included; 1: its own alone"}
    )
    decoder_window_patches: int = field(
        default=512, metadata={"doc": "patches back that a token's cross-attention reaches"}
    )
    max_patches: int = field(default=4096, metadata={"doc": "patches of a document at most: the backbone's context"})
    ffn_multiple_of: int = field(default=32, metadata={"doc": "feed-forward widths are rounded up to this"})
    rope_theta: float = field(default=500_000.0, metadata={"doc": "base of the rotary position embedding"})
    init: str = field(
        default="depth_scaled",
        metadata={"doc": "initial weights: depth_scaled, or mup (and learning rates) that suit every width"},
    )
    init_std: float = field(default=0.02, metadata={"doc": "standard deviation of the initial weights"})
    tied_head: bool = field(default=False, metadata={"doc": "the head's weights are the embedding's"})
    embedding_dropout: float = field(default=0.0, metadata={"doc": "share of embedded values zeroed in training"})
    mup_base_dim: int = field(default=256, metadata={"doc": "width at which init=mup equals depth_scaled"})

    @property
    def has_local_modules(self) -> bool:
        return self.encoder_layers > 0 or self.decoder_layers > 0

    @property
    def global_key_heads(self) -> int:
        return self.global_kv_heads or self.global_heads

    @property
    def local_key_heads(self) -> int:
        return self.local_kv_heads or self.local_heads

    @property
    def mixers(self) -> list[str]:
        """The mixer of each layer of the backbone."""
        layers = self.global_layers
        if self.global_mixers == [HYBRID]:
            # Counted from one, as the paper does: layers 2 and 2 + L/2.
            return ["attention" if layer in (2, 2 + layers // 2) else "h3" for layer in range(1, layers + 1)]
        return self.global_mixers * layers if len(self.global_mixers) == 1 else list(self.global_mixers)

    def ffn_dim(self, dim: int) -> int:
        """Width of a SwiGLU layer: 8/3 of ``dim``, rounded up."""
        wanted = 8 * dim / 3
        return int(-(-wanted // self.ffn_multiple_of) * self.ffn_multiple_of)

    def problems(self) -> list[str]:
        """What is wrong with these values, a line each."""
        found = []
        for name in (
            "global_dim",
            "global_layers",
            "global_heads",
            "local_dim",
            "local_heads",
            "sub_queries",
            "window_tokens",
            "encoder_window_patches",
            "decoder_window_patches",
            "max_patches",
            "ffn_multiple_of",
            "mup_base_dim",
            "global_window_patches",
            "h3_head_dim",
            "ssm_modes",
            "shift_taps",
        ):
            if getattr(self, name) < 1:
                found.append(f"model.{name}={getattr(self, name)}: must be 1 or more")
        for name in ("encoder_layers", "decoder_layers", "global_kv_heads", "local_kv_heads"):
            if getattr(self, name) < 0:
                found.append(f"model.{name}={getattr(self, name)}: must be 0 or more")
        choices = {
            "init": INITS,
            "positions": POSITIONS,
            "norm": NORMS,
            "ffn": FEED_FORWARDS,
            "ssm_discretisation": DISCRETISATIONS,
        }
        for name, allowed in choices.items():
            if getattr(self, name) not in allowed:
                found.append(f"model.{name}={getattr(self, name)}: allowed are {', '.join(allowed)}")
        if not 0 <= self.embedding_dropout < 1:
            found.append(f"model.embedding_dropout={self.embedding_dropout}: must be at least 0 and below 1")
        found += self._mixer_problems()
        if self.init_std <= 0 or self.rope_theta <= 0:
            found.append(f"model.init_std={self.init_std}, rope_theta={self.rope_theta}: both must be above 0")
        return found or self._misfits()

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

    def _misfits(self) -> list[str]:
        """Values that are possible alone but not together."""
        found = []
        for place in ("global", "local"):
            dim, heads = getattr(self, f"{place}_dim"), getattr(self, f"{place}_heads")
            if dim % (2 * heads):
                found.append(f"model.{place}_dim={dim}: must be an even multiple of model.{place}_heads={heads}")
            if heads % getattr(self, f"{place}_key_heads"):
                found.append(
                    f"model.{place}_kv_heads={getattr(self, f'{place}_kv_heads')}: must divide "
                    f"model.{place}_heads={heads}"
                )
        if self.init == "mup" and self.tied_head:
            found.append(
                "model.init=mup, tied_head=true: head and embedding need different scales; choose init=depth_scaled "
                "or tied_head=false"
            )
        if self.global_dim % self.h3_head_dim:
            found.append(f"model.h3_head_dim={self.h3_head_dim}: must divide model.global_dim={self.global_dim}")
        if (self.encoder_layers == 0) != (self.decoder_layers == 0):
            found.append(
                f"model.encoder_layers={self.encoder_layers}, decoder_layers={self.decoder_layers}: "
                "both are 0 (the token baseline) or neither is"
            )
        return found


@dataclass
class LossConfig:
    text_weight: float = field(default=1.0, metadata={"doc": "weight of the loss of text and special tokens"})
    speech_weight: float = field(default=1.0, metadata={"doc": "weight of the loss of speech units"})
    z_weight: float = field(
        default=0.0, metadata={"doc": "weight of the squared logarithm of the softmax's denominator (z-loss)"}
    )

    def problems(self) -> list[str]:
        """What is wrong with these values, a line each."""
        found = []
        if min(self.text_weight, self.speech_weight) < 0 or self.text_weight + self.speech_weight <= 0:
            found.append(
                f"loss.text_weight={self.text_weight}, speech_weight={self.speech_weight}: must be 0 or more, and one "
                "of them above 0"
            )
        if self.z_weight < 0:
            found.append(f"loss.z_weight={self.z_weight}: must be 0 (no z-loss) or more")
        return found


def patching_problems(model: ModelConfig, strategy: str) -> list[str]:
    """What keeps a model and a patching strategy from going together."""
    if not model.has_local_modules and strategy not in UNPATCHED_STRATEGIES:
        return [
            f"patching.strategy={strategy} with model.encoder_layers=0: a model without local modules cannot tell the "
            "tokens of a patch apart; choose patching=none, patching=speech_bpe, or a model with a patch encoder and "
            "decoder"
        ]
    return []
