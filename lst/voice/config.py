"""Sizes of a voice, and the weights of what it learns by. Imports nothing heavy."""

from __future__ import annotations

from dataclasses import dataclass

from lst.options import Options, option


@dataclass
class VoiceModelConfig(Options, prefix="model.", needs="part=whole|units"):
    """Sizes of a voice's networks."""

    sample_rate_hz: int = option(
        16_000,
        "rate of the audio that it hears and makes; a multiple of 400",
        low=16_000,
        high=48_000,
        unit="Hz",
        needs="part=whole|units|vocoder",
    )
    content_dim: int = option(96, "width of the content, which a front makes and the decoder reads", low=8)
    decoder_dim: int = option(128, "width of the decoder", low=8)
    style_dim: int = option(64, "numbers that describe a voice", low=4)
    style_channels: int = option(8, "channels of the first layer of style encoder and discriminator", low=2)
    style_max_channels: int = option(64, "channels of their last layers", low=2)
    reader_dim: int = option(
        64, "width of the network that reads phones and pitch from a mel", low=8, needs="part=whole"
    )
    relative: bool = option(
        False,
        "a style has the mean and the spread of each bin, too: mels are made relative to the reference's, and sources "
        "are heard without their own",
        is_later=True,
    )

    def rules(self) -> list[str]:
        """Frames of 1/80 s and windows of 1/20 s are whole samples, and LSTMs have two directions."""
        found = []
        if self.sample_rate_hz % 400:
            found.append(
                f"model.sample_rate_hz={self.sample_rate_hz}: must be a multiple of 400, such as 16000 or 24000"
            )
        for name in ("content_dim", "reader_dim"):
            if getattr(self, name) % 2:
                found.append(f"model.{name}={getattr(self, name)}: must be even")
        return found


@dataclass
class VoiceLossConfig(Options, prefix="loss.", needs="part=whole"):
    """Weights of the terms of a voice's loss; 0 leaves a term out, and with it its computation."""

    mel: float = option(5.0, "distance of the mel to that of the speech", low=0)
    adversarial: float = option(0.0, "the discriminator's verdict (published: 1); 0 has no discriminator", low=0)
    features: float = option(0.1, "distance in the discriminator's features", low=0, needs="loss.adversarial!=0")
    style: float = option(0.0, "distance of the style of what was made to the wanted one (published: 1)", low=0)
    pitch: float = option(0.1, "stage 1: distance of the pitch that is read from the mel", low=0)
    energy: float = option(0.1, "stage 1: distance of the loudness of the mel", low=0)
    recognition: float = option(0.1, "stage 1: distance in the features that phones are read by", low=0)
    cycle: float = option(1.0, "distance after a conversion and back; in stage 1, of its style, with loss.style", low=0)
    phone: float = option(0.5, "stage 2: cross-entropy of the phones that content is read as", low=0)
    transfer: bool = option(
        True, "stage 2: learn from the teacher's speech in random styles; false: from recordings in their own style"
    )
    augment: bool = option(True, "stage 2: half of the sources are the teacher's speech in a random style")
    units: float = option(5.0, "stage 2: distance of the mel that is made of units; 0 trains no front of units", low=0)


@dataclass
class SpectrumConfig(Options, prefix="spectrum.", needs="part=vocoder"):
    """Sizes of the vocoder that ``lst voice train part=vocoder`` trains."""

    dim: int = option(128, "width of the vocoder", low=8)
    layers: int = option(4, "ConvNeXt blocks of the vocoder", low=1)
