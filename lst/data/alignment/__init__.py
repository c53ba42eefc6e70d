"""Where each word lies in the audio.

::

    waveform, transcript ──Aligner──▶ words in seconds ──place_words──▶ words in frames of units

``build`` makes the aligner that ``data.align.method`` names: ``hmm`` (pocketsphinx), ``ctc``, ``imported`` files and
times of the corpus, ``stamps`` of the voice. ``aligner`` is their interface, ``words`` matches what they found with the
transcript, ``formats`` reads and writes other tools' files.
"""

from lst.data.alignment.aligner import AlignItem, AlignmentError
from lst.data.alignment.build import FilteredAligner, align_files, aligner_name, process_aligner
from lst.data.alignment.imported import check_imported, imported_faults

__all__ = [
    "AlignItem",
    "AlignmentError",
    "FilteredAligner",
    "align_files",
    "aligner_name",
    "check_imported",
    "imported_faults",
    "process_aligner",
]
