"""H3's mixing: every path against the token-by-token version in float64, values, states and every gradient."""

from __future__ import annotations

import contextlib
import functools
import math
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from lst.kernels import fir, ssm
from lst.kernels.h3 import H3State, h3_mix, h3_path, h3_step
from lst.kernels.h3.reference import h3_mix_reference
from lst.kernels.native import library
from lst.kernels.native.op import baseline_instructions, padded_modes
from lst.kernels.native.sources import source_hash

# "baseline" is the compiled path as processors without AVX2 run it. Without a GPU, Triton's kernels run under its
# interpreter (see conftest.py), at small sizes.
PATHS = ["native", "baseline", "matrix"]
HAS_GPU = torch.cuda.is_available()
NAMES = ("out", "keys", "modes", "dquery", "dkey", "dvalue", "dtaps", "ddecay", "dreadout", "dskip", "dkeys", "dmodes")
RAGGED = (64, 1, 65, 2, 15, 130, 16, 17)


@pytest.fixture(autouse=True)
def compiled_library(request: pytest.FixtureRequest) -> None:
    wanted = getattr(request.node, "callspec", None)
    if wanted is not None and wanted.params.get("path") in ("native", "baseline") and not library.is_available():
        pytest.skip("the compiled kernels were not built: no C++ compiler when the package was installed")


@contextlib.contextmanager
def on_path(path: str) -> Iterator[None]:
    with contextlib.ExitStack() as stack:
        stack.enter_context(ssm.forced_path("native" if path == "baseline" else path))
        if path == "baseline":
            stack.enter_context(baseline_instructions())
        if path == "triton":
            stack.enter_context(fir.forced_path("triton"))
        yield


