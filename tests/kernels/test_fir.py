"""The short convolution: every path against the loop over tokens in float64, values and every gradient."""

from __future__ import annotations

import functools

import pytest
import torch

from lst.kernels.fir import fir_path, forced_path, short_convolution

# Paths that run at full size; without a GPU, Triton's kernels run under its interpreter (see conftest.py), at small
# sizes: that shows their arithmetic, not the compiled code.
FAST_PATHS = ["blocked"]
EVERY_PATH = [*FAST_PATHS, "triton"]
HAS_GPU = torch.cuda.is_available()
NAMES = ("y", "du", "dtaps", "dhistory")
RAGGED = (64, 1, 65, 2, 3, 130, 1, 1)


def device_of(path: str) -> str:
    """Where a path runs: Triton's on a GPU where there is one, all others on the CPU."""
    if path == "triton":
        pytest.importorskip("triton", reason="Triton is not installed")
    return "cuda" if HAS_GPU and path == "triton" else "cpu"


class Case:
    """Inputs in float64 and weights of a loss, on the device of a path."""

    def __init__(self, lengths: tuple[int, ...], num_channels: int, num_taps: int, path: str = "reference") -> None:
        self.device = device_of(path)
        self.starts = self.offsets(*lengths)
        generator = torch.Generator().manual_seed(sum(lengths) + num_channels + num_taps)
        draw = functools.partial(torch.randn, dtype=torch.float64, generator=generator)
        u = draw(sum(lengths), num_channels)
        taps = draw(num_channels, num_taps) / num_taps**0.5
        leaves = [u, taps, draw(len(lengths), num_taps - 1, num_channels)]
        self.leaves = [x.to(self.device) for x in leaves]
        self.weights = draw(u.shape).to(self.device)

    def offsets(self, *lengths: int) -> torch.Tensor:
        """Where documents of these lengths start, and the last ends."""
        return torch.tensor([0, *lengths], device=self.device).cumsum(0)

    def run(self, path: str, dtype: torch.dtype, with_history: bool) -> list[torch.Tensor]:
        """Outputs and the gradients of all leaves, zeros for a history that is not given."""
        leaves = [x.clone().requires_grad_() for x in self.leaves]
        u, taps, history = leaves
        with forced_path(path):
            y = short_convolution(
                u.to(dtype),
                taps.to(dtype),
                starts=self.starts,
                history=history.to(dtype) if with_history else None,
            )
            grads = torch.autograd.grad((y * self.weights.to(y)).sum(), leaves, materialize_grads=True)
        return [x.detach().cpu() for x in (y, *grads)]


@functools.lru_cache
def reference(lengths: tuple[int, ...], num_channels: int, num_taps: int, with_history: bool) -> list[torch.Tensor]:
    """What the loop makes of a case in float64, made once for all paths."""
    return Case(lengths, num_channels, num_taps).run("reference", torch.float64, with_history)


def assert_close(fast: list[torch.Tensor], slow: list[torch.Tensor], tolerance: float) -> None:
    for name, a, b in zip(NAMES, fast, slow, strict=True):
        error = (a.double() - b).norm() / b.norm() if b.norm() else a.norm()
        assert error <= tolerance, f"{name}: relative error {error:.2e}"


def check(
    path: str,
    lengths: tuple[int, ...],
    num_taps: int,
    with_history: bool,
    num_channels: int = 3,
    dtype: torch.dtype = torch.float32,
    tolerance: float = 1e-5,
) -> None:
    slow = reference(lengths, num_channels, num_taps, with_history)
    assert_close(Case(lengths, num_channels, num_taps, path).run(path, dtype, with_history), slow, tolerance)


@pytest.mark.parametrize("with_history", [False, True])
@pytest.mark.parametrize("num_documents", [1, 3])
@pytest.mark.parametrize("length", [1, 2, 63, 64, 65, 1000, 1024, 4097])
@pytest.mark.parametrize("path", FAST_PATHS)
def test_equals_the_loop(path: str, length: int, num_documents: int, with_history: bool) -> None:
    check(path, (length,) * num_documents, 64, with_history)


@pytest.mark.parametrize("with_history", [False, True])
@pytest.mark.parametrize("num_taps", [1, 2, 4, 63, 64, 65, 130, 300])
@pytest.mark.parametrize("lengths", [RAGGED, (1,) * 40], ids=["ragged", "one token each"])
@pytest.mark.parametrize("path", FAST_PATHS)
def test_any_number_of_taps(path: str, lengths: tuple[int, ...], num_taps: int, with_history: bool) -> None:
    check(path, lengths, num_taps, with_history)


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.float64, 1e-13)])
@pytest.mark.parametrize("path", FAST_PATHS)
def test_many_channels(path: str, dtype: torch.dtype, tolerance: float) -> None:
    """So many that they are taken in several turns."""
    check(path, (2000, 48), 64, True, num_channels=300, dtype=dtype, tolerance=tolerance)


