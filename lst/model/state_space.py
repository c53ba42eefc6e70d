"""Mixers with a state instead of keys and values: H3 (Dao, Fu et al. 2023, section 3) and S4D (Gu et al. 2022).

Each has a parallel form over whole documents and an equal step form. The parameters of the SSMs stay in float32 (or
wider) and are discretised in double precision, whatever the type of the linear layers.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, ClassVar

import torch
from torch import nn
from torch.nn import functional

from lst.kernels.h3 import H3State, h3_mix, h3_step
from lst.kernels.ssm import diagonal_ssm, ssm_step
from lst.model.config import ModelConfig
from lst.model.pointwise import Linear

# Mixes projected inputs over documents: from a mixer and its inputs to its outputs.
Recurrence = Callable[..., torch.Tensor]

DT_RANGE = (1e-3, 0.1)
# Operations of one mode: a complex product and sum for the state, and the real part of another for the output.
MODE_FLOPS = 8 + 4


def wide_type(dtype: torch.dtype) -> torch.dtype:
    """The type of states: float32 or wider."""
    return torch.promote_types(dtype, torch.float32)


class WideParameters(nn.Module):
    """A module whose parameters stay in float32 or wider, under ``model.bfloat16()`` too.

    A step dt rounded to bfloat16 would give another kernel, and small updates of it would be lost. Its submodules stay
    wide too.

    Attributes:
        reader: name of the method that reads the parameters. Where they are cut over devices, it is called with all of
            them.
    """

    reader: ClassVar[str] = "forward"

    def new_parameter(self, *shape: int) -> nn.Parameter:
        """An empty parameter, float32 or wider."""
        # The default type may be half precision while a model is built.
        return nn.Parameter(torch.empty(shape, dtype=wide_type(torch.get_default_dtype())))

    def _apply(self, fn: Callable[[torch.Tensor], torch.Tensor], recurse: bool = True) -> Any:
        def without_narrowing(tensor: torch.Tensor) -> torch.Tensor:
            converted = fn(tensor)
            if not converted.is_floating_point() or converted.dtype == wide_type(converted.dtype):
                return converted
            # From the tensor itself: the converted one is rounded already.
            return tensor.to(converted.device, wide_type(converted.dtype))

        return super()._apply(without_narrowing, recurse)


class DiagonalSSM(WideParameters):
    """Parameters of S4D-Lin: A = −exp(log_decay) + i·frequency, B, C, a step dt and a skip D, one set for each head.

    Args:
        num_heads: H, sets of parameters.
        num_modes: Z, half the state size. The other half is its complex conjugate.
        discretisation: ``bilinear`` or ``zoh`` (zero-order hold).
    """

    reader = "discretised"

    def __init__(self, num_heads: int, num_modes: int, discretisation: str) -> None:
        super().__init__()
        self.discretisation = discretisation
        self.log_dt = self.new_parameter(num_heads)
        self.log_decay = self.new_parameter(num_heads, num_modes)
        self.frequency = self.new_parameter(num_heads, num_modes)
        self.B = self.new_parameter(num_heads, num_modes, 2)
        self.C = self.new_parameter(num_heads, num_modes, 2)
        self.skip = self.new_parameter(num_heads)

    @torch.no_grad()
    def draw_parameters(self, generator: torch.Generator) -> None:
        """Draws the published initial values: A = −½ + iπn, B = 1, C complex normal, dt log-uniform in ``DT_RANGE``, D
        normal.
        """
        low, high = map(math.log, DT_RANGE)
        self.log_dt.uniform_(low, high, generator=generator)
        self.log_decay.fill_(math.log(0.5))
        self.frequency.copy_(math.pi * torch.arange(self.frequency.shape[1]))
        self.B.copy_(torch.tensor([1.0, 0.0]))
        self.C.normal_(std=math.sqrt(0.5), generator=generator)
        self.skip.normal_(generator=generator)

    def discretised(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Ā and C·B̄, complex128 [H, Z].

        Bilinear: Ā = (1 + dt·A/2) / (1 − dt·A/2) and B̄ = dt·B / (1 − dt·A/2). Zero-order hold: Ā = exp(dt·A) and
        B̄ = B·(Ā − 1) / A.
        """
        real, imaginary = -self.log_decay.double().exp(), self.frequency.double()
        a, dt = torch.complex(real, imaginary), self.log_dt.double().exp()[:, None]
        # Outputs depend on B and C through their product only.
        readout = torch.view_as_complex(self.B.double()) * torch.view_as_complex(self.C.double())
        if self.discretisation == "zoh":
            decay = (dt * a).exp()
            return decay, readout * (decay - 1) / a
        inverse = 1 / (1 - dt * a / 2)
        return (1 + dt * a / 2) * inverse, readout * dt * inverse


class ShiftSSM(WideParameters):
    """The SSM whose state is the last inputs: a short convolution with taps Σ_i C_{i+l}·B_i, and a skip.

    Args:
        dim: channels.
        num_taps: K, the state size.
    """

    reader = "taps"

    def __init__(self, dim: int, num_taps: int) -> None:
        super().__init__()
        self.B = self.new_parameter(dim, num_taps)
        self.C = self.new_parameter(dim, num_taps)
        self.skip = self.new_parameter(dim)

    @torch.no_grad()
    def draw_parameters(self, generator: torch.Generator) -> None:
        """Draws the published initial values: B = e₁, C Kaiming-uniform, D normal."""
        self.B.zero_()[:, 0] = 1.0
        bound = math.sqrt(6 / self.C.shape[1])
        self.C.uniform_(-bound, bound, generator=generator)
        self.skip.normal_(generator=generator)

    def taps(self) -> torch.Tensor:
        """The taps, float32 or wider [D, K], the newest input's tap first; the skip is part of it."""
        num_taps = self.C.shape[1]
        # A correlation by FFT. At twice the length nothing wraps around.
        B, C = (torch.fft.rfft(x.double(), 2 * num_taps) for x in (self.B, self.C))
        taps_DK = torch.fft.irfft(C * B.conj(), 2 * num_taps)[:, :num_taps]
        taps_DK = torch.cat([taps_DK[:, :1] + self.skip[:, None], taps_DK[:, 1:]], dim=1)
        return taps_DK.to(wide_type(self.C.dtype))