def parameters(num_heads: int, num_modes: int, generator: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
    """Decay and readout as H3 draws them: bilinear, A = −½ + iπn, dt log-uniform in [1e-3, 0.1]."""
    uniform = torch.rand(num_heads, 1, dtype=torch.float64, generator=generator)
    dt = torch.exp(math.log(1e-3) + uniform * math.log(100))
    continuous = torch.complex(torch.tensor(-0.5).double(), math.pi * torch.arange(num_modes).double())
    readout = torch.randn(num_heads, num_modes, dtype=torch.complex128, generator=generator)
    return (1 + dt * continuous / 2) / (1 - dt * continuous / 2), readout * dt / (1 - dt * continuous / 2)


class Case:
    """Inputs in float64, weights of a loss, and lengths to take the states at."""

    def __init__(self, lengths: tuple[int, ...], heads: tuple[int, int], num_taps: int, num_modes: int) -> None:
        num_heads, size = heads
        dim, num_documents = num_heads * size, len(lengths)
        self.starts = torch.tensor([0, *lengths]).cumsum(0)
        generator = torch.Generator().manual_seed(sum(lengths) + dim)
        draw = functools.partial(torch.randn, generator=generator, dtype=torch.float64)
        tokens = [draw(sum(lengths), dim) for _ in range(3)]
        modes = torch.randn(num_documents, dim * size, num_modes, dtype=torch.complex128, generator=generator)
        keys = draw(num_documents, num_taps - 1, dim)
        taps = draw(dim, num_taps) / math.sqrt(num_taps)
        self.leaves = [*tokens, taps, *parameters(num_heads, num_modes, generator), draw(num_heads), keys, modes]
        self.weights = [draw(sum(lengths), dim), draw(keys.shape), torch.randn_like(modes)]
        shares = torch.rand(num_documents, generator=generator)
        self.state_lengths = (shares * (torch.tensor(lengths) + 1)).long()

    def run(self, path: str, dtype: torch.dtype, with_states: bool, device: str = "cpu") -> list[torch.Tensor]:
        """Outputs, states and the gradients of all leaves, zeros for those that play no part."""
        leaves = [x.clone().to(device).requires_grad_() for x in self.leaves]
        *inputs, skip, keys, modes = leaves
        inputs = [x.to(dtype) for x in inputs[:4]] + inputs[4:]
        starts, lengths = self.starts.to(device), self.state_lengths.to(device)
        if path == "reference":
            options = {"keys": keys, "modes": modes, "state_lengths": lengths} if with_states else {}
            out, *states = h3_mix_reference(*inputs, skip, starts=starts, **options)
        else:
            with on_path(path):
                before = {"initial_state": H3State(keys, modes), "state_lengths": lengths} if with_states else {}
                out, state = h3_mix(*inputs, skip, starts=starts, **before)
                states = list(state or (None, None))
        outputs = [
            out,
            *(x if x is not None else torch.zeros_like(y) for x, y in zip(states, (keys, modes), strict=True)),
        ]
        loss = sum((x * w.to(x)).sum().real for x, w in zip(outputs, self.weights, strict=True))
        # The version for other processors is chosen anew by the backward pass.
        with contextlib.nullcontext() if path == "reference" else on_path(path):
            grads = torch.autograd.grad(loss, leaves, materialize_grads=True)
        return [x.detach().cpu() for x in (*outputs, *grads)]


@functools.lru_cache
def reference(
    lengths: tuple[int, ...], heads: tuple[int, int], num_taps: int, num_modes: int, with_states: bool
) -> tuple[Case, list[torch.Tensor]]:
    case = Case(lengths, heads, num_taps, num_modes)
    return case, case.run("reference", torch.float64, with_states)


def assert_close(fast: list[torch.Tensor], slow: list[torch.Tensor], tolerance: float) -> None:
    for name, a, b in zip(NAMES, fast, slow, strict=True):
        error = (a.to(b.dtype) - b).norm() / b.norm() if b.norm() else a.norm()
        assert error <= tolerance, f"{name}: relative error {error:.2e}"


def check(
    path: str,
    lengths: tuple[int, ...],
    heads: tuple[int, int] = (3, 1),
    num_taps: int = 64,
    num_modes: int = 32,
    with_states: bool = True,
) -> None:
    device = "cuda" if HAS_GPU and path == "triton" else "cpu"
    case, slow = reference(lengths, heads, num_taps, num_modes, with_states)
    assert_close(case.run(path, torch.float32, with_states, device), slow, 1e-5)


@pytest.mark.parametrize("num_documents", [1, 3])
@pytest.mark.parametrize("length", [1, 2, 63, 64, 65, 1000, 1024])
@pytest.mark.parametrize("path", PATHS)
def test_equals_the_recurrence(path: str, length: int, num_documents: int) -> None:
    check(path, (length,) * num_documents, heads=(2, 1))


@pytest.mark.parametrize("num_documents", [1, 3])
@pytest.mark.parametrize("path", PATHS)
def test_long_documents(path: str, num_documents: int) -> None:
    """Three of them are shared out over several spans, whose gradients of parameters are summed."""
    check(path, (4097,) * num_documents, heads=(1, 1), num_modes=8)


@pytest.mark.parametrize("with_states", [False, True])
@pytest.mark.parametrize("heads", [(20, 1), (2, 8), (5, 3), (2, 7), (1, 20)], ids=str)
@pytest.mark.parametrize("path", PATHS)
def test_heads_of_any_width_over_ragged_documents(path: str, heads: tuple[int, int], with_states: bool) -> None:
    check(path, RAGGED, heads, with_states=with_states, num_modes=6)


@pytest.mark.parametrize(("num_taps", "num_modes"), [(1, 1), (2, 5), (16, 8), (17, 9), (100, 40)])
@pytest.mark.parametrize("path", PATHS)
def test_taps_and_modes_of_any_number(path: str, num_taps: int, num_modes: int) -> None:
    check(path, (100, 7, 1), (2, 2), num_taps, num_modes)


@pytest.mark.parametrize("path", PATHS)
def test_more_documents_than_a_block_holds(path: str) -> None:
    """Blocks of the compiled path hold 18 chunks of 16: documents end before, at and after their borders."""
    check(path, (1,) * 23 + (288, 16, 272, 287, 289, 576, 33), (1, 1), num_taps=20, num_modes=3)


def test_backward_goes_on_from_any_forward() -> None:
    """What one instruction set saved for the backward pass, another reads."""
    case, slow = reference(RAGGED, (20, 1), 20, 6, False)
    leaves = [x.clone().requires_grad_() for x in case.leaves]
    *inputs, skip, _, _ = leaves
    with on_path("baseline"):
        out, _ = h3_mix(*(x.float() for x in inputs[:4]), *inputs[4:], skip, starts=case.starts)
    grads = torch.autograd.grad((out * case.weights[0].float()).sum(), leaves[:7])
    assert_close([out, *slow[1:3], *grads, *slow[10:]], slow, 1e-5)


@pytest.mark.parametrize("path", PATHS)
def test_every_element_is_written(path: str, poisoned_memory: None) -> None:
    check(path, RAGGED, (3, 2), num_modes=5)


@pytest.mark.parametrize(
    ("lengths", "heads", "with_states"),
    [
        ((65,), (2, 1), True),
        ((40, 1, 30), (1, 2), True),
        ((100,), (1, 1), False),
        ((18, 2), (1, 8), True),
    ],
)
def test_triton_interpreted_equals_the_recurrence(
    lengths: tuple[int, ...], heads: tuple[int, int], with_states: bool
) -> None:
    """The composed form with Triton's kernels; under their interpreter where there is no GPU."""
    pytest.importorskip("triton", reason="Triton is not installed")
    check("triton", lengths, heads, with_states=with_states)


def test_one_token_after_the_other() -> None:
    """Steps from a state in the middle equal the whole."""
    case = Case((30, 30), (2, 8), 7, 5)
    query, key, value, taps, decay, readout, skip, keys, modes = (
        x.to(torch.float32) if not x.is_complex() else x for x in case.leaves
    )
    state = H3State(keys, modes.to(torch.complex64))
    out, _ = h3_mix(query, key, value, taps, decay, readout, skip, starts=case.starts, initial_state=state)
    half = torch.tensor([13, 13])
    _, state = h3_mix(
        query,
        key,
        value,
        taps,
        decay,
        readout,
        skip,
        starts=case.starts,
        initial_state=state,
        state_lengths=half,
    )
    for token in range(13, 30):
        assert state is not None
        rows = torch.tensor([token, 30 + token])
        step, state = h3_step(query[rows], key[rows], value[rows], taps, decay, readout, skip, state)
        assert (step - out[rows]).norm() <= 1e-5 * out[rows].norm()


@pytest.mark.parametrize("path", PATHS)
def test_causal_also_where_numbers_are_huge(path: str) -> None:
    """No path looks ahead, within a tolerance that scales; the compiled ones not even by an infinity, see below."""
    query, key, value, taps, decay, readout, skip, *_ = (
        x.float() if not x.is_complex() else x for x in Case((100, 50), (2, 2), 9, 4).leaves
    )
    starts = torch.tensor([0, 100, 150])
    with on_path(path):
        base, _ = h3_mix(query, key, value, taps, decay, readout, skip, starts=starts)
        for token in (0, 1, 15, 16, 47, 99):
            changed_key, changed_value = key.clone(), value.clone()
            changed_key[token] += 1e15
            changed_value[token] -= 1e15
            out, _ = h3_mix(query, changed_key, changed_value, taps, decay, readout, skip, starts=starts)
            assert (out[:token] - base[:token]).abs().max() <= 1e-5 * base.abs().max() if token else True
            assert torch.equal(out[100:], base[100:])
            assert not torch.equal(out[token], base[token])


@pytest.mark.parametrize("path", ["native", "baseline"])
def test_an_infinity_spoils_nothing_before_it(path: str) -> None:
    """Within one chunk too; nor, going backward, the gradients of what comes after an output."""
    query, key, value, taps, decay, readout, skip, *_ = (
        x.float() if not x.is_complex() else x for x in Case((70,), (3, 1), 9, 4).leaves
    )
    constants, starts = (taps, decay, readout, skip), torch.tensor([0, 70])
    with on_path(path):
        base, _ = h3_mix(query, key, value.requires_grad_(), *constants, starts=starts)
        weights = torch.ones_like(base)
        (expected,) = torch.autograd.grad(base, value, weights, retain_graph=True)
        for token in (1, 2, 5, 15, 16, 33, 69):
            spoilt_key, spoilt_value = key.clone(), value.detach().clone()
            # Finite, but their product is not.
            spoilt_key[token] = spoilt_value[token] = 1e30
            out, _ = h3_mix(query, spoilt_key, spoilt_value, *constants, starts=starts)
            assert torch.equal(out[:token], base[:token])
            assert not torch.isfinite(out[token:]).any()
            spoilt_weights = weights.clone()
            spoilt_weights[token] = float("inf")
            (found,) = torch.autograd.grad(base, value, spoilt_weights, retain_graph=True)
            assert torch.equal(found[token + 1 :], expected[token + 1 :])
            assert not torch.isfinite(found[: token + 1]).all()


@pytest.mark.parametrize("cast", ["autocast", "bfloat16 inputs"])
def test_a_step_is_as_exact_as_the_parallel_form(cast: str) -> None:
    """In lower precision too only the edges are rounded: sums over taps, states and heads stay float32."""
    case = Case((40, 33), (2, 2), 16, 8)
    query, key, value = (x.to(torch.bfloat16 if cast == "bfloat16 inputs" else torch.float32) for x in case.leaves[:3])
    constants = [x.float() if not x.is_complex() else x for x in case.leaves[3:7]]
    lengths = torch.tensor([39, 32])
    last = case.starts[1:] - 1
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=cast == "autocast"):
        _, state = h3_mix(query, key, value, *constants, starts=case.starts, state_lengths=lengths)
        out, after = h3_step(query[last], key[last], value[last], *constants, state)
    wide = [x.double() if not x.is_complex() else x for x in (query, key, value, *constants)]
    expected, *_ = h3_mix_reference(*wide, starts=case.starts)
    tolerance = 1e-5 if cast == "autocast" else 2.0**-8
    assert after.keys.dtype == torch.float32
    assert out.dtype == query.dtype
    assert ((out - expected[last]).abs() <= tolerance * expected[last].abs().clamp(min=0.05)).all()


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_results_do_not_depend_on_the_number_of_threads(threads: int) -> None:
    """Two tiles of channels and two spans of documents: four units, more inputs than one thread is woken for."""
    case = Case((3000, 20, 2700, 4, 90, 2500), (20, 1), 20, 8)
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(threads)
        found = case.run("native", torch.float32, True)
    finally:
        torch.set_num_threads(before)
    torch.set_num_threads(1)
    for a, b in zip(found, case.run("native", torch.float32, True), strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("path", PATHS)
def test_half_precision_at_the_edges(path: str, dtype: torch.dtype) -> None:
    case = Case(RAGGED, (2, 2), 16, 8)
    query, key, value = (x.to(dtype) for x in case.leaves[:3])
    constants = [x.float() if not x.is_complex() else x for x in case.leaves[3:7]]
    with on_path(path), torch.autocast("cpu", dtype=torch.bfloat16):
        out, _ = h3_mix(query, key, value, *constants, starts=case.starts)
        wide, _ = h3_mix(query.float(), key.float(), value.float(), *constants, starts=case.starts)
    assert out.dtype == dtype
    assert wide.dtype == torch.float32
    torch.testing.assert_close(out, wide.to(dtype))


def test_rows_of_a_joined_projection_need_no_copy() -> None:
    case = Case((50, 9), (3, 1), 8, 4)
    joined = torch.cat(case.leaves[:3], dim=1).float()
    constants = [x.float() if not x.is_complex() else x for x in case.leaves[3:7]]
    apart = [x.float() for x in case.leaves[:3]]
    out, _ = h3_mix(*joined.chunk(3, dim=1), *constants, starts=case.starts)
    assert torch.equal(out, h3_mix(*apart, *constants, starts=case.starts)[0])


def test_operator_is_registered_soundly() -> None:
    """Schema, fake and autograd of the compiled operator, as torch.compile relies on them."""
    if not library.is_available():
        pytest.skip("the compiled kernels were not built")
    case = Case((20, 5), (2, 2), 5, 3)
    query, key, value, taps, decay, readout, skip, keys, modes = case.leaves
    split = torch.nn.functional.pad(torch.stack([modes.real, modes.imag], dim=-2), (0, padded_modes(3) - 3)).float()
    pairs = [torch.view_as_real(x) for x in (decay, readout)]
    chunks = torch.tensor([1, 0])
    full = [x.float() for x in (value, query, key, taps, skip)]
    for wants_gradient in (False, True):
        for arguments in (
            (*full, *pairs, case.starts, split, keys.float(), chunks, wants_gradient),
            (
                full[0],
                None,
                None,
                None,
                None,
                pairs[0].repeat(2, 1, 1)[:4],
                pairs[1].repeat(2, 1, 1)[:4],
                case.starts,
                None,
                None,
                None,
                wants_gradient,
            ),
        ):
            grads = [
                x.clone().requires_grad_()
                if wants_gradient and isinstance(x, torch.Tensor) and x.is_floating_point()
                else x
                for x in arguments
            ]
            torch.library.opcheck(
                torch.ops.lst.state_space.default,
                grads,
            )


def test_path_is_told() -> None:
    expected = "native" if library.is_available() else "composed"
    assert h3_path(torch.zeros(1)) == expected
    assert h3_path(torch.zeros(1, dtype=torch.float64)) == "composed"
    with ssm.forced_path("matrix"):
        assert h3_path(torch.zeros(1)) == "composed"


def test_without_the_library_the_matrix_form_runs_and_says_so_once() -> None:
    code = (
        "import torch, warnings\n"
        "from pathlib import Path\n"
        "from lst.kernels.native import library\n"
        "library.LIBRARY_FILE = 'absent.so'\n"
        "from lst.kernels.ssm import diagonal_ssm, ssm_path\n"
        "one = torch.ones(1, 1, dtype=torch.complex128)\n"
        "with warnings.catch_warnings(record=True) as told:\n"
        "    warnings.simplefilter('always')\n"
        "    for _ in range(3):\n"
        "        y = diagonal_ssm(torch.ones(3, 1), one, one, starts=torch.tensor([0, 3]))\n"
        "print(ssm_path(torch.device('cpu')), y.flatten().tolist(), [str(w.message) for w in told])\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.startswith(
        "matrix [2.0, 4.0, 6.0] ['attention and state-space models run as blocked matrix products"
    )
    assert "absent.so was not built (no C++ compiler" in done.stdout
    assert done.stdout.count("was not built") == 1


def test_library_can_be_passed_over() -> None:
    code = "import torch; from lst.kernels.ssm import ssm_path; print(ssm_path(torch.device('cpu')))"
    environment = {**os.environ, library.DISABLE_VARIABLE: "1"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment)
    assert done.stdout.strip() == "matrix"


def _arguments() -> dict:
    x, one = torch.zeros(4, 6), torch.ones(6, 2, dtype=torch.complex128)
    return {
        "query_ND": x,
        "key_ND": x,
        "value_ND": x,
        "taps_DK": torch.zeros(6, 3),
        "decay_HZ": one,
        "readout_HZ": one,
        "skip_H": torch.zeros(6),
        "starts": torch.tensor([0, 4]),
    }


@pytest.mark.parametrize("path", ["native", "matrix"])
@pytest.mark.parametrize(
    ("changed", "message"),
    [
        (
            {"query_ND": torch.zeros(4, 5)},
            r"query torch.float32 \(4, 5\), key torch.float32 \(4, 6\), value .*needed are",
        ),
        ({"taps_DK": torch.zeros(5, 3)}, r"taps is torch.float32 \(5, 3\), needed is a real \[6, K\]"),
        ({"taps_DK": torch.zeros(6, 0)}, r"needed is a real \[6, K\] with K of 1 or more"),
        ({"taps_DK": torch.zeros(6, 3, dtype=torch.complex64)}, "taps is torch.complex64"),
        ({"key_ND": torch.zeros(4, 6, dtype=torch.int64)}, "key torch.int64"),
        ({"key_ND": torch.zeros(4, 6, device="meta")}, "inputs are on cpu, key on meta: move them to one device"),
        ({"starts": torch.tensor([0, 4], device="meta")}, "starts on meta"),
        ({"readout_HZ": torch.ones(3, 2, dtype=torch.complex128)}, "with H a divisor of the channels"),
        ({"decay_HZ": torch.ones(6, 0, dtype=torch.complex128)}, "needed are twice"),
        ({"decay_HZ": torch.ones(6, 2)}, "both must be complex"),
        ({"skip_H": torch.zeros(1)}, r"needed is a real \[6\]"),
        ({"starts": torch.tensor([0, 3])}, "strictly increasing"),
        ({"starts": torch.tensor([0, 2, 2, 4])}, "strictly increasing"),
        ({"starts": torch.tensor([1, 4])}, "strictly increasing"),
        ({"state_lengths": torch.tensor([5])}, "document 0 has 4 tokens"),
        ({"state_lengths": torch.tensor([1], dtype=torch.int32)}, r"needed is an int64 \[1\]"),
        ({"decay_HZ": torch.ones(6, 2, dtype=torch.complex128, device="meta")}, "decay on meta"),
        (
            {"initial_state": H3State(torch.zeros(2, 2, 6), torch.zeros(2, 6, 2, dtype=torch.complex64))},
            r"keys of the state is torch.float32 \(2, 2, 6\), needed is a real \[1, 2, 6\]",
        ),
        (
            {"initial_state": H3State(torch.zeros(1, 2, 6), torch.zeros(2, 6, 2, dtype=torch.complex64))},
            r"modes of the state is torch.complex64 \(2, 6, 2\), needed is a complex \[1, 6, 2\]",
        ),
        (
            {
                "initial_state": H3State(
                    torch.zeros(1, 2, 6), torch.zeros(1, 6, 2, dtype=torch.complex64, device="meta")
                )
            },
            "modes of the state on meta",
        ),
    ],
)
def test_what_does_not_fit_is_named(path: str, changed: dict, message: str) -> None:
    """Before any memory is touched, on the compiled path as on the others."""
    with on_path(path), pytest.raises(ValueError, match=message):
        h3_mix(**{**_arguments(), **changed})


@pytest.mark.parametrize("starts", [[0, 12, 2_000_000], [0, 30, 20], [0, 5, 5, 20], [3, 20]])
def test_the_operator_itself_refuses_offsets_outside_its_inputs(starts: list[int]) -> None:
    """A compiled graph calls it without the front door's look at their values."""
    if not library.is_available():
        pytest.skip("the compiled kernels were not built")
    pairs = torch.ones(4, 2, 2, dtype=torch.float64)
    with pytest.raises(ValueError, match="strictly increasing offsets from 0 to 20"):
        torch.ops.lst.state_space(
            torch.zeros(20, 4), None, None, None, None, pairs, pairs, torch.tensor(starts), None, None, None, False
        )


def test_a_library_of_other_sources_is_passed_over(tmp_path: Path) -> None:
    if not library.is_available():
        pytest.skip("the compiled kernels were not built")
    shutil.copytree(library.SOURCES, tmp_path / "src")
    assert source_hash(tmp_path / "src") == source_hash(library.SOURCES)
    with open(tmp_path / "src" / "scan.inc", "a") as file:
        file.write("// changed\n")
    code = (
        "import sys; from pathlib import Path; from lst.kernels.native import library\n"
        f"library.SOURCES = Path({str(tmp_path / 'src')!r})\n"
        "print(library.is_available())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
    assert "was built from other sources: install the package again" in done.stderr
