"""Reproductions: a plan is trained, measured and written as one page and one JSON, by one command each.

::

    plan (YAML) ──grids──▶ prepare, lst scale run ──▶ points ──┬─law──▶ floor against the known entropy, repetition
                                                               └─lst──▶ claims: hold, do not hold, not decided
    plan (YAML) ──h3──▶ lst synthetic ──▶ accuracies beside the published ones
"""
