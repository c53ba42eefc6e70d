"""The state-space kernels compiled for an A100 that is not there: the interpreter takes more than the compiler does.

Compiled to machine code with bfloat16 inputs, not run; in a process of its own, where Triton does not interpret.
"""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
import torch

COMPILE = """
import triton
import triton.language as tl
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
from lst.kernels.fir import gpu as fir
from lst.kernels.paths import EXACT_PRECISION
from lst.kernels.ssm import gpu as ssm

indices = {"first_tokens", "counts", "first_chunks", "starts", "documents", "places", "firsts", "ends"}
counts = {"num_tokens", "num_chunks", "num_rows", "num_columns", "num_channels", "members"}
half = {"x", "out", "u", "grad", "grad_input", "history"}
of_ssm = {"CHUNK": 64, "WIDTH": 64, "BLOCK_W": 64, "BLOCK_T": 16, "PRECISION": EXACT_PRECISION, "PARTS": 4, "MODES": 32,
          "HAS_INITIAL": True, "IS_BACKWARD": True, "BLOCK_C": 4, "BLOCK_Z": 32, "BLOCK_R": 16, "BLOCK": 64}
of_fir = {"TAPS": 64, "HAS_HISTORY": True, "WIDE": tl.float32, "BLOCK_N": 64, "BLOCK_C": 32, "PARTS": 3}
kernels = [
    (ssm.chunk_state_kernel, of_ssm), (ssm.state_pass_kernel, of_ssm), (ssm.chunk_output_kernel, of_ssm),
    (ssm.matrix_gradient_kernel, of_ssm), (ssm.transpose_kernel, of_ssm), (fir._forward_kernel, of_fir),
    (fir._input_gradient_kernel, of_fir), (fir._tap_gradient_kernel, of_fir),
]
for kernel, constants in kernels:
    kernel = kernel.fn if hasattr(kernel, "configs") else kernel
    used = {name: value for name, value in constants.items() if name in kernel.arg_names}
    signature = {
        name: "constexpr" if name in used else "*i64" if name in indices
        else "i32" if name in counts or name.startswith("stride") else "*bf16" if name in half else "*fp32"
        for name in kernel.arg_names
    }
    source = ASTSource(fn=kernel, signature=signature, constexprs=used)
    made = triton.compile(source, target=GPUTarget("cuda", 80, 32), options={"num_warps": 4, "num_stages": 1})
    assert made.asm["cubin"]
    print(kernel.__name__)
"""


@pytest.mark.skipif(torch.version.cuda is None, reason="PyTorch without CUDA: Triton brings no compiler for it")
def test_every_kernel_compiles() -> None:
    pytest.importorskip("triton", reason="Triton is not installed")
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    done = subprocess.run([sys.executable, "-c", COMPILE], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    assert len(done.stdout.splitlines()) == 8
