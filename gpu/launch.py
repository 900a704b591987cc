"""Products by Triton kernels: aligner, decode or prefill, output conversion."""

import contextlib
from functools import lru_cache
from typing import Any

import torch
import triton
from torch import Tensor
from triton import knobs

from ..formats import FLOATS, Numerics
from .activations import ZERO_TOKEN
from .configs import DecodeConfig, PrefillConfig, default_decode, default_prefill
from .dtypes import BIT_DTYPES, DTYPES
from .kernel_align import align_kernel
from .kernel_decode import decode_kernel
from .kernel_output import output_kernel
from .kernel_prefill import prefill_kernel, values_kernel
from .packed import PackedWeights
from .weight_spec import WeightSpec
from .words import CHUNK

__all__ = [
    "DECODE_TOKENS",
    "default_config",
    "digit_count",
    "launch_align",
    "launch_matmul",
    "launch_sums",
    "launch_values",
]

DECODE_TOKENS = 8
"""Most tokens of the decode kernel; more go through the prefill kernels."""

_MAX_CHUNKS = 4  # of a segment: as many as are unrolled
# Columns that an int32 takes at least: two bytes' products are at most 2**14 in magnitude.
_MAX_SEGMENT = 1 << 16
_LONG_GROUP = 1024
_ALIGN_BLOCK = 1024
_OUTPUT_BLOCK = 256
_VALUES_ROWS = 128

Config = DecodeConfig | PrefillConfig


