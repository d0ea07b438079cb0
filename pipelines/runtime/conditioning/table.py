"""`CONDITIONERS`: what a request can add to its model, in the order in which it is applied."""

from __future__ import annotations

from pipelines.runtime.conditioning import control, embedding, ip_adapter, lora
from pipelines.runtime.conditioning.base import Conditioner

CONDITIONERS: tuple[Conditioner, ...] = (lora, embedding, control, ip_adapter)
