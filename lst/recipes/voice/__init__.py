"""Voices: trained on prepared data, then used to convert speech and to speak units.

::

    DATA/voice_features/    phones and pitch of every utterance, made once: see ``features``
    RUN/voice/NAME/stage-1, stage-2    trainings: see ``lst.recipes.training.folder``
    RUN/voice/NAME/style_voice.safetensors    the finished voice: see ``lst.voice.saved``; written last
"""