@pytest.mark.parametrize(
    ("lengths", "num_taps", "with_history", "num_channels"),
    [
        ((1,), 64, True, 8),
        ((65,), 64, True, 2),
        ((65, 65, 65), 5, True, 2),
        (RAGGED, 7, True, 33),
        (RAGGED, 7, False, 3),
        ((1,) * 40, 3, True, 2),
        (RAGGED, 1, True, 2),
        ((1000,), 2, False, 1),
    ],
)
def test_triton_equals_the_loop(lengths: tuple[int, ...], num_taps: int, with_history: bool, num_channels: int) -> None:
    """On a GPU where there is one, else interpreted: that shows the arithmetic, not the compiled code."""
    check("triton", lengths, num_taps, with_history, num_channels)


def test_triton_in_float64() -> None:
    check("triton", RAGGED, 4, True, dtype=torch.float64, tolerance=1e-13)


@pytest.mark.parametrize("path", EVERY_PATH)
def test_going_on_with_the_last_inputs_equals_one_pass(path: str) -> None:
    case = Case((100,), 2, 9, path)
    u, taps, history = (x.float() for x in case.leaves)
    with forced_path(path):
        whole = short_convolution(u, taps, starts=case.starts, history=history)
        for cut in (1, 5, 8, 60):
            before = torch.cat([history[0], u[:cut]])[-8:][None]
            rest = short_convolution(u[cut:], taps, starts=case.offsets(100 - cut), history=before)
            assert (rest - whole[cut:]).norm() <= 1e-6 * whole.norm()


@pytest.mark.parametrize("path", EVERY_PATH)
def test_packed_equals_alone(path: str) -> None:
    """Each document of a packed row as it is by itself, also beside one that holds infinities."""
    case = Case((70, 1, 33), 2, 9, path)
    u, taps, history = (x.float() for x in case.leaves)
    with forced_path(path):
        packed = short_convolution(u, taps, starts=case.starts, history=history)
        spoilt = u.clone()
        spoilt[70] = float("inf")
        beside = short_convolution(spoilt, taps, starts=case.starts, history=history)
        for document, (start, end) in ((0, (0, 70)), (2, (71, 104))):
            bounds = case.offsets(end - start)
            alone = short_convolution(u[start:end], taps, starts=bounds, history=history[document : document + 1])
            for found in (packed[start:end], beside[start:end]):
                assert (found - alone).norm() <= 1e-6 * alone.norm()


@pytest.mark.usefixtures("poisoned_memory")
@pytest.mark.parametrize("path", EVERY_PATH)
def test_every_output_is_written(path: str) -> None:
    for tensor in Case((37, 1, 20), 5, 6, path).run(path, torch.float32, True):
        assert torch.isfinite(tensor).all()


@pytest.mark.parametrize("path", EVERY_PATH)
def test_no_output_depends_on_what_comes_later_or_long_before(path: str) -> None:
    case = Case((90,), 2, 9, path)
    u, taps, _ = (x.float() for x in case.leaves)
    with forced_path(path):
        before = short_convolution(u, taps, starts=case.starts)
        for token, size in ((1, 1.0), (40, 1e6), (64, 1e12), (89, 1.0)):
            changed = u.clone()
            changed[token] += size
            moved = (short_convolution(changed, taps, starts=case.starts) - before).abs().amax(dim=1)
            reached = torch.zeros(90, dtype=torch.bool, device=case.device)
            reached[token : token + 9] = True
            assert moved[~reached].max() == 0
            assert moved[token] > 0.01 * size


@pytest.mark.parametrize("path", EVERY_PATH)
def test_huge_and_tiny_inputs_scale(path: str) -> None:
    case = Case((150,), 2, 5, path)
    u, taps, _ = (x.float() for x in case.leaves)
    with forced_path(path):
        plain = short_convolution(u, taps, starts=case.starts)
        for scale in (2.0**100, 2.0**-100):
            scaled = short_convolution(u * scale, taps, starts=case.starts) / scale
            assert (scaled - plain).norm() <= 1e-6 * plain.norm()


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.bfloat16, 1e-2), (torch.float16, 1.5e-3)])
@pytest.mark.parametrize("path", EVERY_PATH)
def test_half_precision_only_at_the_edges(path: str, dtype: torch.dtype, tolerance: float) -> None:
    case = Case((150,), 2, 9, path)
    u, taps, _ = case.leaves
    u, taps = (u * 1000).to(dtype).requires_grad_(), taps.float().requires_grad_()
    with forced_path(path):
        y = short_convolution(u, taps, starts=case.starts)
        y.float().square().mean().sqrt().backward()
    with forced_path("reference"):
        expected = short_convolution(u.detach().double(), taps.detach().double(), starts=case.starts)
    assert y.dtype == dtype
    assert u.grad is not None
    assert taps.grad is not None
    assert torch.isfinite(u.grad).all()
    assert taps.grad.dtype == torch.float32
    assert (y.double() - expected).norm() <= tolerance * expected.norm()


