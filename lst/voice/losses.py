"""What a voice learns by, in both stages. Every term is a mean over rows and frames.

Discriminator and reader learn from recordings in the same step in which they judge what was made: a judge is used with
weights that are cut off from the gradient, so one backward pass and one optimiser serve all networks.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.func import functional_call
from torch.nn import functional

from lst.voice.config import VoiceLossConfig
from lst.voice.fronts import Prediction, Reading
from lst.voice.model import Stage, VoiceBatch, VoiceModel
from lst.voice.pitch import loudness

Terms = dict[str, torch.Tensor]


def voice_losses(model: VoiceModel, batch: VoiceBatch, loss: VoiceLossConfig, stage: Stage) -> Terms:
    """The weighted terms of a stage's loss, by name; their sum is what is made small."""
    return teacher_losses(model, batch, loss) if stage == 1 else student_losses(model, batch, loss)


def teacher_losses(model: VoiceModel, batch: VoiceBatch, loss: VoiceLossConfig) -> Terms:
    """Stage 1: speech from its phones in the style of another utterance of its speaker."""
    assert model.reader is not None
    style, content = model.style(batch.reference), model.phones(batch.phones)
    made = model.decoder(content, batch.prosody, style)
    terms = {"mel": loss.mel * functional.l1_loss(made, batch.mel)}
    if loss.energy:
        terms["energy"] = loss.energy * functional.l1_loss(loudness(made), loudness(batch.mel))
    if loss.pitch or loss.recognition:
        read, judged = model.reader(batch.mel), as_judge(model.reader, made)
        terms["reader"] = _reader_loss(read, batch)
        terms["pitch"] = loss.pitch * _masked(judged.pitch - read.pitch.detach(), batch.prosody[:, 1])
        terms["recognition"] = loss.recognition * functional.l1_loss(judged.hidden, read.hidden.detach())
    if loss.style:
        terms["style"] = loss.style * functional.l1_loss(as_judge(model.style, made), style.detach())
    if loss.cycle and loss.style:
        other = model.style(batch.other)
        converted = model.decoder(content, batch.prosody, other)
        terms["cycle"] = loss.cycle * functional.l1_loss(as_judge(model.style, converted), other.detach())
    return terms | _adversarial(model, loss, made, batch.mel, batch.speakers)


def student_losses(model: VoiceModel, batch: VoiceBatch, loss: VoiceLossConfig) -> Terms:
    """Stage 2: the teacher's speech, in a random style, from the source's mel; and speech from its units."""
    with torch.no_grad():
        own, other = model.style(batch.reference), model.style(batch.other)
        taught = model.phones(batch.phones)
        source = batch.mel
        if loss.augment:
            # In the styles of the rows before, so that they are neither the source's nor the target's.
            spoken = model.decoder(taught, batch.prosody, other.roll(1, 0))
            is_spoken = torch.arange(len(source), device=source.device) % 2 == 1
            source = torch.where(is_spoken[:, None, None], spoken, source)
        target = model.decoder(taught, batch.prosody, other) if loss.transfer else batch.mel
        style = other if loss.transfer else own
    content = model.sound(source)
    made = model.decoder(content, batch.prosody, style)
    terms = {"mel": loss.mel * functional.l1_loss(made, target)}
    if loss.phone:
        terms["phone"] = loss.phone * functional.cross_entropy(model.classifier(content), batch.phones)
    if loss.cycle:
        back = model.decoder(model.sound(made), batch.prosody, own)
        terms["cycle"] = loss.cycle * functional.l1_loss(back, batch.mel)
    if loss.units:
        terms |= _unit_losses(model, batch, loss, own)
    speakers = batch.others if loss.transfer else batch.speakers
    recordings = batch.other if loss.transfer else batch.mel
    return terms | _adversarial(model, loss, made, recordings, speakers)


def _unit_losses(model: VoiceModel, batch: VoiceBatch, loss: VoiceLossConfig, style: torch.Tensor) -> Terms:
    content = model.units(batch.units)
    made = model.decoder(content, batch.prosody, style)
    prosody, lengths = prosody_losses(model, batch, model.units.predict(content))
    return {"units": loss.units * functional.l1_loss(made, batch.mel), "unit_prosody": prosody, "unit_lengths": lengths}


def prosody_losses(model: VoiceModel, batch: VoiceBatch, said: Prediction) -> tuple[torch.Tensor, torch.Tensor]:
    """Distances of what the front of units predicts: pitch, voicing and loudness; and lengths of runs."""
    is_voiced = batch.prosody[:, 1]
    prosody = _masked(said.pitch - batch.prosody[:, 0], is_voiced)
    prosody = prosody + functional.binary_cross_entropy_with_logits(said.voicing, is_voiced)
    prosody = prosody + functional.l1_loss(said.energy, batch.prosody[:, 2])
    wanted = batch.run_lengths.clamp(min=1).log()
    lengths = _masked(model.units.log_lengths(batch.runs) - wanted, (batch.run_lengths > 0).float())
    return prosody, lengths


def _reader_loss(read: Reading, batch: VoiceBatch) -> torch.Tensor:
    is_voiced = batch.prosody[:, 1]
    found = functional.cross_entropy(read.phones, batch.phones) + _masked(read.pitch - batch.pitch, is_voiced)
    return found + functional.binary_cross_entropy_with_logits(read.voicing, is_voiced)


def _adversarial(
    model: VoiceModel, loss: VoiceLossConfig, made: torch.Tensor, recordings: torch.Tensor, speakers: torch.Tensor
) -> Terms:
    """Least squares (Mao et al., 2017), whose gradients stay bounded where the discriminator is sure."""
    if not loss.adversarial:
        return {}
    assert model.discriminator is not None
    score, features = as_judge(model.discriminator, made, speakers)
    real_score, real_features = model.discriminator(recordings, speakers)
    made_score, _ = model.discriminator(made.detach(), speakers)
    terms = {
        "adversarial": loss.adversarial * (score - 1).square().mean(),
        "discriminator": (real_score - 1).square().mean() + made_score.square().mean(),
    }
    if loss.features and made.shape == recordings.shape:
        apart = [functional.l1_loss(own, real.detach()) for own, real in zip(features, real_features, strict=True)]
        terms["features"] = loss.features * torch.stack(apart).mean()
    return terms


def as_judge(module: nn.Module, *inputs: torch.Tensor) -> Any:
    """The output of a module whose weights get no gradient from it; its inputs do."""
    weights = {name: parameter.detach() for name, parameter in module.named_parameters()}
    return functional_call(module, weights, inputs)


def _masked(difference: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """Mean magnitude where the weight is 1; 0 where it is nowhere."""
    return (difference.abs() * weight).sum() / weight.sum().clamp(min=1)
