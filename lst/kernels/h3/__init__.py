"""H3's mixing of queries, keys and values: query ⊙ diagonal SSM(short convolution(key) ⊗ value).

Dao, Fu et al. 2023 ("Hungry Hungry Hippos", https://arxiv.org/abs/2212.14052), section 3. The shift SSM of the keys is
a convolution with 64 taps; in heads of width d each of the d² products of a key and a value passes through the head's
diagonal SSM::

    key ──► taps ──(×)──► diagonal SSM ──(×)──► Σ over keys ──► out
                    ▲                     ▲
                  value                 query

On the CPU one compiled pass over memory does it all (``native``); elsewhere it is put together from the operators
``fir`` and ``ssm``, on whatever path they take. ``h3_path`` says which.
"""

from lst.kernels.h3.op import H3State, h3_mix, h3_path, h3_step

__all__ = ["H3State", "h3_mix", "h3_path", "h3_step"]
