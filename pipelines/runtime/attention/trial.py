"""Tries each attention kernel on the device: whether it runs there, answers right, repeats itself, and how quick it is.

That a package is installed proves nothing: its kernels may be built for another card, or not take the head size.
"""

from __future__ import annotations

import ctypes
import sys
import time
import warnings
from collections.abc import Sequence
from dataclasses import replace
from importlib import metadata
from statistics import median

import torch

from pipelines.runtime import device as devices
from pipelines.runtime.attention.kernels import KERNELS, OWN, Kernel, Run, is_refusal
from pipelines.spec.attention import Shape, Tried

NO_MEMORY = "it ran out of memory"  # which another time may be there
_ROUNDS = 5
_ROWS = 64  # queries whose answer is held against math in float32
_TEXT = 77  # tokens of a prompt, which U-Nets attend to as well
_TOLERANCE = {
    torch.float32: 1e-4,
    torch.float16: 5e-3,
    torch.bfloat16: 2e-2,
}  # of the spread of the right answer
_PACKAGES = ("xformers", "sageattention")

Tensors = tuple[torch.Tensor, torch.Tensor, torch.Tensor]


def shape_on(device: torch.device, dtype: torch.dtype, width: int, tokens: int) -> Shape:
    """Where kernels are tried for that many tokens: at the next power of two, as far as that is cheap on the device.

    On the CPU the ranks are the same from 64 tokens to 4096; on a card they settle once it has enough to do.
    """
    most = 256 if device.type == "cpu" else 4096
    return Shape(
        device=devices.name_of(device),
        versions=versions(device),
        dtype=str(dtype).removeprefix("torch."),
        width=width,
        tokens=min(most, 1 << max(4, (tokens - 1).bit_length())),
    )


def versions(device: torch.device) -> str:
    """Of all that can change what a trial finds."""
    found = [f"torch {torch.__version__}"]
    if device.type == "cuda":
        cudnn = torch.backends.cudnn.version()
        found.append(
            f"hip {torch.version.hip}" if torch.version.hip else f"driver {_driver()}, cudnn {cudnn}"
        )
    for package in _PACKAGES:
        try:
            found.append(f"{package} {metadata.version(package)}")
        except metadata.PackageNotFoundError:
            continue
    return ", ".join(found)


def _driver() -> int:
    """The CUDA that NVIDIA's driver has, as 12080; 0 where it does not say. Torch has no function for it."""
    version = ctypes.c_int()
    try:
        library = ctypes.CDLL("nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1")
        library.cuDriverGetVersion(ctypes.byref(version))
    except OSError:
        return 0
    return version.value


def tried(device: torch.device, dtype: torch.dtype, shape: Shape) -> tuple[Tried, ...]:
    """Torch's own choice first, then each row of `KERNELS`. Raises what a device raises that is lost."""
    found = {kernel.id: Tried(id=kernel.id, why=kernel.lacks(device)) for kernel in KERNELS}
    able = [kernel for kernel in KERNELS if not found[kernel.id].why]
    if not able:
        return (Tried(id=""), *found.values())
    given = {keys: _inputs(device, dtype, shape, keys) for keys in (shape.tokens, _TEXT)}
    own = Kernel(id="", run=_own, lacks=lambda device: "")
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch warns of each reason why a kernel cannot take a shape
        answers = [_own(*each) for each in given.values()]
        found |= {each.id: _checked(each, list(given.values()), answers) for each in (own, *able)}
        running = [each for each in (own, *able) if not found[each.id].why]
        times = _times([each.run for each in running], device, given[shape.tokens])
    for kernel, ms in zip(running, times, strict=True):
        found[kernel.id] = replace(found[kernel.id], ms=ms)
    return (found.pop(""), *found.values())


def _own(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, scale: float | None = None
) -> torch.Tensor:
    return OWN(query, key, value, scale=scale)


def _inputs(device: torch.device, dtype: torch.dtype, shape: Shape, keys: int) -> Tensors:
    """[1, heads, tokens or keys, width]; spread so that some keys count more than others."""
    heads = 2 if device.type == "cpu" else 8
    numbers = torch.Generator().manual_seed(keys)
    query, key, value = (
        torch.randn(1, heads, tokens, shape.width, generator=numbers) for tokens in (shape.tokens, keys, keys)
    )
    return (2 * query).to(device, dtype), key.to(device, dtype), value.to(device, dtype)


def _checked(kernel: Kernel, given: Sequence[Tensors], own: Sequence[torch.Tensor]) -> Tried:
    """`own` are the answers of torch's own choice."""
    width = given[0][0].shape[-1]
    repeats = same = True
    try:
        for tensors, answer in zip(given, own, strict=True):
            first, second = kernel.run(*tensors, None), kernel.run(*tensors, None)
            if why := _wrong(first, tensors, kernel.loose * _TOLERANCE.get(first.dtype, 2e-2)):
                return Tried(id=kernel.id, why=why)
            repeats &= torch.equal(first, second)
            same &= torch.equal(first, answer)
    except Exception as error:  # of a library that was built for another card, or a shape that it cannot take
        if devices.is_lost(error):
            raise
        return Tried(id=kernel.id, why=_words(error, width))
    return Tried(id=kernel.id, repeats=repeats, own=same)


def _wrong(answer: torch.Tensor, given: Tensors, most: float) -> str:
    """How far the answer is off where it is off too far, against math in float32."""
    query, key, value = (each.float() for each in given)
    rows = slice(None, None, max(1, query.shape[2] // _ROWS))
    weights = (query[:, :, rows] @ key.transpose(2, 3) * query.shape[3] ** -0.5).softmax(-1)
    right = weights @ value
    if answer.shape != query.shape:
        return f"it answers with the shape {tuple(answer.shape)}"
    off = float((answer[:, :, rows].float() - right).square().mean().sqrt() / right.square().mean().sqrt())
    return "" if off <= most else f"it answers wrong, by {off:.1%} where {most:.2%} is rounding"


def _words(error: Exception, width: int) -> str:
    if devices.is_out_of_memory(error):
        return NO_MEMORY
    if is_refusal(error):
        return f"it cannot take heads of {width} numbers in this precision on this device"
    text = " ".join(str(error).split())[:120]
    return f"it failed at heads of {width} numbers ({type(error).__name__}: {text})"


def _times(runs: Sequence[Run], device: torch.device, given: Tensors) -> list[float]:
    """The median of each in milliseconds, in turns and from another one on each time, so that what else the machine
    does hits all alike.
    """
    taken: list[list[float]] = [[] for _ in runs]
    for turn in range(_ROUNDS):
        for at in range(len(runs)):
            which = (turn + at) % len(runs)
            _wait(device)
            start = time.perf_counter()
            runs[which](*given, None)
            _wait(device)
            taken[which].append((time.perf_counter() - start) * 1e3)
    return [median(times) for times in taken]


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