class H3(nn.Module):
    """out = W_o [query ⊙ diagonal SSM(shift SSM(key) ⊙ value)] in each head.

    Args:
        config: the shape of the model: ``global_dim``, ``h3_head_dim``, ``ssm_modes``, ``shift_taps``,
        ``ssm_discretisation``.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        dim = config.global_dim
        self.query_key_value = Linear(dim, 3 * dim, bias=True)
        self.shift = ShiftSSM(dim, config.shift_taps)
        self.ssm = DiagonalSSM(dim // config.h3_head_dim, config.ssm_modes, config.ssm_discretisation)
        self.output = Linear(dim, dim, bias=True)

    @staticmethod
    def flops_a_position(config: ModelConfig) -> float:
        """Forward operations of one position: projections, short convolution, and the SSM of each head's products."""
        dim = config.global_dim
        sequences = dim * config.h3_head_dim
        return 8 * dim * dim + 2 * dim * config.shift_taps + sequences * (MODE_FLOPS * config.ssm_modes + 4)

    def forward(self, x: torch.Tensor, recurrence: Recurrence) -> torch.Tensor:
        """[n, D] → [n, D]; ``recurrence`` mixes whole documents, or one more token of each."""
        projected = self.query_key_value(x)
        mixed = recurrence(self, *projected.to(wide_type(projected.dtype)).chunk(3, dim=-1))
        return self.output(mixed.to(projected.dtype))

    def constants(self) -> tuple[torch.Tensor, ...]:
        """Taps, decay and readout, which are the same for every token."""
        return self.shift.taps(), *self.ssm.discretised()

    def mix(
        self, *inputs: torch.Tensor, starts: torch.Tensor, state_lengths: torch.Tensor | None = None
    ) -> tuple[torch.Tensor, Any]:
        """Query, key and value [N, D] → [N, D], and the state after ``state_lengths`` tokens of each document."""
        query, key, value = inputs
        taps, decay, readout = self.constants()
        return h3_mix(
            query, key, value, taps, decay, readout, self.ssm.skip, starts=starts, state_lengths=state_lengths
        )

    def step(
        self, *inputs: torch.Tensor, constants: tuple[torch.Tensor, ...], state: tuple[torch.Tensor, ...]
    ) -> tuple[torch.Tensor, tuple[torch.Tensor, ...]]:
        """Mixes one more token of each document, inputs [S, D]: outputs [S, D] and the state after it."""
        query, key, value = inputs
        taps, decay, readout = constants
        return h3_step(query, key, value, taps, decay, readout, self.ssm.skip, H3State(*state))


class S4D(nn.Module):
    """out = GLU(W · gelu(diagonal SSM(x))), the published baseline without products of tokens.

    Args:
        config: the shape of the model: ``global_dim``, ``ssm_modes``, ``ssm_discretisation``.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.ssm = DiagonalSSM(config.global_dim, config.ssm_modes, config.ssm_discretisation)
        self.output = Linear(config.global_dim, 2 * config.global_dim, bias=True)

    @staticmethod
    def flops_a_position(config: ModelConfig) -> float:
        """Forward operations of one position: the SSM of each channel, and the gated linear unit."""
        dim = config.global_dim
        return 4 * dim * dim + dim * MODE_FLOPS * config.ssm_modes

    def forward(self, x: torch.Tensor, recurrence: Recurrence) -> torch.Tensor:
        """[n, D] → [n, D]; ``recurrence`` mixes whole documents, or one more token of each."""
        mixed = recurrence(self, x.to(wide_type(x.dtype)))
        return functional.glu(self.output(functional.gelu(mixed).to(x.dtype)), dim=-1)

    def constants(self) -> tuple[torch.Tensor, ...]:
        """Decay and readout, which are the same for every token."""
        return self.ssm.discretised()

    def mix(
        self, x_ND: torch.Tensor, *, starts: torch.Tensor, state_lengths: torch.Tensor | None = None
    ) -> tuple[torch.Tensor, Any]:
        """[N, D] → [N, D], and the state after ``state_lengths`` tokens of each document."""
        decay, readout = self.constants()
        out = diagonal_ssm(x_ND, decay, readout, self.ssm.skip, starts=starts, state_lengths=state_lengths)
        return (out[0], (out[1],)) if isinstance(out, tuple) else (out, None)

    def step(
        self, x_SD: torch.Tensor, *, constants: tuple[torch.Tensor, ...], state: tuple[torch.Tensor, ...]
    ) -> tuple[torch.Tensor, tuple[torch.Tensor, ...]]:
        """Mixes one more token of each document, inputs [S, D]: outputs [S, D] and the state after it."""
        decay, readout = constants
        out_SD, modes = ssm_step(x_SD, decay, readout, self.ssm.skip, state[0])
        return out_SD, (modes,)
