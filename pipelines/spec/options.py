"""`EngineOptions`: how the engine works, not what it draws. Built once by the application or the CLI."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineChoice:
    """What a person sets of `EngineOptions`, by the same names."""

    device: str = "auto"
    encoders_device: str = ""
    dtype: str = "auto"
    attention: str = "auto"
    deterministic: bool = False
    threads: int = 0
    preview: str = "fast"


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineOptions:
    """`device` and `dtype` as in devices.py, `attention` an id of the table in attention.py.

    `encoders_device` is where text encoders lie for good and compute, where `device` has a memory of its own; empty:
    they share that one.

    `deterministic`: the same request makes the same picture to the bit, as far as the device can.

    `threads` 0 leaves torch's own choice; `preview_interval_s` is the least time between two previews, 0 for none.
    `preview` is one of `PREVIEWS`: 'tiny' draws them with the small VAE that a job brings, where it brings one.
    `measured_file` is where it is kept what memory pictures took on this device, `attention_file` what trials of the
    kernels of attention found, `rates_file` how quickly it copies and computes, all by device; empty: until the engine
    ends. `compiled_dir` keeps compiled programs; empty: torch's own folder, which may be gone at the next start.
    `runs_file` is read for how long pictures took, and written by nobody here.
    """

    output_dir: str
    device: str = "auto"
    encoders_device: str = ""
    dtype: str = "auto"
    attention: str = "auto"
    deterministic: bool = False
    threads: int = 0
    preview_interval_s: float = 0.1
    preview: str = "fast"
    filename_pattern: str = "[number]-[seed]"
    measured_file: str = ""
    attention_file: str = ""
    rates_file: str = ""
    runs_file: str = ""
    compiled_dir: str = ""
