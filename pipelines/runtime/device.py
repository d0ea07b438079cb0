"""Where the computing happens: choice of device and precision, free memory, what a device's errors mean.

AMD's cards are 'cuda' in a torch that was built for ROCm. XPU, MPS and DirectML have never run here: what is written
for them follows torch's and torch_directml's documents.
"""

from __future__ import annotations

import gc
import importlib
import traceback
from collections.abc import Iterator, Mapping
from typing import Any

import psutil
import torch

from pipelines.library.machine import processor
from pipelines.library.single_file import widened
from pipelines.runtime.precision import Precision
from pipelines.spec.devices import KNOWN
from pipelines.spec.errors import EngineError
from pipelines.spec.machine import Option
from pipelines.spec.memory import Room
from pipelines.spec.record import ModelRecord

_DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}
_SHARE = 0.75  # of the free memory that weights in float32 may take; a picture and the system need the rest
_DIRECT_ML = "directml"
# Cards of NVIDIA, AMD (ROCm) and Intel: torch counts their memory by functions of the same names.
_WITH_MEMORY: Mapping[str, Any] = {"cuda": torch.cuda, "xpu": torch.xpu}
_BF16_FILES = frozenset({"bf16", "bfloat16"})


def choose(wanted: str) -> torch.device:
    """`EngineOptions.device` as a device that answers. Raises EngineError naming the wanted one."""
    if wanted == "auto":
        return _first_that_works("cuda", "xpu", "mps")
    try:
        device = _direct_ml(wanted) if wanted.startswith(_DIRECT_ML) else torch.device(wanted)
    except RuntimeError as error:
        raise EngineError(f"There is no device '{wanted}'.", f"Known: {KNOWN}.") from error
    if not _works(device):
        raise EngineError(f"The device '{wanted}' does not answer.", "Choose 'auto' or 'cpu'.")
    return device


def _first_that_works(*names: str) -> torch.device:
    return next((d for name in names if _works(d := torch.device(name))), torch.device("cpu"))


def _direct_ml(wanted: str) -> torch.device:
    """'directml' or 'directml:1', by the package of Microsoft. Raises EngineError where it is not there."""
    try:
        package = importlib.import_module("torch_directml")
    except Exception as error:  # built for another torch: any error at all
        text = (
            f"The device '{wanted}' needs the package torch-directml, which cannot be loaded here ({error})."
        )
        raise EngineError(text, "Choose 'auto' or 'cpu'.") from error
    number = wanted.removeprefix(_DIRECT_ML).removeprefix(":")
    if int(number or 0) >= package.device_count():
        raise EngineError(f"The device '{wanted}' is not there.", "Choose 'auto' or 'cpu'.")
    return package.device(int(number)) if number else package.device()


def options() -> tuple[Option, ...]:
    """The devices of this computer, by the ids that `choose` takes, the processor last."""
    return (*_cards(), Option(id="cpu", title=processor()))


def _cards() -> Iterator[Option]:
    for kind, module in _WITH_MEMORY.items():
        for number in range(module.device_count() if module.is_available() else 0):
            name = f"{kind}:{number}"
            yield Option(id=name, title=str(module.get_device_name(number)))
    if torch.backends.mps.is_available():
        yield Option(id="mps", title="Apple GPU")
    try:
        package = importlib.import_module(f"torch_{_DIRECT_ML}")
    except Exception:  # mostly it is not installed
        return
    for number in range(package.device_count()):
        yield Option(id=f"{_DIRECT_ML}:{number}", title=str(package.device_name(number)))


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
    native_bf16 = _computes_bfloat16(device)
    bf16 = {file_dtype.lower(), half} & _BF16_FILES
    return torch.bfloat16 if native_bf16 and bf16 else torch.float16


def _computes_bfloat16(device: torch.device) -> bool:
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= (8, 0)
    return device.type == "xpu" and torch.xpu.is_bf16_supported()


