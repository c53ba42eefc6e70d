"""How several devices share a training: Lightning's DDP and FSDP2, with the checkpoints of this project.

::

    ddp     every rank has the whole model; gradients are averaged
    fsdp    every rank has its rows of every parameter; a block is gathered when it is computed (fully_shard)
    hsdp    fsdp within each machine, ddp between machines

Parameters of state-space models stay in float32 or wider, in groups of their own, where ``bf16-mixed`` narrows the
others. Gradients are summed in float32 or wider.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from lightning.pytorch.plugins.environments import ClusterEnvironment
from lightning.pytorch.strategies import DDPStrategy, ModelParallelStrategy
from torch import nn
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy, fully_shard, register_fsdp_forward_method
from torch.distributed.tensor import DTensor
from torch.utils.checkpoint import checkpoint

from lst.configs.schema import Config
from lst.model.initialise import initial_weights
from lst.model.layers import Block
from lst.model.lst import LatentSpeechTextModel
from lst.model.state_space import WideParameters
from lst.parallel import Ranks
from lst.recipes.training.shards import placed_like

# Methods that are called in place of ``forward``.
_MODEL_METHODS = ("training_loss", "losses", "boundary_logits")


class RanksEnvironment(ClusterEnvironment):
    """What Lightning asks about the processes, which are there already.

    Args:
        ranks: that are joined.
    """

    def __init__(self, ranks: Ranks) -> None:
        super().__init__()
        self.ranks = ranks

    creates_processes_externally = True
    # Of a connection that is made already.
    main_address, main_port = "", 0

    @staticmethod
    def detect() -> bool:
        """It is chosen, never found."""
        return False

    def world_size(self) -> int:
        """Number of processes."""
        return self.ranks.size

    def set_world_size(self, size: int) -> None:
        """It is fixed."""

    def global_rank(self) -> int:
        """Number of this process."""
        return self.ranks.rank

    def set_global_rank(self, rank: int) -> None:
        """It is fixed."""

    def local_rank(self) -> int:
        """Number of this process on its machine."""
        return self.ranks.local_rank

    def node_rank(self) -> int:
        """Number of its machine."""
        return self.ranks.rank // self.ranks.local_size


class _SafeCheckpoints:
    """Checkpoints that all ranks write and read by the ``CheckpointIO``."""

    checkpoint_io: Any

    def save_checkpoint(self, checkpoint: dict[str, Any], filepath: Any, storage_options: Any = None) -> None:
        """Every rank writes its part."""
        self.checkpoint_io.save_checkpoint(checkpoint, filepath)

    def load_checkpoint(self, checkpoint_path: Any, weights_only: bool | None = None) -> dict[str, Any]:
        """What each rank has read."""
        loaded: dict[str, Any] = self.checkpoint_io.load_checkpoint(checkpoint_path)
        return loaded

    def remove_checkpoint(self, filepath: Any) -> None:
        """Once for all ranks."""
        self.checkpoint_io.remove_checkpoint(filepath)


class Replicated(_SafeCheckpoints, DDPStrategy):
    """DDP. Its buckets stay as they are at first: sums of a training that goes on are then rounded as before."""

    def __init__(self) -> None:
        super().__init__(find_unused_parameters=True)


class Sharded(_SafeCheckpoints, ModelParallelStrategy):
    """FSDP2. States are those of each rank; no process ever holds the whole model."""

    def __init__(self, ranks: Ranks) -> None:
        super().__init__(data_parallel_size=ranks.size, tensor_parallel_size=1)

    @property
    def lightning_restore_optimizer(self) -> bool:
        """Lightning restores the optimiser as it does on one device."""
        return True

    def lightning_module_state_dict(self) -> dict[str, Any]:
        """Weights by name, cut."""
        assert self.lightning_module is not None
        return self.lightning_module.state_dict()

    def optimizer_state(self, optimizer: Any) -> dict[str, Any]:
        """State by number of the parameter, cut."""
        state: dict[str, Any] = getattr(optimizer, "_optimizer", optimizer).state_dict()
        return state

    def load_model_state_dict(self, checkpoint: Mapping[str, Any], strict: bool = True) -> None:
        """Cuts weights of a checkpoint as this training does."""
        module = self.lightning_module
        assert module is not None
        own = module.state_dict()
        # A name that the module lacks is named by load_state_dict.
        state = {name: placed_like(x, own.get(name, x)) for name, x in checkpoint["state_dict"].items()}
        module.load_state_dict(state, strict=strict)

    def load_optimizer_state_dict(self, checkpoint: Mapping[str, Any]) -> None:
        """Cuts the optimiser's state of a checkpoint as this training does."""
        for optimizer, saved in zip(self.optimizers, checkpoint["optimizer_states"], strict=True):
            parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
            state = {
                number: {key: placed_like(value, parameters[number]) for key, value in values.items()}
                for number, values in saved["state"].items()
            }
            optimizer.load_state_dict({**saved, "state": state})


