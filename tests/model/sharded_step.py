"""One process of test_sharding: a training step under FSDP2 with bfloat16 compute; rank 0 writes loss and gradients.

python -m torch.distributed.run --nproc-per-node N -m tests.model.sharded_step OUT [tied] [precision]
"""

from __future__ import annotations

import sys

import torch
import torch.distributed as dist
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard

from olmo_core.model.initialization import initialize
from olmo_core.model.transformer import Transformer
from tests.model.samples import next_tokens, small, tokens


def main(out: str, tied: bool, precision: torch.dtype) -> None:
    """Build on meta, shard, initialize, one step of rows rank::world of a batch of 4."""
    torch.set_num_threads(1)
    mesh = init_device_mesh("cpu", (dist.get_world_size(),))
    with torch.device("meta"):
        model = Transformer(small(tied=tied, embedding_rows=1500, norm="rms", kv_heads=2))
    policy = MixedPrecisionPolicy(param_dtype=precision, reduce_dtype=torch.float32)
    for block in model.blocks:
        fully_shard(block, mesh=mesh, mp_policy=policy)
    fully_shard(model, mesh=mesh, mp_policy=policy)
    model.to_empty(device="cpu")
    initialize(model, 3)
    batch = tokens(4, 32)[dist.get_rank() :: dist.get_world_size()]
    losses = model(batch, labels_BT=next_tokens(batch), z_loss=1e-4)
    (losses.total * (dist.get_world_size() / (4 * 31))).backward()  # gradients are averaged over ranks
    total = losses.total.detach().clone()
    dist.all_reduce(total)
    result = {"loss": total}
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None and parameter.grad.dtype == torch.float32, name
        result["parameter." + name] = parameter.full_tensor().detach()  # type: ignore[attr-defined]
        result["gradient." + name] = parameter.grad.full_tensor()  # type: ignore[attr-defined]
    if dist.get_rank() == 0:
        torch.save(result, out)


if __name__ == "__main__":
    dist.init_process_group("gloo")
    try:
        main(sys.argv[1], sys.argv[2] == "tied", getattr(torch, sys.argv[3]))
    finally:
        dist.destroy_process_group()