def computes_in(device: torch.device, dtype: torch.dtype) -> bool:
    """Whether the device has the arithmetic; without it a processor takes ten times as long as in float32."""
    if device.type != "cpu" or dtype not in (torch.float16, torch.bfloat16):
        return True
    kernels = torch.ops.mkldnn
    return bool(
        kernels._is_mkldnn_bf16_supported()
        if dtype is torch.bfloat16
        else kernels._is_mkldnn_fp16_supported()
    )


def precision(device: torch.device, wanted: str, record: ModelRecord, half: str, free: int) -> Precision:
    """`EngineOptions.dtype` resolved for a model: how its weights lie in memory, and how they compute.

    Weights in 8 bits stay so where the device's own precision would take most of the `free` bytes. On the CPU a model
    whose weights take as much in float32 stays in the half precision of its file.
    Raises EngineError for an unknown `wanted`.
    """
    dtype = compute_dtype(device, wanted, record.dtype, half)
    packed = widened(record.quantisation)
    if wanted == "auto" and record.dtype.startswith("float8") and not packed:
        keeps = dtype.itemsize * record.size_bytes > _SHARE * free
        return Precision(compute=dtype, storage=dtype, keeps_fp8=keeps)
    if not computes_in(device, dtype):
        return Precision(compute=torch.float32, storage=dtype)
    own = torch.bfloat16 if packed else _DTYPES.get(record.dtype)
    large = (4 * record.parameters if packed else 2 * record.size_bytes) > _SHARE * free
    if wanted == "auto" and device.type == "cpu" and large and own in (torch.float16, torch.bfloat16):
        return Precision(compute=torch.float32, storage=own)
    return Precision(compute=dtype, storage=dtype)


def free_bytes(device: torch.device) -> int:
    """What a new tensor may take without pushing something out.

    DirectML tells of no memory: there it is what is free of the RAM, and a card that is full says so by its error.
    """
    if stats := memory_of(device):
        return stats.mem_get_info(device)[0] + stats.memory_reserved(device) - stats.memory_allocated(device)
    if device.type == "mps":
        most = torch.mps.recommended_max_memory() - torch.mps.current_allocated_memory()
        return max(0, min(most, psutil.virtual_memory().available))
    return psutil.virtual_memory().available


def memory_of(device: torch.device) -> Any:
    """The module of torch that counts the memory of the device, such as torch.cuda; None where none does."""
    return _WITH_MEMORY.get(device.type)


def bytes_of(part: Any, device: torch.device | None = None) -> int:
    """Of the weights in a network, a tensor, or a mapping of those; only of what lies on `device` where it is given."""
    if isinstance(part, torch.Tensor):
        return part.nbytes if device is None or part.device == device else 0
    if isinstance(part, torch.nn.Module):
        return sum(bytes_of(tensor, device) for tensor in (*part.parameters(), *part.buffers()))
    if isinstance(part, Mapping):
        return sum(bytes_of(value, device) for value in part.values())
    return 0


def name_of(device: torch.device) -> str:
    """As its maker calls it."""
    if stats := memory_of(device):
        return stats.get_device_name(device)
    if device.type == "privateuseone":
        return importlib.import_module("torch_directml").device_name(device.index or 0)
    return processor()


def room_of(device: torch.device) -> Room | None:
    """Memory of its own; None for a device that computes in RAM."""
    stats = memory_of(device)
    if stats is None:
        return None
    free, total = stats.mem_get_info(device)
    return Room(total=total, free=free, ours=stats.memory_reserved(device))


def release(device: torch.device) -> None:
    """Gives unused memory back to the system, for the next job and for other programs."""
    gc.collect()
    if stats := memory_of(device):
        stats.empty_cache()
    elif device.type == "mps":
        torch.mps.empty_cache()


_OOM_TEXTS = ("out of memory", "can't allocate memory", "not enough memory", "not enough gpu video memory")


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
