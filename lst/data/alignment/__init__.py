"""Forced alignment: where each word lies in the audio.

::

    waveforms, transcripts ──Aligner.align_many──▶ words in frames, or why they cannot be aligned

``build`` builds the aligner that ``data.align.method`` names: ``hmm`` (pocketsphinx), ``ctc``, ``imported`` (word
times of other tools' files or of the corpus), ``stamps`` (word times of the speech engine). ``aligner`` is their common
interface, ``words`` matches timed words with the transcript and turns seconds into frames, ``formats`` reads and writes
other tools' files.
"""

from lst.data.alignment.aligner import AlignItem, AlignmentError, AlignResult
from lst.data.alignment.build import FilteredAligner, align_files, align_places, aligner_name, process_aligner
from lst.data.alignment.imported import check_imported, given_times, imported_faults

__all__ = [
    "AlignItem",
    "AlignResult",
    "AlignmentError",
    "FilteredAligner",
    "align_files",
    "align_places",
    "aligner_name",
    "check_imported",
    "given_times",
    "imported_faults",
    "process_aligner",
]
