"""Files of other aligners, read and written: TextGrid, CTM, and the JSON of MFA and of whisper-timestamped."""
