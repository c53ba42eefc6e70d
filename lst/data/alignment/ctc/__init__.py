"""Forced alignment by a CTC model of the wav2vec 2.0 family: labels, emissions, the model, the aligner."""
