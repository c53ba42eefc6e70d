"""Layouts of corpora on disk: each module recognises one layout and reads its utterances.

::

    Listing (a folder or one file) ── matches? ──► load ──► Found (rows, problems)

``LAYOUTS`` holds them in the order in which they are tried: the most specific first.
"""

from __future__ import annotations

from lst.data.corpora.layouts import (
    audio_alone,
    audiofolder,
    common_voice,
    gigaspeech,
    kaldi,
    lhotse_cuts,
    librispeech,
    ljspeech,
    mls,
    nemo_manifest,
    parquet_tables,
    peoples_speech,
    plain_manifest,
    tar_samples,
    text_beside,
    vctk,
)
from lst.data.corpora.layouts.listing import Layout

LAYOUTS: dict[str, Layout] = {
    layout.name: layout
    for layout in (
        lhotse_cuts.LAYOUT,
        common_voice.LAYOUT,
        mls.LAYOUT,
        vctk.LAYOUT,
        librispeech.LAYOUT,
        kaldi.LAYOUT,
        ljspeech.LAYOUT,
        gigaspeech.LAYOUT,
        peoples_speech.LAYOUT,
        nemo_manifest.LAYOUT,
        audiofolder.LAYOUT,
        parquet_tables.LAYOUT,
        tar_samples.LAYOUT,
        text_beside.LAYOUT,
        plain_manifest.LAYOUT,
        audio_alone.LAYOUT,
    )
}
