"""What a device is asked before it is trusted: an adversarial set, compared bit by bit."""

import warnings
from collections.abc import Callable, Iterator
from dataclasses import replace

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from ..formats import FLOATS, FloatType, NumberFormat, Numerics, QuantizedMatrix
from .arrays import from_numpy
from .dtypes import BIT_DTYPES, DTYPES
from .op import matmul
from .packed import PackedWeights

__all__ = ["adversarial_layers", "check_fallback", "device_fault", "find_fault"]

_ROWS = 67
_GROUP = 64  # longest group of a test layer
_TAIL = 13
_NUMERICS = (
    Numerics(activation="float32", act_width=24),
    Numerics(activation="float16", act_width=16, output="float16"),
    Numerics(activation="bfloat16", act_width=8, output="bfloat16"),
    Numerics(activation="int8", act_width=8),
)

Product = Callable[[Tensor, PackedWeights, Numerics], Tensor]

# What was found, by device, formats and layout.
_faults: dict[tuple, str] = {}


def device_fault(matrix: QuantizedMatrix, device: torch.device) -> str:
    """Return why the kernels are not to be used for a layer's formats there, or nothing.

    Runs the test once for each device and set of formats in a process, and warns of what it finds.

    Parameters
    ----------
    matrix : QuantizedMatrix
        The layer.
    device : torch.device
        A GPU.
    """
    key = _key(matrix, device, "words")
    if key not in _faults:
        from .launch import launch_matmul  # needs triton

        fault = find_fault(matrix, device, launch_matmul, PackedWeights.words)
        if fault:
            name = _name(device)
            warnings.warn(
                f"The kernels of lutra.gpu failed their self-test on {name}: {fault}; "
                f"exact float64 products are used there instead",
                RuntimeWarning,
                stacklevel=2,
            )
            fault = f"the self-test failed on {name}: {fault}"
        _faults[key] = fault
    return _faults[key]


def check_fallback(matrix: QuantizedMatrix, device: torch.device) -> None:
    """Put the exact float64 products of a device to the same test.

    Raises
    ------
    :exc:`RuntimeError`
        If they fail: nothing right is left there.
    """
    key = _key(matrix, device, "dense")
    if key not in _faults:
        _faults[key] = find_fault(matrix, device, matmul, PackedWeights.dense)
    if _faults[key]:
        raise RuntimeError(
            f"Float64 products are wrong on {_name(device)}, so nothing can be computed there; "
            f"use cpu ({_faults[key]})"
        )


def find_fault(
    matrix: QuantizedMatrix,
    device: torch.device,
    product: Product,
    derive: Callable[[QuantizedMatrix], PackedWeights],
) -> str:
    """Compare a product with that of the processor over an adversarial set.

    Parameters
    ----------
    matrix : QuantizedMatrix
        Its formats and group size are tried.
    device : torch.device
        Where the product computes.
    product : callable
        As :func:`launch_matmul` or :func:`matmul`.
    derive : callable
        The layout that the product takes.

    Returns
    -------
    str
        The first difference or failure, in words; nothing if all bits are equal.
    """
    for case, layer in adversarial_layers(matrix).items():
        dense = PackedWeights.dense(layer)
        for numerics in _NUMERICS:
            x = from_numpy(_tokens(numerics, layer.columns)).view(DTYPES[numerics.activation])
            expected = _bits(matmul(x, dense, numerics), numerics)
            for tokens in (x[:3], x):  # either kernel
                what = f"{case} with {numerics.activation}, {len(tokens)} tokens"
                try:
                    y = product(tokens.to(device), derive(layer).to(device), numerics).cpu()
                except Exception as error:  # whatever it is, the device is not to be trusted
                    return f"{what}: {type(error).__name__}: {error}"
                differ = int((_bits(y, numerics) != expected[: len(tokens)]).sum())
                if differ:
                    return f"{what}: {differ} of {y.numel()} outputs have other bits"
    return ""


def _key(matrix: QuantizedMatrix, device: torch.device, layout: str) -> tuple:
    group_size = min(matrix.group_size, _GROUP)
    return (_index(device), matrix.members, group_size, matrix.scale_width, layout)


def _index(device: torch.device) -> int:
    return torch.cuda.current_device() if device.index is None else device.index


def _name(device: torch.device) -> str:
    index = _index(device)
    return f"{torch.cuda.get_device_name(index)} (cuda:{index})"


