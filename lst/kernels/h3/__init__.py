"""H3's mixing of queries, keys and values: query ⊙ diagonal SSM(short convolution(key) ⊗ value).

Dao, Fu et al. 2023 ("Hungry Hungry Hippos", https://arxiv.org/abs/2212.14052), section 3. The shift SSM of the keys is
a convolution with 64 taps. In a head of width d, each of the d² products of a key and a value passes through the
diagonal SSM of the head::

    key ──► taps ──(×)──► diagonal SSM ──(×)──► Σ over keys ──► out
                    ▲                     ▲
                  value                 query

On the CPU, one compiled pass over memory computes everything (``native``). Elsewhere the operators ``fir`` and ``ssm``
compute it on their own paths (``composed``). ``h3_path`` tells which.
"""

from lst.kernels.h3.op import H3State, h3_mix, h3_path, h3_step

__all__ = ["H3State", "h3_mix", "h3_path", "h3_step"]