@pytest.mark.parametrize("path", EVERY_PATH)
def test_autocast_changes_nothing(path: str) -> None:
    case = Case((70, 5), 2, 5, path)
    u, taps, history = (x.float().requires_grad_() for x in case.leaves)
    results = []
    for enabled in (False, True):
        with forced_path(path), torch.autocast(case.device, dtype=torch.bfloat16, enabled=enabled):
            y = short_convolution(u, taps, starts=case.starts, history=history)
            results.append([y, *torch.autograd.grad(y.sum(), [u, taps, history])])
    assert all(a.dtype == torch.float32 and torch.equal(a, b) for a, b in zip(*results, strict=True))


@pytest.mark.parametrize("path", EVERY_PATH)
def test_gradients_repeat_bit_for_bit(path: str) -> None:
    case = Case((130, 20), 4, 5, path)
    once, again = (case.run(path, torch.float32, True) for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip(once, again, strict=True))


@pytest.mark.parametrize("path", EVERY_PATH)
def test_compiles_as_one_graph(path: str) -> None:
    case = Case((65, 3), 2, 5, path)

    def run(u: torch.Tensor, taps: torch.Tensor, history: torch.Tensor) -> torch.Tensor:
        return short_convolution(u * 2, taps, starts=case.starts, history=history) * 2

    results = []
    with forced_path(path):
        for function in (run, torch.compile(run, fullgraph=True, backend="aot_eager")):
            leaves = [x.float().requires_grad_() for x in case.leaves]
            y = function(*leaves)
            results.append([y, *torch.autograd.grad(y.square().sum(), leaves)])
    for eager, compiled in zip(*results, strict=True):
        assert (eager - compiled).norm() <= 1e-6 * eager.norm()


@pytest.mark.parametrize("with_history", [False, True])
@pytest.mark.parametrize("path", EVERY_PATH)
def test_registration_is_sound(path: str, with_history: bool) -> None:
    """PyTorch's own checks of the operator: fake shapes, autograd, tracing; Triton interpreted without a GPU."""
    case = Case((20, 3), 2, 4, path)
    u, taps, history = (x.float().requires_grad_() for x in case.leaves)
    arguments = (u, taps, history if with_history else None, case.starts)
    with forced_path(path):
        torch.library.opcheck(torch.ops.lst.short_convolution, arguments)


def test_the_path_is_chosen_by_device_and_can_be_forced() -> None:
    assert fir_path(torch.device("cpu")) == "blocked"
    with forced_path("reference"):
        assert fir_path(torch.device("cpu")) == "reference"
    with pytest.raises(ValueError, match="blocked, triton, reference"), forced_path("fast"):
        pass


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"u_NC": torch.ones(1, 5, 4)}, r"needed is a real \[N, C\]"),
        ({"taps_CK": torch.ones(3, 2)}, r"needed is a real \[4, K\]"),
        ({"taps_CK": torch.ones(4, 3, dtype=torch.complex64)}, r"taps is torch.complex64"),
        ({"taps_CK": torch.ones(4, 3, device="meta")}, "inputs are on cpu, taps on meta: move them to one device"),
        ({"starts": torch.tensor([0, 2, 5], device="meta")}, "starts on meta"),
        ({"taps_CK": torch.ones(4, 0)}, r"needed is a real \[4, K\] with K of 1 or more"),
        ({"starts": torch.tensor([0, 2, 5], dtype=torch.int32)}, r"int64 \[S \+ 1\]"),
        ({"starts": torch.tensor([0])}, "1 to 5 documents"),
        ({"starts": torch.tensor([0, 2, 4])}, "from 0 to 4, needed are strictly increasing offsets from 0 to 5"),
        ({"history": torch.ones(2, 3, 4)}, r"needed is a real \[2, 2, 4\]"),
    ],
)
def test_what_does_not_fit_is_named(changed: dict, message: str) -> None:
    arguments = {"u_NC": torch.ones(5, 4), "taps_CK": torch.ones(4, 3), "starts": torch.tensor([0, 2, 5])}
    with pytest.raises(ValueError, match=message):
        short_convolution(**{**arguments, **changed})
