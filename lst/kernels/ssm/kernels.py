"""Convolution kernels and chunk matrices of a diagonal SSM, from powers of its decay.

Powers are products of lower powers: complex exponentials for every (mode, position) would cost many times the
convolution. Everything is computed in double precision, because the rounding error grows with the power.
"""

from __future__ import annotations

from typing import NamedTuple

import torch


class ChunkMatrices(NamedTuple):
    """The linear maps of one chunk of T tokens, for each of H sets of modes.

    A state is W = 2Z real numbers: the real parts, then the imaginary parts.
    """

    into_state: torch.Tensor  # [H, T, 2Z]: row j is Ā^(T−1−j)
    out_of_state: torch.Tensor  # [H, 2Z, T]: column i is x → 2·Re(readout·Ā^(i+1)·x)
    within: torch.Tensor  # [H, T, T]: y = u @ within for the chunk's own inputs; the skip is on the diagonal
    chunk_decay: torch.Tensor  # [H, 2Z]: Ā^T


def powers(decay_HZ: torch.Tensor, num_powers: int) -> torch.Tensor:
    """Ā⁰ … Ā^(num_powers − 1), [H, num_powers, Z]: Ā^(i·n + j) = Ā^(i·n)·Ā^j with n ≈ √num_powers."""
    step = 1 << ((num_powers - 1).bit_length() + 1) // 2
    fine_HJZ = _doubled(decay_HZ, step)
    coarse_HIZ = _doubled(fine_HJZ[:, -1] * decay_HZ, -(-num_powers // step))
    return (coarse_HIZ[:, :, None] * fine_HJZ[:, None]).flatten(1, 2)[:, :num_powers]


def ssm_kernel(decay_HZ: torch.Tensor, readout_HZ: torch.Tensor, length: int) -> torch.Tensor:
    """2·Re Σ_z readout·Ā^l for l = 0 … length − 1: the response to a unit input, without the skip.

    Args:
        decay_HZ, readout_HZ: complex64 or complex128 [H, Z].
        length: number of taps, at least 1.

    Returns:
        [H, length], float32 for complex64 and float64 for complex128. With Ā^(i·n + j) = Ā^(i·n)·Ā^j and n ≈ √length it
        is one matrix product, without a tensor [H, Z, length].
    """
    if length < 1:
        raise ValueError(f"ssm_kernel: length {length}, at least 1 is needed")
    decay, readout = decay_HZ.to(torch.complex128), readout_HZ.to(torch.complex128)
    step = 1 << ((length - 1).bit_length() + 1) // 2
    fine_HJZ = _doubled(decay, step)
    coarse_HIZ = readout[:, None] * _doubled(fine_HJZ[:, -1] * decay, -(-length // step))
    kernel_HL = 2 * (planes(coarse_HIZ.conj()) @ planes(fine_HJZ).transpose(1, 2)).flatten(1)[:, :length]
    return kernel_HL.to(decay_HZ.real.dtype)


def chunk_matrices(
    decay_HZ: torch.Tensor,
    readout_HZ: torch.Tensor,
    skip_H: torch.Tensor | None,
    chunk_tokens: int,
    dtype: torch.dtype = torch.float32,
) -> ChunkMatrices:
    """The matrices of a chunk of T tokens, computed in double precision and rounded to ``dtype`` at the end.

    Args:
        decay_HZ, readout_HZ: complex64 or complex128 [H, Z].
        skip_H: real [H] or None.
        chunk_tokens: T, at least 1.
        dtype: float32 or float64.

    Returns:
        M_ux, M_xy, the kernel and Ā^T of the paper's state passing (section 4.2): y_c = M_xy x_{c−1} + f ∗ u_c + D u_c,
        x_c = Ā^T x_{c−1} + M_ux u_c.
    """
    decay, readout = decay_HZ.to(torch.complex128), readout_HZ.to(torch.complex128)
    return ChunkMatrices(*_ChunkMatrices.apply(decay, readout, skip_H, chunk_tokens, dtype))


class _ChunkMatrices(torch.autograd.Function):
    """``chunk_matrices`` with gradients in closed form: d Ā^p = p·Ā^(p−1) dĀ.

    Autograd through every product of powers took hundreds of small launches on a GPU.
    """

    @staticmethod
    def forward(ctx, decay_HZ, readout_HZ, skip_H, chunk_tokens, dtype):  # type: ignore[no-untyped-def]
        powers_HPZ = powers(decay_HZ, chunk_tokens + 1)
        ctx.save_for_backward(powers_HPZ, decay_HZ, readout_HZ)
        ctx.skip_dtype = None if skip_H is None else skip_H.dtype
        response_HPZ = 2 * readout_HZ[:, None] * powers_HPZ
        kernel_HT = response_HPZ[:, :-1].real.sum(-1)
        if skip_H is not None:
            kernel_HT[:, 0] += skip_H
        padded = torch.nn.functional.pad(kernel_HT.to(dtype), (chunk_tokens - 1, 0))
        complex_dtype = torch.complex128 if dtype == torch.float64 else torch.complex64
        rounded_HPW = planes(powers_HPZ.to(complex_dtype))
        out_of_state = planes(response_HPZ[:, 1:].to(complex_dtype).conj())
        return (
            rounded_HPW[:, :-1].flip(1),
            out_of_state.transpose(1, 2).contiguous(),
            padded.unfold(1, chunk_tokens, 1).flip(1),
            rounded_HPW[:, -1].clone(),
        )

    @staticmethod
    def backward(ctx, grad_into_HTW, grad_out_of_HWT, grad_within_HTT, grad_decay_HW):  # type: ignore[no-untyped-def]
        powers_HPZ, decay_HZ, readout_HZ = ctx.saved_tensors
        num_sets, chunk_tokens, _ = grad_within_HTT.shape
        if torch.is_grad_enabled():
            # For a gradient of this gradient: the saved powers are constants to autograd.
            powers_HPZ = powers(decay_HZ, chunk_tokens + 1)
        # The gradient of tap p is the sum of the p-th diagonal above the main one: a column once each row shifts by
        # one.
        padded = torch.nn.functional.pad(grad_within_HTT.to(torch.float64), (0, chunk_tokens))
        strides = (padded.stride(0), padded.stride(1) + 1, 1)
        grad_kernel_HT = padded.as_strided((num_sets, chunk_tokens, chunk_tokens), strides).sum(1)
        grad_response_HTZ = from_planes(grad_out_of_HWT.transpose(1, 2).to(torch.float64)).conj()
        grad_response_HPZ = torch.nn.functional.pad(grad_response_HTZ.resolve_conj(), (0, 0, 1, 0))
        grad_response_HPZ[:, :-1] += grad_kernel_HT[:, :, None]
        grad_powers_HPW = torch.cat([grad_into_HTW.flip(1), grad_decay_HW[:, None]], dim=1)
        grad_powers_HPZ = from_planes(grad_powers_HPW.to(torch.float64))
        grad_powers_HPZ += 2 * readout_HZ.conj()[:, None] * grad_response_HPZ
        orders_P = torch.arange(1, chunk_tokens + 1, dtype=torch.float64, device=powers_HPZ.device)
        slopes_HPZ = orders_P[:, None] * powers_HPZ[:, :-1].conj()
        return (
            (slopes_HPZ * grad_powers_HPZ[:, 1:]).sum(1),
            2 * (powers_HPZ.conj() * grad_response_HPZ).sum(1),
            None if ctx.skip_dtype is None else grad_kernel_HT[:, 0].to(ctx.skip_dtype),
            None,
            None,
        )


def _doubled(decay_HZ: torch.Tensor, num_powers: int) -> torch.Tensor:
    """Powers [H, num_powers, Z] by repeated doubling: each is a product of log2(num_powers) terms."""
    table_HPZ, leap_HZ = torch.ones_like(decay_HZ)[:, None], decay_HZ[:, None]
    while table_HPZ.shape[1] < num_powers:
        table_HPZ = torch.cat([table_HPZ, table_HPZ * leap_HZ], dim=1)
        leap_HZ = leap_HZ * leap_HZ
    return table_HPZ[:, :num_powers]


def planes(x: torch.Tensor) -> torch.Tensor:
    """Complex […, Z] → real […, 2Z]: the real parts, then the imaginary parts."""
    return torch.cat([x.real, x.imag], dim=-1)


def from_planes(x: torch.Tensor) -> torch.Tensor:
    """Real […, 2Z] → complex […, Z]: inverse of ``planes``."""
    real, imaginary = x.chunk(2, dim=-1)
    return torch.complex(real.contiguous(), imaginary.contiguous())