def adversarial_layers(matrix: QuantizedMatrix) -> dict[str, QuantizedMatrix]:
    """Return small layers of a layer's formats, by what their weights are.

    Parameters
    ----------
    matrix : QuantizedMatrix
        Gives formats, scale width and, as far as it is short, group size.
    """
    rng = np.random.default_rng(1)
    group_size = min(matrix.group_size, matrix.columns, _GROUP)
    columns = 2 * group_size + min(_TAIL, group_size - 1)
    groups = -(-columns // group_size)
    format_ids = rng.integers(0, len(matrix.members), (_ROWS, groups), dtype=np.uint8)
    widths = np.array([item.code_width for item in matrix.members])[format_ids]
    has_zero = np.array([item.has_zero_point for item in matrix.members])[format_ids]
    counts = np.array([item.scale_count for item in matrix.members])
    limit = (1 << matrix.scale_width) - 1
    scales = rng.integers(-limit, limit + 1, (_ROWS, groups, counts.max()), dtype=np.int32)
    is_used = np.arange(counts.max()) < counts[format_ids][..., None]
    masks = np.repeat((1 << widths) - 1, group_size, axis=1)[:, :columns]
    zeros = rng.integers(0, 256, widths.shape) & ((1 << widths) - 1)
    random = QuantizedMatrix(
        members=matrix.members,
        group_size=group_size,
        codes=(rng.integers(0, 256, (_ROWS, columns)) & masks).astype(np.uint8),
        format_ids=format_ids,
        scales=np.where(is_used, scales, 0).astype(np.int32),
        zeros=np.where(has_zero, zeros, 0).astype(np.uint8),
        row_scales=_row_scales(rng),
        scale_width=matrix.scale_width,
    )
    # Codes farthest apart in each format, with the largest scales.
    ends = np.array([_extreme_codes(item) for item in matrix.members], dtype=np.uint8)
    high, low = random.expand(ends[format_ids, 1]), random.expand(ends[format_ids, 0])
    extreme = replace(
        random,
        codes=np.ascontiguousarray(high),
        scales=np.where(is_used, limit, 0).astype(np.int32),
        zeros=np.where(has_zero, ends[format_ids, 0], 0).astype(np.uint8),
    )
    odd = np.arange(columns) % 2 == 1
    return {
        "random weights": random,
        "all-extreme weights": extreme,
        "alternating weights": replace(extreme, codes=np.where(odd, low, high)),
    }


def _extreme_codes(item: NumberFormat) -> tuple[int, int]:
    table = item.weight_table(np.ones(item.scale_count, dtype=np.int64))
    return int(table.argmin()), int(table.argmax())


def _row_scales(rng: np.random.Generator) -> npt.NDArray[np.float32]:
    bits = rng.integers(0, FLOATS["float32"].infinity, _ROWS, dtype=np.uint32)
    bits |= rng.integers(0, 2, _ROWS, dtype=np.uint32) << np.uint32(31)
    bits[:6] = 0, 1 << 31, 1, 0x807FFFFF, 0x3F800000, 0x3FFFFFFF  # zeros, subnormals, 1, below 2
    bits[6:40] = bits[6:40] & 0x807FFFFF | 0x3C000000  # and many that keep outputs in range
    return bits.view(np.float32)


def _tokens(numerics: Numerics, columns: int) -> npt.NDArray[np.signedinteger]:
    """Return the bits of tokens that try a product hardest; more of them than a decode takes."""
    if not numerics.is_float:
        rng = np.random.default_rng(2)
        alternating = np.where(np.arange(columns) % 2, 127, -128)
        fixed = [np.full(columns, -128), alternating, np.full(columns, 127), np.zeros(columns)]
        return np.stack([*fixed, *rng.integers(-128, 128, (29, columns))]).astype(np.int8)
    patterns = list(_float_patterns(numerics.float_type, numerics.aligned_width, columns))
    return np.stack(patterns).astype(f"i{numerics.element_width // 8}")


def _float_patterns(
    kind: FloatType, aligned_width: int, columns: int
) -> Iterator[npt.NDArray[np.int64]]:
    rng = np.random.default_rng(3)
    sign = 1 << (kind.width - 1)
    one = kind.bias << kind.fraction_width
    largest = kind.infinity - 1
    place = np.arange(columns)
    signs = sign * (place % 2)
    yield np.full(columns, one | ((1 << kind.fraction_width) - 1))  # rounds up to the limit
    yield np.full(columns, largest) | signs
    yield np.where(place == 0, kind.infinity, rng.integers(0, kind.infinity, columns))
    yield np.where(place == columns - 1, sign | kind.quiet_nan, one)
    yield np.zeros(columns, dtype=np.int64) | signs
    yield np.where(place == columns - 1, 1, 0)  # one subnormal
    yield rng.integers(1, 1 << kind.fraction_width, columns) | signs
    # Ties of the rounding: odd halves of a step beside an element that sets it.
    half = max(one - (aligned_width - 1 << kind.fraction_width), 0)
    yield np.where(place == 0, one, half | signs)
    for _ in range(9):
        near = one + rng.integers(-8 << kind.fraction_width, 8 << kind.fraction_width, columns)
        yield near | sign * rng.integers(0, 2, columns)
    for _ in range(16):
        yield rng.integers(0, kind.infinity, columns) | sign * rng.integers(0, 2, columns)


def _bits(y: Tensor, numerics: Numerics) -> Tensor:
    return y.view(BIT_DTYPES[numerics.output])
