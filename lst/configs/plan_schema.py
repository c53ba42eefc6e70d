"""Options of what ``lst train --dry-run`` reckons with on several devices."""

from __future__ import annotations

from dataclasses import dataclass

from lst.options import Options, option


@dataclass
class PlanConfig(Options, prefix="plan."):
    """The devices and links that ``lst train --dry-run`` plans for; the training itself takes none of it."""

    device_tflops: float | None = option(
        None,
        "peak of a device in matrix products of train.precision; null measures this CPU",
        above=0,
        unit="TFLOP/s",
    )
    utilisation: float = option(0.3, "share of that peak that a training reaches", above=0, high=1)
    device_memory_gb: float = option(80.0, "memory of a device", above=0, unit="GB")
    node_gb_s: float = option(300.0, "what a device sends to others of its machine", above=0, unit="GB/s")
    network_gb_s: float = option(25.0, "what a device sends to other machines", above=0, unit="GB/s")
    price_an_hour: float | None = option(None, "price of a device for an hour, in any currency", above=0)
