"""Recordings that no utterance list describes: long ones with one transcript, and those without any.

::

    long recording, transcript ──cut_recordings──▶ utterances: segments of it with their part of the transcript
        activity    pauses in speech, by a voice-activity detector
        hearing     what a recogniser hears, which knows the words of the transcript alone
        anchors     which words of the transcript were heard, and where
        pieces      where the recording is cut, and what is left out
    recording without a transcript ──transcribe──▶ a transcript and its confidence, by a recogniser of the user
"""
