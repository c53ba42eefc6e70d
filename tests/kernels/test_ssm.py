"""The diagonal SSM: every path against the recurrence in float64, values and every gradient, at odd lengths."""

from __future__ import annotations

import functools
import math

import pytest
import torch

from lst.kernels.native import library
from lst.kernels.ssm import diagonal_ssm, forced_path, ssm_path
from lst.kernels.ssm.chunks import choose_chunk_tokens, chunk_table
from lst.kernels.ssm.kernels import chunk_matrices, from_planes, ssm_kernel
from lst.kernels.ssm.matrix import pass_in_place

# Paths that run at full size; without a GPU, Triton's kernels run under its interpreter (see conftest.py), at small
# sizes: that shows their arithmetic, not the compiled code.
FAST_PATHS = ["matrix", *(["native"] if library.is_available() else [])]
EVERY_PATH = [*FAST_PATHS, "triton"]
HAS_GPU = torch.cuda.is_available()
MODES = 32
NAMES = ("y", "states", "du", "ddecay", "dreadout", "dskip", "dinitial")
RAGGED = (64, 1, 65, 2, 3, 130, 1, 1)


def device_of(path: str) -> str:
    """Where a path runs: Triton's on a GPU where there is one, all others on the CPU."""
    if path == "triton":
        pytest.importorskip("triton", reason="Triton is not installed")
    return "cuda" if HAS_GPU and path == "triton" else "cpu"


