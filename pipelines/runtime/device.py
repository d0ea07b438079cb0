"""Where the computing happens: choice of device and precision, free memory, what a device's errors mean."""

from __future__ import annotations

import gc
import traceback

import psutil
import torch

from pipelines.spec.errors import EngineError

_DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}
_BF16_FILES = frozenset({"bf16", "bfloat16"})


def choose(wanted: str) -> torch.device:
    """`EngineOptions.device` as a device that answers. Raises EngineError naming the wanted one."""
    if wanted == "auto":
        return _first_that_works("cuda", "mps")
    try:
        device = torch.device(wanted)
    except RuntimeError as error:
        raise EngineError(
            f"There is no device '{wanted}'.", "Known: auto, cpu, cuda, cuda:0, mps."
        ) from error
    if not _works(device):
        raise EngineError(f"The device '{wanted}' does not answer.", "Choose 'auto' or 'cpu'.")
    return device


def _first_that_works(*names: str) -> torch.device:
    return next((d for name in names if _works(d := torch.device(name))), torch.device("cpu"))


def _works(device: torch.device) -> bool:
    """A build without the device and a driver that is gone both show only when something is run on it."""
    try:
        return bool((torch.ones(2, device=device) + 1).sum().item() == 4)
    except (RuntimeError, AssertionError, NotImplementedError):
        return False


def compute_dtype(
    device: torch.device, wanted: str, file_dtype: str = "", half: str = "float16"
) -> torch.dtype:
    """`EngineOptions.dtype` resolved: on the CPU float32, elsewhere the file's own half precision or float16.

    `file_dtype` as in `ModelRecord.dtype`, `half` as in `Family`: weights that were made for bfloat16 overflow in
    float16, whatever the file holds, so it goes first where the device has it.
    Raises EngineError for an unknown `wanted`.
    """
    if wanted != "auto":
        if wanted not in _DTYPES:
            raise EngineError(f"There is no precision '{wanted}'.", f"Known: auto, {', '.join(_DTYPES)}.")
        return _DTYPES[wanted]
    if device.type == "cpu":
        return torch.float32
    native_bf16 = device.type == "cuda" and torch.cuda.get_device_capability(device) >= (8, 0)
    bf16 = {file_dtype.lower(), half} & _BF16_FILES
    return torch.bfloat16 if native_bf16 and bf16 else torch.float16


def free_bytes(device: torch.device) -> int:
    """What a new tensor may take without pushing something out."""
    if device.type == "cuda":
        cached = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return torch.cuda.mem_get_info(device)[0] + cached
    return psutil.virtual_memory().available


def release(device: torch.device) -> None:
    """Gives unused memory back to the system, for the next job and for other programs."""
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()
    elif device.type == "mps":
        torch.mps.empty_cache()


_OOM_TEXTS = ("out of memory", "can't allocate memory", "not enough memory")


def is_out_of_memory(error: BaseException) -> bool:
    """The CPU allocator and the CUDA runtime tell it by plain RuntimeErrors, only their text differs."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return isinstance(error, RuntimeError) and any(text in str(error).lower() for text in _OOM_TEXTS)


def is_lost(error: BaseException) -> bool:
    """A device error that every later call in this process will repeat."""
    return isinstance(error, torch.AcceleratorError) and not is_out_of_memory(error)


def forget_frames(error: BaseException) -> None:
    """Lets go of the tensors that the error's traceback would keep alive."""
    traceback.clear_frames(error.__traceback__)
