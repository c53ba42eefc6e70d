"""Sound: speech in any voice from phones, mels or units, and sound from units.

::

    phones ──SymbolFront──┐
    mel    ──MelFront─────┼─ content ─▶ Decoder ─▶ mel ─▶ MelVocoder ─▶ waveform
    units  ──UnitFront────┘               ▲
    pitch, voicing, loudness ─────────────┤
    a reference's mel ──StyleEncoder──────┘  style

``config`` has the sizes, ``mel`` the spectra, ``fronts``, ``styles`` and ``decoder`` the parts, ``model`` all parts
together, ``losses`` what they learn by, ``converter`` the finished voice, and ``vocoders`` sound from units.
"""