def digit_count(numerics: Numerics) -> int:
    """Return the digits of base 128 of an aligned activation, the top one signed."""
    return 1 + -(-max(numerics.aligned_width - 8, 0) // 7)


def default_config(spec: WeightSpec, tokens: int, digits: int, device: torch.device) -> Config:
    """Return what a product takes by default.

    Parameters
    ----------
    spec : WeightSpec
    tokens, digits : int
        Tokens, and digits of one; see :func:`digit_count`.
    device : torch.device
    """
    processors = _processors(device)
    if tokens <= DECODE_TOKENS:
        return default_decode(spec.rows, _segments(spec)[2], tokens * digits, processors)
    depth, steps = _depth_and_steps(spec)
    segments = spec.groups * max(spec.padded_group, CHUNK) // (depth * steps)
    return default_prefill(spec.rows, segments, tokens * digits, processors)


def launch_matmul(
    x: Tensor, weights: PackedWeights, numerics: Numerics, *, config: Config | None = None
) -> Tensor:
    """Return the product of the contract from packed weights; see :func:`matmul`.

    Parameters
    ----------
    x : tensor of the activation type, shape (M, K)
        Any strides; on a GPU, or on the processor under Triton's interpreter.
    weights : PackedWeights
        Words.
    numerics : Numerics
        With a float output.
    config : DecodeConfig or PrefillConfig, optional
        Which kernel, and how it is cut up; by default what suits the shape. No bit depends on it.

    Returns
    -------
    tensor of the output type, shape (M, N)
    """
    y = x.new_empty((x.shape[0], weights.spec.rows), dtype=DTYPES[numerics.output])
    _product(x, weights, numerics, None, config, y.view(BIT_DTYPES[numerics.output]))
    return y


def launch_sums(
    x: Tensor,
    weights: PackedWeights,
    numerics: Numerics,
    exponent: Tensor | None = None,
    *,
    config: Config | None = None,
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the exact sums, exponents and flags; see :func:`sums` and :func:`launch_matmul`."""
    y = x.new_empty((x.shape[0], weights.spec.rows), dtype=torch.int64)
    exponents, flags = _product(x, weights, numerics, exponent, config, y)
    return y, exponents, flags.view(torch.bool)


def launch_align(
    x: Tensor,
    numerics: Numerics,
    group_size: int,
    padded_group: int,
    groups: int,
    exponent: Tensor | None = None,
) -> tuple[Tensor, Tensor, Tensor]:
    """Align activations and cut them into digits.

    Parameters
    ----------
    x : tensor of the activation type, shape (M, K)
    group_size, padded_group, groups : int
        Columns of a group without and with padding; groups with padding.

    Returns
    -------
    digits : int8 tensor, shape (M, digits, groups * padded_group)
        Lowest first.
    exponent : int32 tensor, shape (M,)
    flags : uint8 tensor, shape (M,)
    """
    tokens, columns = x.shape
    digits = digit_count(numerics)
    padded_columns = groups * padded_group
    out = x.new_empty((tokens, digits, padded_columns), dtype=torch.int8)
    exponents = x.new_empty((tokens,), dtype=torch.int32)
    flags = x.new_empty((tokens,), dtype=torch.uint8)
    bits = x.contiguous()
    kind = FLOATS.get(numerics.activation)
    if kind is not None:
        bits = bits.view(BIT_DTYPES[numerics.activation])
    _run(
        align_kernel,
        (tokens,),
        bits,
        exponents if exponent is None else exponent.contiguous(),
        out,
        exponents,
        flags,
        columns,
        group_size,
        padded_group,
        padded_columns,
        IS_FLOAT=kind is not None,
        IS_EXACT=numerics.is_exact,
        IS_GIVEN=exponent is not None,
        FRACTION=kind.fraction_width if kind else 0,
        BIAS=kind.bias if kind else 0,
        INFINITY=kind.infinity if kind else 0,
        ALIGNED=numerics.aligned_width,
        ZERO_TOKEN=ZERO_TOKEN,
        DIGITS=digits,
        BLOCK=min(_ALIGN_BLOCK, triton.next_power_of_2(padded_columns)),
    )
    return out, exponents, flags


def launch_values(weights: PackedWeights) -> Tensor:
    """Return the int8 values of packed codes, for the prefill kernel.

    Returns
    -------
    int8 tensor, shape (N, P, groups * group), a group padded to 32 columns at least
        What pads groups, and planes that a group has not, is undefined.
    """
    spec = weights.spec
    plane = spec.groups * max(spec.padded_group, CHUNK)
    values = weights.tensors[2].new_empty((spec.rows, spec.sums, plane), dtype=torch.int8)
    chunks, segments_per_group, segments = _segments(spec)
    for bucket, parts in weights.buckets():
        _run(
            values_kernel,
            (-(-bucket.units // _VALUES_ROWS), segments),
            values.view(torch.int32),
            parts.words,
            parts.starts,
            parts.rows,
            parts.table_ids,
            parts.tables,
            spec.rows,
            plane // 4,
            WIDTH=bucket.code_width,
            SUMS=bucket.sums,
            ALL_SUMS=spec.sums,
            TABLES=bucket.tables,
            IS_ORDERED=spec.is_ordered,
            CHUNKS=chunks,
            SEGMENTS=segments_per_group,
            SHARED=spec.groups_per_chunk,
            ROWS=_VALUES_ROWS,
            PORTABLE=_is_portable(),
        )
    return values


def _product(
    x: Tensor,
    weights: PackedWeights,
    numerics: Numerics,
    exponent: Tensor | None,
    config: Config | None,
    y: Tensor,
) -> tuple[Tensor, Tensor]:
    """Compute into ``y``, and return exponents and flags."""
    spec = weights.spec
    tokens = x.shape[0]
    is_decode = isinstance(config, DecodeConfig) or (config is None and tokens <= DECODE_TOKENS)
    padded_group = spec.padded_group if is_decode else max(spec.padded_group, CHUNK)
    digits, exponents, flags = launch_align(
        x, numerics, spec.group_size, padded_group, spec.groups, exponent
    )
    if not tokens:
        return exponents, flags
    if config is None:
        config = default_config(spec, tokens, digits.shape[1], digits.device)
    flat = digits.view(-1, digits.shape[2])
    if isinstance(config, DecodeConfig):
        partial = _decode(flat, weights, config)
    else:
        partial = _prefill(flat, weights, config)
    _run(
        output_kernel,
        (tokens, -(-spec.rows // _OUTPUT_BLOCK)),
        partial,
        exponents,
        flags,
        *weights.tensors[:2],
        y,
        spec.rows,
        DIGITS=digits.shape[1],
        OUTPUT=numerics.output if y.dtype != torch.int64 else "int",
        QUIET_NAN=FLOATS[numerics.output].quiet_nan if y.dtype != torch.int64 else 0,
        BLOCK=_OUTPUT_BLOCK,
    )
    return exponents, flags


def _decode(digits: Tensor, weights: PackedWeights, config: DecodeConfig) -> Tensor:
    """Return the sums of each digit, int64 of shape (tokens * digits, N)."""
    spec = weights.spec
    chunks, segments_per_group, segments = _segments(spec)
    columns = digits.shape[0]
    is_shared = config.split > 1 or not spec.is_ordered
    make = torch.zeros if is_shared else torch.empty
    partial = make((columns, spec.rows), dtype=torch.int64, device=digits.device)
    for bucket, parts in weights.buckets():
        _run(
            decode_kernel,
            (-(-bucket.units // config.rows), config.split),
            partial,
            digits.view(torch.int32),
            parts.words,
            *weights.tensors[2:4],
            parts.starts,
            parts.rows,
            parts.table_ids,
            parts.tables,
            spec.rows,
            digits.shape[1] // 4,
            segments,
            columns,
            WIDTH=bucket.code_width,
            SUMS=bucket.sums,
            ALL_SUMS=spec.sums,
            TABLES=bucket.tables,
            HAS_OFFSETS=len(weights.tensors[3]) > 0,
            IS_ORDERED=spec.is_ordered,
            CHUNKS=chunks,
            SEGMENTS=segments_per_group,
            SHARED=spec.groups_per_chunk,
            COLUMNS=triton.next_power_of_2(columns),
            ROWS=config.rows,
            SPLIT=config.split,
            PORTABLE=_is_portable(),
            num_warps=config.warps,
        )
    return partial


def _prefill(digits: Tensor, weights: PackedWeights, config: PrefillConfig) -> Tensor:
    """Return the same as :func:`_decode`."""
    spec = weights.spec
    columns, plane = digits.shape
    depth, steps = _depth_and_steps(spec)
    segments = plane // (depth * steps)
    values = launch_values(weights)
    make = torch.zeros if config.split > 1 else torch.empty
    partial = make((columns, spec.rows), dtype=torch.int64, device=digits.device)
    grid = (-(-spec.rows // config.rows), -(-columns // config.columns), config.split)
    _run(
        prefill_kernel,
        grid,
        partial,
        digits,
        values,
        *weights.tensors[2:4],
        spec.rows,
        plane,
        segments,
        columns,
        SUMS=spec.sums,
        HAS_OFFSETS=len(weights.tensors[3]) > 0,
        SEGMENTS=segments // spec.groups,
        STEPS=steps,
        DEPTH=depth,
        ROWS=config.rows,
        COLUMNS=config.columns,
        SPLIT=config.split,
        num_warps=config.warps,
        num_stages=config.stages,
    )
    return partial


def _segments(spec: WeightSpec) -> tuple[int, int, int]:
    """Return the chunks of a segment, the segments of a group, and those of a row."""
    chunks_per_group = max(spec.padded_group // CHUNK, 1)
    chunks = max(n for n in range(1, _MAX_CHUNKS + 1) if chunks_per_group % n == 0)
    segments_per_group = chunks_per_group // chunks
    return chunks, segments_per_group, spec.groups // spec.groups_per_chunk * segments_per_group


def _depth_and_steps(spec: WeightSpec) -> tuple[int, int]:
    """Return the columns of a product of the tensor cores, and how many have one scale."""
    group = max(spec.padded_group, CHUNK)
    depth = next(size for size in (128, 64, 32) if group % size == 0)
    # Long groups are scaled once and not with every product, if an int32 holds their dot product.
    return depth, group // depth if _LONG_GROUP <= group <= _MAX_SEGMENT else 1


def _run(kernel: Any, grid: tuple[int, ...], *arguments: Any, **constants: Any) -> None:
    """Launch a kernel on the device of its first argument."""
    if 0 in grid:
        return
    device = arguments[0].device
    # Kernels are launched on the current GPU, wherever their arguments are.
    current = torch.cuda.device(device) if device.type == "cuda" else contextlib.nullcontext()
    with current:
        # Floats are multiplied and never added, but a compiler that may fuse is a question more.
        kernel[grid](*arguments, **constants, enable_fp_fusion=False)


def _is_portable() -> bool:
    """Whether there is no PTX: in the interpreter, and on GPUs of other makers."""
    return knobs.runtime.interpret or torch.version.hip is not None


@lru_cache
def _processors(device: torch.device) -> int:
    if device.type != "cuda":
        return 1
    return torch.cuda.get_device_properties(device).multi_processor_count
