"""`EngineOptions`: how the engine works, not what it draws. Built once by the application or the CLI."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineOptions:
    """`device` 'auto', 'cpu', 'cuda', 'cuda:1', 'mps' ...; `dtype` 'auto', 'float32', 'float16', 'bfloat16'.

    `threads` 0 leaves torch's own choice; `preview_interval_s` is the least time between two previews, 0 for none.
    `preview` is one of `PREVIEWS`: 'tiny' draws them with the small VAE that a job brings, where it brings one.
    `measured_file` is where it is kept what memory pictures took on this device; empty: until the engine ends.
    """

    output_dir: str
    device: str = "auto"
    dtype: str = "auto"
    threads: int = 0
    preview_interval_s: float = 0.1
    preview: str = "fast"
    filename_pattern: str = "[number]-[seed]"
    measured_file: str = ""
