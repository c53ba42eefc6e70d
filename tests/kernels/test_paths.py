"""What the front doors of all operators share."""

import subprocess
import sys

import torch

from lst.kernels.paths import constant_result


def test_a_constant_result_is_marked_as_pytorch_marks_it() -> None:
    def ours() -> int:
        return 1

    def theirs() -> int:
        return 1

    assert vars(constant_result(ours)) == vars(torch.compiler.assume_constant_result(theirs)) != {}


def test_commands_that_compile_nothing_do_not_load_the_compiler() -> None:
    modules = "lst.recipes.prepare, lst.recipes.eval_command, lst.recipes.generate, lst.api"
    heavy = "torch._dynamo", "triton", "scipy.stats", "lightning"
    loaded = f"import sys, {modules}; print(*set({heavy}) & set(sys.modules))"
    result = subprocess.run([sys.executable, "-c", loaded], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == ""
