"""What a device is asked before it is trusted: an adversarial set, compared bit by bit."""

import warnings
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from ..formats import FLOATS, FloatType, NumberFormat, Numerics, QuantizedMatrix
from .arrays import from_numpy
from .dtypes import BIT_DTYPES, DTYPES, dtype_name
from .op import check_sum_width, matmul
from .op import sums as exact_sums
from .packed import PackedWeights

__all__ = ["adversarial_layers", "check_fallback", "device_fault", "find_fault"]

_ROWS = 67
_GROUP = 1024  # longest group of a test layer; kernels only repeat themselves for longer ones
_TAIL = 13
# Numerics, and how many tokens: every count of digits (4, 3, 2, 1, 1, 6), so that by default every
# width of a decode (1 to 64 columns of digits) and of a prefill tile (16 to 64) has its turn.
_CASES = (
    (Numerics(activation="float32", act_width=24), (1, 8, 33)),
    (Numerics(activation="float16", act_width=16, output="float16"), (3, 33)),
    (Numerics(activation="float16", act_width=15), (4, 9)),
    (Numerics(activation="bfloat16", act_width=8, output="bfloat16"), (1, 9)),
    (Numerics(activation="int8", act_width=8), (2, 33)),
    (Numerics(activation="float16", act_width="exact"), (8,)),
)
_SUMS_NUMERICS = _CASES[0][0]
_OTHER_SPLIT = (1, 9)  # counts of tokens with a split that is not the layer's

Product = Callable[[Tensor, PackedWeights, Numerics], Tensor]
Sums = Callable[[Tensor, PackedWeights, Numerics], tuple[Tensor, Tensor, Tensor]]

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
        from .launch import launch_matmul, launch_sums  # needs triton

        fault = find_fault(
            matrix,
            device,
            _as_layer(matrix, launch_matmul),
            PackedWeights.words,
            sums=_as_layer(matrix, launch_sums),
        )
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
        _faults[key] = find_fault(matrix, device, matmul, PackedWeights.dense, sums=_fallback_sums)
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
    *,
    sums: Sums | None = None,
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
    sums : callable, optional
        As :func:`launch_sums`; tried too.

    Returns
    -------
    str
        The first difference or failure, in words; nothing if all bits are equal.
    """
    for case, layer in adversarial_layers(matrix).items():
        dense = PackedWeights.dense(layer)
        for numerics, counts in _CASES:
            if _is_too_wide(dense, numerics):
                continue
            x = from_numpy(_tokens(numerics, layer.columns)).view(DTYPES[numerics.activation])
            runs = [(product, count, "") for count in counts]
            if sums is not None and numerics == _SUMS_NUMERICS:
                runs += [(sums, count, "sums of ") for count in counts]
            for run, count, name in runs:
                what = f"{case} with {numerics.activation}, {name}{count} tokens"
                tokens = x[:count]
                try:
                    seen = run(tokens.to(device), derive(layer).to(device), numerics)
                    parts = seen if isinstance(seen, tuple) else (seen,)
                    found = [part.cpu() for part in parts]
                except Exception as error:  # whatever it is, the device is not to be trusted
                    return f"{what}: {type(error).__name__}: {error}"
                right = exact_sums(tokens, dense, numerics, check=False) if name else None
                expected = right or (matmul(tokens, dense, numerics),)
                pairs = zip(found, expected, strict=True)
                differ = sum(int((_bits(y) != _bits(z)).sum()) for y, z in pairs)
                if differ:
                    size = sum(part.numel() for part in found)
                    return f"{what}: {differ} of {size} outputs have other bits"
    return ""


def _fallback_sums(
    x: Tensor, weights: PackedWeights, numerics: Numerics
) -> tuple[Tensor, Tensor, Tensor]:
    return exact_sums(x, weights, numerics, check=False)


def _as_layer(matrix: QuantizedMatrix, launch: Callable[..., Any]) -> Callable[..., Any]:
    """Return a launch with the configurations that the layer gets by default.

    Small layers have others of their own. One more split, or one less, takes the other way to
    write sums; which is taken where a row has only one program.
    """
    from .launch import default_config, digit_count

    def run(x: Tensor, weights: PackedWeights, numerics: Numerics) -> Any:
        whole = replace(weights.spec, rows=matrix.rows, columns=matrix.columns)
        config = default_config(whole, len(x), digit_count(numerics), x.device)
        if len(x) in _OTHER_SPLIT:
            config = replace(config, split=2 if config.split == 1 else 1)
        return launch(x, weights, numerics, config=config)

    return run


def _is_too_wide(weights: PackedWeights, numerics: Numerics) -> bool:
    try:
        check_sum_width(weights.spec.row_sum, numerics)
    except ValueError:
        return True
    return False


def _key(matrix: QuantizedMatrix, device: torch.device, layout: str) -> tuple:
    """Return all that decides which kernels a layer has; the split only bounds their loops."""
    return (
        _index(device),
        matrix.members,
        tuple(_used_members(matrix)),
        _group_size(matrix),
        matrix.groups == 1,
        matrix.scale_width,
        matrix.rows >= 4096,  # from which on tiles of a prefill are larger
        layout,
    )


def _group_size(matrix: QuantizedMatrix) -> int:
    return min(matrix.group_size, matrix.columns, _GROUP)


def _used_members(matrix: QuantizedMatrix) -> list[int]:
    return np.unique(matrix.format_ids).tolist()


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
        Gives the formats that it uses, scale width and, up to 1024, group size.
    """
    rng = np.random.default_rng(1)
    group_size = _group_size(matrix)
    # The only group of a row is laid out in another way than the first of several.
    several = 2 * group_size + min(_TAIL, group_size - 1)
    columns = group_size if matrix.groups == 1 and matrix.columns <= _GROUP else several
    groups = -(-columns // group_size)
    format_ids = rng.choice(_used_members(matrix), (_ROWS, groups)).astype(np.uint8)
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


def _bits(y: Tensor) -> Tensor:
    name = dtype_name(y.dtype)
    return y.view(BIT_DTYPES[name]) if name in BIT_DTYPES else y