def parameters(num_heads: int, num_modes: int, seed: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Decay, readout and skip as H3 draws them: bilinear, A = −½ + iπn, dt log-uniform in [1e-3, 0.1]."""
    generator = torch.Generator().manual_seed(seed)
    uniform = torch.rand(num_heads, 1, dtype=torch.float64, generator=generator)
    dt = torch.exp(math.log(1e-3) + uniform * math.log(100))
    continuous = torch.complex(torch.tensor(-0.5).double(), math.pi * torch.arange(num_modes).double())
    decay = (1 + dt * continuous / 2) / (1 - dt * continuous / 2)
    readout = torch.randn(num_heads, num_modes, dtype=torch.complex128, generator=generator)
    skip = torch.randn(num_heads, dtype=torch.float64, generator=generator)
    return decay, readout * dt / (1 - dt * continuous / 2), skip


class Case:
    """Inputs in float64, weights of a loss, and lengths to take the states at, on the device of a path."""

    def __init__(
        self, lengths: tuple[int, ...], num_heads: int, members: int, num_modes: int = MODES, path: str = "reference"
    ) -> None:
        num_documents, num_channels = len(lengths), num_heads * members
        self.lengths, self.device = lengths, device_of(path)
        self.starts = self.offsets(*lengths)
        generator = torch.Generator().manual_seed(sum(lengths) + num_channels)
        draw = functools.partial(torch.randn, generator=generator)
        state_shape = (num_documents, num_channels, num_modes)
        u = draw(sum(lengths), num_channels, dtype=torch.float64)
        initial = draw(state_shape, dtype=torch.complex128)
        leaves = [u, *parameters(num_heads, num_modes, seed=num_channels), initial]
        self.leaves = [x.to(self.device) for x in leaves]
        self.y_weights = draw(u.shape, dtype=torch.float64).to(self.device)
        self.state_weights = draw(state_shape, dtype=torch.complex128).to(self.device)
        fractions = torch.rand(num_documents, generator=generator)
        self.state_lengths = (fractions * (torch.tensor(lengths) + 1)).long().to(self.device)

    def offsets(self, *lengths: int) -> torch.Tensor:
        """Where documents of these lengths start, and the last ends."""
        return torch.tensor([0, *lengths], device=self.device).cumsum(0)

    def run(self, path: str, dtype: torch.dtype, with_states: bool) -> list[torch.Tensor]:
        """Outputs (and states) and the gradients of all leaves, zeros for those that play no part."""
        leaves = [x.clone().requires_grad_() for x in self.leaves]
        u, decay, readout, skip, initial = leaves
        states: dict = {}
        if with_states:
            states = {"initial_state": initial, "state_lengths": self.state_lengths}
        with forced_path(path):
            found = diagonal_ssm(u.to(dtype), decay, readout, skip, starts=self.starts, **states)
            outputs = found if with_states else (found, torch.zeros_like(initial))
            loss = (outputs[0] * self.y_weights.to(outputs[0])).sum()
            loss = loss + (outputs[1] * self.state_weights.to(outputs[1])).sum().real
            grads = torch.autograd.grad(loss, leaves, materialize_grads=True)
        return [x.detach().cpu() for x in (*outputs, *grads)]


@functools.lru_cache
def reference(
    lengths: tuple[int, ...], num_heads: int, members: int, num_modes: int, with_states: bool
) -> list[torch.Tensor]:
    """What the recurrence makes of a case in float64: slow, so made once for all paths."""
    return Case(lengths, num_heads, members, num_modes).run("reference", torch.float64, with_states)


def assert_close(fast: list[torch.Tensor], slow: list[torch.Tensor], tolerance: float) -> None:
    for name, a, b in zip(NAMES, fast, slow, strict=True):
        error = (a.to(b.dtype) - b).norm() / b.norm() if b.norm() else a.norm()
        assert error <= tolerance, f"{name}: relative error {error:.2e}"


def check(
    path: str, lengths: tuple[int, ...], heads: tuple[int, int], with_states: bool = True, num_modes: int = MODES
) -> None:
    slow = reference(lengths, *heads, num_modes, with_states)
    assert_close(Case(lengths, *heads, num_modes, path).run(path, torch.float32, with_states), slow, 1e-5)


@pytest.mark.parametrize("num_documents", [1, 3])
@pytest.mark.parametrize("length", [1, 2, 63, 64, 65, 1000, 1024, 4097])
@pytest.mark.parametrize("path", FAST_PATHS)
def test_equals_the_recurrence(path: str, length: int, num_documents: int) -> None:
    check(path, (length,) * num_documents, (2, 1))


@pytest.mark.parametrize("with_states", [False, True])
@pytest.mark.parametrize("heads", [(3, 1), (2, 8), (1, 64)], ids=["own modes", "8 share", "64 share"])
@pytest.mark.parametrize("path", FAST_PATHS)
def test_ragged_documents_and_shared_modes(path: str, heads: tuple[int, int], with_states: bool) -> None:
    check(path, RAGGED, heads, with_states)


@pytest.mark.parametrize("num_modes", [1, 5, 70])
@pytest.mark.parametrize("path", FAST_PATHS)
def test_any_number_of_modes(path: str, num_modes: int) -> None:
    check(path, (100, 7), (2, 2), num_modes=num_modes)


@pytest.mark.parametrize("path", FAST_PATHS)
def test_documents_of_one_token(path: str) -> None:
    check(path, (1,) * 40, (2, 1))


@pytest.mark.parametrize("path", FAST_PATHS)
def test_float64_is_computed_in_float64(path: str) -> None:
    slow = reference(RAGGED, 2, 8, MODES, True)
    assert_close(Case(RAGGED, 2, 8).run(path, torch.float64, True), slow, 1e-12)


@pytest.mark.parametrize(
    ("lengths", "heads", "num_modes", "with_states"),
    [
        ((1,), (2, 1), 32, True),
        ((63,), (2, 1), 32, True),
        ((65, 65, 65), (2, 1), 32, True),
        (RAGGED, (3, 1), 32, False),
        ((65, 1, 2), (2, 8), 5, True),
        ((40, 7), (1, 64), 3, True),
        ((100, 7), (2, 1), 70, True),
        ((1000,), (1, 1), 32, True),
        ((1,) * 9, (2, 1), 1, True),
    ],
)
def test_triton_equals_the_recurrence(
    lengths: tuple[int, ...], heads: tuple[int, int], num_modes: int, with_states: bool
) -> None:
    """On a GPU where there is one, else interpreted: that shows the arithmetic, not the compiled code."""
    check("triton", lengths, heads, with_states, num_modes)


@pytest.mark.parametrize(
    ("lengths", "heads"),
    [
        ((1,), (2, 1)),
        ((2,), (2, 1)),
        ((64, 64, 64), (2, 1)),
        ((4097,), (2, 1)),
        (RAGGED, (2, 8)),
        (RAGGED, (1, 64)),
    ],
)
def test_convolution_equals_the_recurrence(lengths: tuple[int, ...], heads: tuple[int, int]) -> None:
    check("convolution", lengths, heads, with_states=False)


@pytest.mark.parametrize("path", EVERY_PATH)
def test_going_on_from_a_handed_on_state_equals_one_pass(path: str) -> None:
    case = Case((100, 30, 7), 2, 2, path=path)
    u, decay, readout, skip, initial = case.leaves
    u, cut = u.float(), torch.tensor([65, 16, 1], device=case.device)
    ends = torch.tensor(case.lengths, device=case.device)
    documents = u.split(case.lengths)
    halves = [torch.cat([x[:c] for x, c in zip(documents, cut, strict=True)])]
    halves.append(torch.cat([x[c:] for x, c in zip(documents, cut, strict=True)]))
    with forced_path(path):
        run = functools.partial(diagonal_ssm, decay_HZ=decay, readout_HZ=readout, skip_H=skip)
        whole, last = run(u, starts=case.starts, initial_state=initial, state_lengths=ends)
        starts = [torch.nn.functional.pad(x.cumsum(0), (1, 0)) for x in (cut, ends - cut)]
        first, state = run(halves[0], starts=starts[0], initial_state=initial, state_lengths=cut)
        second, last_again = run(halves[1], starts=starts[1], initial_state=state, state_lengths=ends - cut)
        within = run(u, starts=case.starts, initial_state=initial, state_lengths=cut)[1]
    parts = zip(first.split(cut.tolist()), second.split((ends - cut).tolist()), strict=True)
    joined = torch.cat([x for pair in parts for x in pair])
    for again, once in ((joined, whole), (last_again, last), (within, state)):
        assert (again - once).norm() <= 1e-5 * once.norm()
    assert last.dtype == torch.complex64


@pytest.mark.filterwarnings("ignore:invalid value:RuntimeWarning")
@pytest.mark.parametrize("path", [*EVERY_PATH, "convolution"])
def test_packed_equals_alone(path: str) -> None:
    """Each document of a packed row as it is by itself, also beside one that holds infinities."""
    case = Case((70, 1, 33), 2, 1, path=path)
    u, *rest = (x.to(torch.float32) if x.is_floating_point() else x for x in case.leaves[:4])
    with forced_path(path):
        packed = diagonal_ssm(u, *rest, starts=case.starts)
        spoilt = u.clone()
        spoilt[70] = float("inf")
        beside = diagonal_ssm(spoilt, *rest, starts=case.starts)
        for start, end in ((0, 70), (71, 104)):
            alone = diagonal_ssm(u[start:end], *rest, starts=case.offsets(end - start))
            for found in (packed[start:end], beside[start:end]):
                assert (found - alone).norm() <= 1e-6 * alone.norm()


@pytest.mark.usefixtures("poisoned_memory")
@pytest.mark.parametrize("path", EVERY_PATH)
def test_every_output_is_written(path: str) -> None:
    for tensor in Case((37, 1, 20), 2, 2, num_modes=3, path=path).run(path, torch.float32, True):
        assert torch.isfinite(tensor).all()


@pytest.mark.parametrize("path", [*EVERY_PATH, "convolution"])
def test_no_output_depends_on_what_comes_later(path: str) -> None:
    """Float32 sums of an FFT reach back by rounding: the tolerance is relative to what was changed."""
    case = Case((90,), 2, 1, path=path)
    u, *rest = case.leaves[:4]
    u = u.float()
    with forced_path(path):
        before = diagonal_ssm(u, *rest, starts=case.starts)
        for token, size in ((1, 1.0), (40, 1e6), (64, 1e12), (89, 1.0)):
            changed = u.clone()
            changed[token] += size
            moved = (diagonal_ssm(changed, *rest, starts=case.starts) - before).abs().amax(dim=1)
            assert moved[:token].max() <= 1e-5 * size
            assert moved[token] > 0.01 * size


@pytest.mark.parametrize("path", EVERY_PATH)
def test_huge_and_tiny_inputs_scale(path: str) -> None:
    case = Case((150,), 2, 1, path=path)
    u, *rest = case.leaves[:4]
    with forced_path(path):
        plain = diagonal_ssm(u.float(), *rest, starts=case.starts)
        for scale in (2.0**100, 2.0**-100):
            scaled = diagonal_ssm(u.float() * scale, *rest, starts=case.starts) / scale
            assert (scaled - plain).norm() <= 1e-6 * plain.norm()


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.bfloat16, 1e-2), (torch.float16, 1.5e-3)])
@pytest.mark.parametrize("path", [*EVERY_PATH, "convolution"])
def test_half_precision_only_at_the_edges(path: str, dtype: torch.dtype, tolerance: float) -> None:
    """Sums are float32: inputs near float16's largest overflow only where the output itself does."""
    case = Case((150,), 2, 1, path=path)
    u, *rest = case.leaves[:4]
    u = (u * 1000).to(dtype).requires_grad_()
    with forced_path(path):
        y = diagonal_ssm(u, *rest, starts=case.starts)
    y.float().square().mean().sqrt().backward()
    with forced_path("reference"):
        expected = diagonal_ssm(u.detach().double(), *rest, starts=case.starts)
    assert y.dtype == dtype
    assert u.grad is not None
    assert torch.isfinite(u.grad).all()
    assert (y.double() - expected).norm() <= tolerance * expected.norm()


@pytest.mark.parametrize("path", [*EVERY_PATH, "convolution"])
def test_autocast_changes_nothing(path: str) -> None:
    case = Case((70, 5), 2, 1, path=path)
    u, *rest = (x.to(torch.float32) if x.is_floating_point() else x for x in case.leaves[:4])
    with forced_path(path):
        plain = diagonal_ssm(u, *rest, starts=case.starts)
        with torch.autocast(case.device, dtype=torch.bfloat16):
            cast = diagonal_ssm(u, *rest, starts=case.starts)
    assert cast.dtype == torch.float32
    assert torch.equal(cast, plain)


@pytest.mark.parametrize("path", EVERY_PATH)
def test_gradients_repeat_bit_for_bit(path: str) -> None:
    case = Case((130, 20), 2, 2, num_modes=4, path=path)
    once, again = (case.run(path, torch.float32, True) for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip(once, again, strict=True))


@pytest.mark.parametrize("path", EVERY_PATH)
def test_compiles_as_one_graph(path: str) -> None:
    case = Case((65, 3), 2, 2, path=path)
    parts = [x.to(case.device) for x in parameters(2, MODES, seed=0)]

    def run(u: torch.Tensor, initial: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        states = {"initial_state": initial, "state_lengths": case.state_lengths}
        return diagonal_ssm(u * 2, *parts, starts=case.starts, **states)

    results = []
    with forced_path(path):
        for function in (run, torch.compile(run, fullgraph=True, backend="aot_eager")):
            leaves = [case.leaves[0].float().requires_grad_(), case.leaves[-1].clone().requires_grad_()]
            y, state = function(*leaves)
            grads = torch.autograd.grad(y.square().sum() + state.abs().square().sum(), leaves)
            results.append([y, state, *grads])
    for eager, traced in zip(*results, strict=True):
        assert (eager - traced).norm() <= 1e-6 * eager.norm()


@pytest.mark.parametrize("has_initial", [False, True])
def test_registration_is_sound(has_initial: bool) -> None:
    """PyTorch's own checks of the operator: fake shapes, autograd, tracing; Triton interpreted without a GPU."""
    case = Case((20, 3), 2, 2, num_modes=3, path="triton")
    matrices = [x.detach().contiguous() for x in chunk_matrices(*case.leaves[1:4], 16)]
    initial = torch.randn(2, 4, 6, device=case.device) if has_initial else None
    tensors = [x if x is None else x.requires_grad_() for x in (case.leaves[0].float(), *matrices, initial)]
    torch.library.opcheck(torch.ops.lst.diagonal_ssm, (*tensors, case.starts))


def test_registration_of_the_pass_of_states_is_sound() -> None:
    states, decay = torch.randn(4, 5, 6).requires_grad_(), torch.randn(2, 6).requires_grad_()
    continues = torch.tensor([False, True, True, False, True])
    torch.library.opcheck(torch.ops.lst.pass_chunk_states, (states, decay, continues, False))
    with pytest.raises(RuntimeError, match="gradients of gradients"):
        torch.ops.lst.pass_chunk_states(states, decay, continues, True).sum().backward()


@pytest.mark.parametrize("backwards", [False, True])
def test_states_pass_the_same_whether_or_not_the_host_reads_where_documents_begin(backwards: bool) -> None:
    states, decay = torch.randn(4, 7, 6), torch.randn(2, 6)
    continues = torch.tensor([False, True, True, False, True, False, True])
    states[:, 1] = float("inf")
    results = []
    for reads_flags in (False, True):
        passed = states.clone()
        pass_in_place(passed, decay, continues, backwards, reads_flags)
        results.append(passed)
    assert torch.equal(*(x[:, 3:] for x in results))
    assert torch.isfinite(results[0][:, 3:]).all()


@pytest.mark.parametrize("length", [1, 2, 3, 63, 64, 65, 1000, 4097])
def test_the_kernel_equals_the_vandermonde_product(length: int) -> None:
    decay, readout, _ = parameters(3, MODES, seed=1)
    exponents = torch.arange(length, dtype=torch.float64)
    naive = 2 * torch.einsum("hz,hzl->hl", readout, torch.exp(decay.log()[:, :, None] * exponents)).real
    kernel = ssm_kernel(decay, readout, length)
    assert kernel.shape == (3, length)
    assert (kernel - naive).norm() <= 1e-12 * naive.norm()
    assert ssm_kernel(decay.to(torch.complex64), readout.to(torch.complex64), length).dtype == torch.float32


def test_chunk_matrices_are_what_they_say() -> None:
    decay, readout, skip = parameters(2, 5, seed=3)
    matrices = chunk_matrices(decay, readout, skip, 8, torch.float64)
    state = torch.randn(2, 5, dtype=torch.complex128)
    inputs = torch.randn(2, 8, dtype=torch.float64)
    found = torch.einsum("ht,htw->hw", inputs, matrices.into_state)
    found += torch.cat(
        [(from_planes(matrices.chunk_decay) * state).real, (from_planes(matrices.chunk_decay) * state).imag], -1
    )
    outputs = torch.einsum("ht,htx->hx", inputs, matrices.within)
    outputs += torch.einsum("hw,hwt->ht", torch.cat([state.real, state.imag], -1), matrices.out_of_state)
    for t in range(8):
        state = decay * state + inputs[:, t, None]
        assert torch.allclose(outputs[:, t], 2 * (readout * state).sum(-1).real + skip * inputs[:, t])
    assert torch.allclose(from_planes(found), state)


@pytest.mark.parametrize("with_skip", [False, True])
def test_gradients_of_chunk_matrices_are_those_of_finite_differences(with_skip: bool) -> None:
    decay, readout, skip = (x.requires_grad_() for x in parameters(2, 3, seed=5))
    leaves = (decay, readout, skip) if with_skip else (decay, readout)
    skip_of = (lambda rest: rest[0]) if with_skip else (lambda rest: None)
    assert torch.autograd.gradcheck(
        lambda a, c, *rest: tuple(chunk_matrices(a, c, skip_of(rest), 8, torch.float64)), leaves
    )


@pytest.mark.parametrize("lengths", [(1,), (64,), (64, 64), RAGGED, (1,) * 9, (1000, 1, 63)])
def test_the_table_holds_every_token_once(lengths: tuple[int, ...]) -> None:
    num_tokens = sum(lengths)
    size = choose_chunk_tokens(num_tokens, len(lengths))
    table = chunk_table(torch.tensor([0, *lengths]).cumsum(0), num_tokens, size)
    stretches = zip(table.first_token.tolist(), table.num_tokens.tolist(), strict=True)
    assert [t for first, count in stretches for t in range(first, first + count)] == list(range(num_tokens))
    assert int((table.num_tokens > 0).sum()) == int(table.first_chunk[-1]) == sum(-(-x // size) for x in lengths)
    assert int(table.continues.sum()) == int(table.first_chunk[-1]) - len(lengths)


def test_the_path_is_chosen_by_device_and_can_be_forced() -> None:
    assert ssm_path(torch.device("cpu")) == ("native" if library.is_available() else "matrix")
    with forced_path("reference"):
        assert ssm_path(torch.device("cpu")) == "reference"
    with pytest.raises(ValueError, match="matrix, triton, convolution, reference"), forced_path("fast"):
        pass


def _arguments() -> dict:
    decay, readout, skip = parameters(2, 3, seed=0)
    return {
        "u_NC": torch.ones(5, 4),
        "decay_HZ": decay,
        "readout_HZ": readout,
        "skip_H": skip,
        "starts": torch.tensor([0, 2, 5]),
    }


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"u_NC": torch.ones(1, 5, 4)}, r"needed is a real \[N, C\]"),
        ({"u_NC": torch.ones(5, 3)}, "H a divisor of the channels"),
        ({"decay_HZ": torch.ones(2, 3)}, "both must be complex"),
        ({"readout_HZ": torch.ones(2, 4, dtype=torch.complex64)}, r"twice \[H, Z\]"),
        ({"skip_H": torch.ones(4)}, r"needed is a real \[2\]"),
        ({"starts": torch.tensor([0, 2, 5], dtype=torch.int32)}, r"int64 \[S \+ 1\]"),
        ({"starts": torch.tensor([0])}, r"1 to 5 documents"),
        ({"starts": torch.tensor([0, 2, 4])}, "from 0 to 4, needed are strictly increasing offsets from 0 to 5"),
        ({"starts": torch.tensor([0, 2, 2, 5])}, "strictly increasing"),
        ({"initial_state": torch.zeros(2, 4, 3)}, r"a complex \[2, 4, 3\]"),
        ({"state_lengths": torch.zeros(3, dtype=torch.int64)}, r"int64 \[2\]"),
        ({"state_lengths": torch.tensor([2, 4])}, "document 1 has 3"),
    ],
)
def test_what_does_not_fit_is_named(changed: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        diagonal_ssm(**{**_arguments(), **changed})


def test_paths_say_what_they_cannot_do() -> None:
    state = torch.zeros(2, 4, 3, dtype=torch.complex64)
    with forced_path("convolution"), pytest.raises(ValueError, match="takes no initial_state"):
        diagonal_ssm(**_arguments(), initial_state=state)
    with pytest.raises(ValueError, match="at least 1"):
        ssm_kernel(torch.ones(1, 1, dtype=torch.complex64), torch.ones(1, 1, dtype=torch.complex64), 0)
