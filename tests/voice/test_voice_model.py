"""The parts of a voice: shapes, gradients, and one decoder for all fronts."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from lst.configs.compose import VOICE
from lst.voice.config import VoiceLossConfig, VoiceModelConfig
from lst.voice.losses import voice_losses
from lst.voice.model import KEPT, LEARNING, Stage, VoiceBatch, VoiceModel
from lst.voice.styles import style_size

TINY = VoiceModelConfig(16_000, 16, 16, 8, 4, 8, 16)
PHONES, UNITS, SPEAKERS, ROWS, CONTENT = 7, 11, 3, 4, 10
ALL = VoiceLossConfig(adversarial=1.0, style=1.0)


def draw_batch(num_reference: int = 2 * CONTENT) -> VoiceBatch:
    generator = torch.Generator().manual_seed(0)

    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator)

    def ids(most: int, *shape: int) -> torch.Tensor:
        return torch.randint(most, shape, generator=generator)

    prosody = normal(ROWS, 3, 2 * CONTENT)
    prosody[:, 1] = (prosody[:, 1] > 0).float()
    return VoiceBatch(
        mel=normal(ROWS, 80, 2 * CONTENT),
        prosody=prosody,
        pitch=normal(ROWS, 2 * CONTENT),
        phones=ids(PHONES, ROWS, CONTENT),
        units=ids(UNITS, ROWS, CONTENT),
        runs=ids(UNITS, ROWS, 5),
        run_lengths=normal(ROWS, 5).abs().mul(4),
        speakers=ids(SPEAKERS, ROWS),
        reference=normal(ROWS, 80, num_reference),
        others=ids(SPEAKERS, ROWS),
        other=normal(ROWS, 80, num_reference),
    )


@pytest.fixture
def model() -> VoiceModel:
    return VoiceModel(TINY, PHONES, UNITS, SPEAKERS)


def test_every_part_has_its_shape(model: VoiceModel) -> None:
    batch = draw_batch()
    style = model.style(batch.reference)
    assert style.shape == (ROWS, 8)
    contents = [model.phones(batch.phones), model.sound(batch.mel), model.units(batch.units)]
    assert [tuple(content.shape) for content in contents] == [(ROWS, 16, CONTENT)] * 3
    assert model.classifier(contents[1]).shape == (ROWS, PHONES, CONTENT)
    assert model.decoder(contents[0], batch.prosody, style).shape == batch.mel.shape
    said = model.units.predict(contents[2])
    assert said.prosody().shape == batch.prosody.shape
    assert model.units.log_lengths(batch.runs).shape == (ROWS, 5)
    assert model.reader is not None
    assert model.discriminator is not None
    read = model.reader(batch.mel)
    assert (read.phones.shape, read.pitch.shape) == ((ROWS, PHONES, CONTENT), (ROWS, 2 * CONTENT))
    assert model.discriminator(batch.mel, batch.speakers)[0].shape == (ROWS,)


@pytest.mark.parametrize("num_frames", [2, 31, 400])
def test_a_reference_may_have_any_length(model: VoiceModel, num_frames: int) -> None:
    assert model.style(torch.randn(1, 80, num_frames)).isfinite().all()


def test_a_relative_voice_takes_over_mean_and_spread() -> None:
    """What it makes follows the reference's bins, and what it hears does not follow the source's."""
    model, batch = VoiceModel(replace(TINY, relative=True), PHONES, UNITS, SPEAKERS), draw_batch()
    style = model.style(batch.reference)
    assert style.shape == (ROWS, style_size(model.config)) == (ROWS, 8 + 2 * 80)
    torch.testing.assert_close(style[:, 8:88], batch.reference.mean(dim=-1))
    content = model.phones(batch.phones)
    made = model.decoder(content, batch.prosody, style)
    mean, spread = (part.unsqueeze(-1) for part in style[:, 8:].chunk(2, dim=1))
    other = torch.cat([style[:, :8], 3 + style[:, 8:88], 2 * style[:, 88:]], dim=1)
    torch.testing.assert_close(model.decoder(content, batch.prosody, other), 3 + mean + 2 * (made - mean))
    assert (spread > 0).all()
    bins = torch.linspace(0.5, 2, 80)[:, None]
    torch.testing.assert_close(model.sound(bins * batch.mel + 4 * bins), model.sound(batch.mel), rtol=1e-3, atol=1e-3)
    silent = model.style(torch.full((1, 80, 8), -1.9))
    assert silent.isfinite().all()
    assert not torch.equal(VoiceModel(TINY, PHONES, UNITS).sound(2 * batch.mel), model.sound(batch.mel))


def test_the_fronts_share_one_decoder(model: VoiceModel) -> None:
    """Equal content gives equal sound, whichever front it is from."""
    batch = draw_batch()
    content, style = torch.randn(ROWS, 16, CONTENT), model.style(batch.reference)
    made = []
    inputs = {"phones": batch.phones, "sound": batch.mel, "units": batch.units}
    for name, given in inputs.items():
        front = getattr(model, name)
        hook = front.register_forward_hook(lambda *_: content)
        made.append(model.decoder(front(given), batch.prosody, style))
        hook.remove()
    assert torch.equal(made[0], made[1])
    assert torch.equal(made[0], made[2])


@pytest.mark.parametrize("stage", [1, 2])
def test_a_stage_gives_all_of_its_parts_a_gradient_and_no_other(model: VoiceModel, stage: Stage) -> None:
    model.learn(stage)
    terms = voice_losses(model, draw_batch(), ALL, stage)
    torch.stack(list(terms.values())).sum().backward()
    for name, parameter in model.named_parameters():
        if name.partition(".")[0] in LEARNING[stage]:
            assert parameter.grad is not None, name
            assert parameter.grad.isfinite().all(), name
            assert parameter.grad.abs().sum() > 0, name
        else:
            assert parameter.grad is None, name


def test_judges_do_not_learn_from_what_they_judge(model: VoiceModel) -> None:
    """The gradient of the reader is that of recordings alone, and the style is not pulled to what was made."""
    gradients = []
    for loss in (ALL, replace(ALL, pitch=9.0, recognition=9.0, style=9.0)):
        model.zero_grad()
        terms = voice_losses(model, draw_batch(), loss, 1)
        torch.stack(list(terms.values())).sum().backward()
        assert model.reader is not None
        gradients.append([parameter.grad for parameter in model.reader.parameters()])
    assert all(torch.equal(*pair) for pair in zip(*gradients, strict=True))


SWITCHES = {
    1: {"energy": {"energy"}, "pitch,recognition": {"reader", "pitch", "recognition"}, "style": {"style", "cycle"}},
    2: {"phone": {"phone"}, "cycle": {"cycle"}, "units": {"units", "unit_prosody", "unit_lengths"}},
}


@pytest.mark.parametrize("stage", [1, 2])
def test_every_term_can_be_switched_off(model: VoiceModel, stage: Stage) -> None:
    batch = draw_batch()
    whole = set(voice_losses(model, batch, ALL, stage))
    for names, terms in {**SWITCHES[stage], "adversarial": {"adversarial", "discriminator", "features"}}.items():
        without = replace(ALL, **dict.fromkeys(names.split(","), 0.0))
        assert set(voice_losses(model, batch, without, stage)) == whole - terms, names
    for name in ("transfer", "augment"):
        changed = voice_losses(model, batch, replace(ALL, **{name: False}), 2)
        assert not torch.equal(changed["mel"], voice_losses(model, batch, ALL, 2)["mel"])


def test_losses_are_means(model: VoiceModel) -> None:
    """Twice the same rows weigh as much as once."""
    batch = draw_batch()
    twice = VoiceBatch(**{name: torch.cat([value, value]) for name, value in vars(batch).items()})
    loss = replace(ALL, augment=False)
    for stage in (1, 2):
        once, both = voice_losses(model, batch, loss, stage), voice_losses(model, twice, loss, stage)
        for name in once:
            torch.testing.assert_close(once[name], both[name], msg=name)


def test_silence_is_no_cause_of_nan(model: VoiceModel) -> None:
    """Constant mels, no voice, one unit."""
    empty = VoiceBatch(**{name: torch.zeros_like(value) for name, value in vars(draw_batch()).items()})
    for stage in (1, 2):
        model.zero_grad()
        torch.stack(list(voice_losses(model, empty, ALL, stage).values())).sum().backward()
        gradients = [parameter.grad for parameter in model.parameters() if parameter.grad is not None]
        assert all(bool(gradient.isfinite().all()) for gradient in gradients)


# Millions of parameters that were published, of the parts that have a counterpart.
PUBLISHED = {"phones": 5.6, "sound": 4.5, "style": 13.9, "decoder": 32.7, "discriminator": 13.8, "reader": 13.2}


def test_shipped_sizes() -> None:
    sizes = {}
    for name in ("small", "published"):
        with torch.device("meta"):
            model = VoiceModel(VOICE.build([f"model={name}"]).model, 41, 100, 96)
        sizes[name] = {part: sum(x.numel() for x in own.parameters()) for part, own in model.named_children()}
    assert 1.5e6 < sum(sizes["small"].values()) < 2.5e6
    for part, millions in PUBLISHED.items():
        assert sizes["published"][part] / 1e6 == pytest.approx(millions, rel=0.25 if part != "reader" else 0.4), part
    assert set(KEPT) <= set(sizes["small"])