def shard_model(model: LatentSpeechTextModel, mesh: DeviceMesh, precision: str) -> None:
    """Cuts every parameter by its rows over the last dimension of a mesh; the first of two holds copies.

    A model on the meta device gets its initial weights here, so that no process ever holds more than its rows and one
    whole parameter.

    Args:
        model: changed in place; each block is gathered by itself.
        mesh: of one or two dimensions.
        precision: Lightning's. With ``bf16-mixed``, parameters are gathered in bfloat16.
    """
    is_mixed = precision == "bf16-mixed"
    reduce_dtype = torch.float32 if precision.startswith("bf16") else None
    plain = MixedPrecisionPolicy(param_dtype=torch.bfloat16 if is_mixed else None, reduce_dtype=reduce_dtype)
    for module in model.modules():
        if isinstance(module, WideParameters):
            # Small, and read outside their method too: they stay gathered up to the backward pass.
            fully_shard(module, mesh=mesh, mp_policy=MixedPrecisionPolicy(), reshard_after_forward=False)
            if module.reader != "forward":
                register_fsdp_forward_method(module, module.reader)
    for module in model.modules():
        if isinstance(module, Block):
            fully_shard(module, mesh=mesh, mp_policy=plain)
    fully_shard(model, mesh=mesh, mp_policy=plain)
    for method in _MODEL_METHODS:
        register_fsdp_forward_method(model, method)
    if any(parameter.is_meta for parameter in model.parameters()):
        model.to_empty(device=mesh.device_type)
        _fill(model)


@torch.no_grad()
def _fill(model: LatentSpeechTextModel) -> None:
    """Gives a model that is cut the initial weights of one that is not, bit for bit."""
    # Models are drawn in float32; Lightning has made the type of this training the default.
    default = torch.get_default_dtype()
    torch.set_default_dtype(torch.float32)
    try:
        with torch.device("meta"):
            whole_model = LatentSpeechTextModel(model.config, model.vocab_size)
        parameters = dict(model.named_parameters())
        for name, whole in initial_weights(whole_model, model.config, model.seed):
            own = parameters[name]
            own.copy_(placed_like(whole.to(own.dtype), own))
    finally:
        torch.set_default_dtype(default)


def cut_again(model: nn.Module) -> None:
    """Lets go of parameters that a pass without gradients has gathered."""
    for module in model.modules():
        if isinstance(module, FSDPModule):
            module.reshard()


def rank_mesh(ranks: Ranks, device_type: str, strategy: str) -> DeviceMesh:
    """The mesh of ``fsdp``, or of ``hsdp``: machines × devices of a machine."""
    if strategy == "hsdp":
        shape = (ranks.size // ranks.local_size, ranks.local_size)
        return init_device_mesh(device_type, shape, mesh_dim_names=("copies", "rows"))
    return init_device_mesh(device_type, (ranks.size,), mesh_dim_names=("rows",))


def prepare_blocks(model: LatentSpeechTextModel, recompute_every: int, compiles: bool) -> None:
    """Lets every n-th block keep no activations, and compiles each block; 0 and False leave them as they are."""
    blocks = [module for module in model.modules() if isinstance(module, Block)]
    for number, block in enumerate(blocks):
        if recompute_every and number % recompute_every == 0:
            # No block draws random numbers.
            again = partial(checkpoint, block.forward, use_reentrant=False, preserve_rng_state=False)
            block.forward = again  # type: ignore[method-assign]
        if compiles:
            # Shapes differ from batch to batch.
            block.compile(dynamic=True)


def whole_model(model: LatentSpeechTextModel, config: Config, vocab_size: int, ranks: Ranks) -> LatentSpeechTextModel:
    """The model itself, or on the first rank a whole copy of one that is cut; every rank calls it."""
    if not isinstance(model, FSDPModule):
        return model
    weights = {}
    for name, tensor in model.state_dict().items():
        # All ranks send their rows; only the first keeps them.
        full = tensor.full_tensor() if isinstance(tensor, DTensor) else tensor
        if ranks.is_first:
            weights[name] = full.cpu()
    with torch.device("meta"):
        whole = LatentSpeechTextModel(replace(config.model, init_from=None), vocab_size)
    if ranks.is_first:
        whole.load_state_dict(weights, assign=True)
    return whole
