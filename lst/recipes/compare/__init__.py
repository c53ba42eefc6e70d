"""One HTML page of any number of runs: which model is better than which, and how surely.

::

    RUN… ──read_entries──▶ Entry: a model, with what it answered ──group_tasks──▶ TaskGroup: the same items
    groups ──compare_all──▶ differences with intervals ──verdict_lines──▶ page.html, page.json
"""
