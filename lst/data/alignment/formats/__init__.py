"""Readers and writers of other aligners' files: TextGrid, CTM, the JSON of MFA and of whisper's tools."""
