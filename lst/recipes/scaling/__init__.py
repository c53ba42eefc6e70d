"""Scaling laws: from a table of trained models to the law of their losses, the best sizes, and a page of plots.

::

    points.csv ──points──▶ Points ──law──▶ LawFit ──frontier──▶ best N and D of each budget ─┐
                                    │         └──intervals──▶ 95 % intervals                 ├─report──▶ page, JSON, SVG
                                    ├──isoflop──▶ parabolas                                  │
                                    ├──gain──▶ compute that an arm saves                     │
                                    └──accuracy──▶ accuracy as a function of bits ───────────┘

``surface`` holds the law itself and the solver, which fits many data sets at a time.
"""
