"""One HTML page of a run.

::

    record ──► results, audio, corpus ──► page ──► RUN/report.html
    (reads     (values and plots of a     (templates/NAME.html
     a run)     section each)              lays out section NAME)

``write`` puts the sections together. The corpus card and the synthetic tasks share ``page`` and ``templates``.
"""
