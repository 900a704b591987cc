"""More small random checkpoints of other tools' formats, of containers other than safetensors too.

As in ``sample_checkpoints.py``, from the formats' definitions; nothing is shared with what imports
them. Weights are float32 of the formats' formulas, computed in float64.
"""

import json
import struct
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import numpy.typing as npt

from .sample_checkpoints import (
    SAMPLES,
    SampleCheckpoint,
    pack_words,
    random_scales,
    write_safetensors,
)

__all__ = [
    "ALL_SAMPLES",
    "MORE_SAMPLES",
    "write_anybcq",
    "write_bitnet",
    "write_gguf",
    "write_hqq",
    "write_lut_gemm",
    "write_squeezellm",
]

_Values = npt.NDArray[np.float64]
_GGUF_ALIGNMENT = 32
_GGUF_TYPES = {"F32": 0, "Q4_0": 2, "Q8_0": 8, "Q4_K": 12, "Q6_K": 14}
# Codes of a byte or a word, the bits of each and the type, by HQQ's names.
_HQQ_PACKINGS = {
    8: ("8bit_u8", 1, 8, np.uint8),
    6: ("8bit_u8", 1, 8, np.uint8),
    5: ("8bit_u8", 1, 8, np.uint8),
    4: ("4bit_u8", 2, 4, np.uint8),
    3: ("3bit_32", 10, 3, np.int32),
    2: ("2bit_u8", 4, 2, np.uint8),
    1: ("1bit_u8", 8, 1, np.uint8),
}


def write_gguf(folder: Path, rng: np.random.Generator) -> SampleCheckpoint:
    """Write a GGUF file with a layer of Q4_0, one of Q8_0 with a bias, one of Q4_K and of Q6_K."""
    made = {
        "blk.0.attn_q": ("Q4_0", *_q4_0(rng, 4, 3)),
        "blk.0.attn_k": ("Q8_0", *_q8_0(rng, 3, 2)),
        "blk.0.ffn_up": ("Q4_K", *_q4_k(rng, 2, 2)),
        "blk.0.ffn_down": ("Q6_K", *_q6_k(rng, 3, 1)),
    }
    bias = rng.standard_normal(3).astype(np.float32)
    tensors = [
        (f"{name}.weight", kind, weights.shape[::-1], data)
        for name, (kind, weights, data) in made.items()
    ]
    tensors += [
        ("blk.0.attn_k.bias", "F32", (3,), bias.tobytes()),
        ("output_norm.weight", "F32", (5,), np.ones(5, np.float32).tobytes()),
    ]
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "model.gguf"
    path.write_bytes(_gguf(tensors))
    return SampleCheckpoint(
        path,
        {name: weights.astype(np.float32) for name, (_, weights, _) in made.items()},
        {"blk.0.attn_k": bias},
        ("output_norm.weight",),
    )


def _gguf(tensors: list[tuple[str, str, tuple[int, ...], bytes]]) -> bytes:
    """Lay out a file of version 3 with some metadata of every kind."""
    pairs = [
        _gguf_text("general.architecture") + struct.pack("<I", 8) + _gguf_text("llama"),
        _gguf_text("general.alignment") + struct.pack("<II", 4, _GGUF_ALIGNMENT),
        _gguf_text("llama.scale") + struct.pack("<Id", 12, 0.5),
        _gguf_text("a.list") + struct.pack("<IIQ", 9, 8, 2) + _gguf_text("x") + _gguf_text("yz"),
        _gguf_text("b.list") + struct.pack("<IIQ3h", 9, 3, 3, 1, 2, 3),
    ]
    head = struct.pack("<4sIQQ", b"GGUF", 3, len(tensors), len(pairs)) + b"".join(pairs)
    body = b""
    for name, kind, shape, data in tensors:
        body += bytes(-len(body) % _GGUF_ALIGNMENT)
        head += _gguf_text(name) + struct.pack(f"<I{len(shape)}Q", len(shape), *shape)
        head += struct.pack("<IQ", _GGUF_TYPES[kind], len(body))
        body += data
    return head + bytes(-len(head) % _GGUF_ALIGNMENT) + body


def _gguf_text(text: str) -> bytes:
    return struct.pack("<Q", len(text.encode())) + text.encode()


def _q4_0(rng: np.random.Generator, rows: int, blocks: int) -> tuple[_Values, bytes]:
    """Sixteen bytes a block, whose halves are the first and the last sixteen weights."""
    steps = random_scales(rng, (rows, blocks))
    codes = rng.integers(0, 16, (rows, blocks, 32), dtype=np.uint8)
    halves = codes[..., :16] | codes[..., 16:] << 4
    data = b"".join(
        steps[place].tobytes() + halves[place].tobytes() for place in np.ndindex(rows, blocks)
    )
    weights = steps.astype(np.float64)[..., None] * (codes.astype(int) - 8)
    return weights.reshape(rows, -1), data


def _q8_0(rng: np.random.Generator, rows: int, blocks: int) -> tuple[_Values, bytes]:
    steps = random_scales(rng, (rows, blocks))
    codes = rng.integers(-128, 128, (rows, blocks, 32), dtype=np.int8)
    data = b"".join(
        steps[place].tobytes() + codes[place].tobytes() for place in np.ndindex(rows, blocks)
    )
    return (steps.astype(np.float64)[..., None] * codes).reshape(rows, -1), data


def _q4_k(rng: np.random.Generator, rows: int, blocks: int) -> tuple[_Values, bytes]:
    """Eight groups of 32 a block, with six bits each of scale and minimum."""
    weights, data = np.empty((rows, blocks, 8, 32)), b""
    for place in np.ndindex(rows, blocks):
        step, least = random_scales(rng, (2,))
        scales, minima = rng.integers(0, 64, (2, 8)).tolist()
        codes = rng.integers(0, 16, (8, 32), dtype=np.uint8)
        packed = [
            *(scales[at] | scales[at + 4] >> 4 << 6 for at in range(4)),
            *(minima[at] | minima[at + 4] >> 4 << 6 for at in range(4)),
            *(scales[at + 4] & 15 | (minima[at + 4] & 15) << 4 for at in range(4)),
        ]
        data += step.tobytes() + least.tobytes() + bytes(packed)
        data += (codes[::2] | codes[1::2] << 4).tobytes()
        for group in range(8):
            top = float(step) * scales[group] * codes[group].astype(float)
            weights[*place, group] = top - float(least) * minima[group]
    return weights.reshape(rows, -1), data


def _q6_k(rng: np.random.Generator, rows: int, blocks: int) -> tuple[_Values, bytes]:
    """Sixteen groups of 16 a block, with eight bits of scale each."""
    weights, data = np.empty((rows, blocks, 256)), b""
    for place in np.ndindex(rows, blocks):
        step = random_scales(rng, (1,))[0]
        scales = rng.integers(-128, 128, 16, dtype=np.int8)
        codes = rng.integers(0, 64, 256)
        low, high = np.zeros(128, np.uint8), np.zeros(64, np.uint8)
        for at, code in enumerate(codes.tolist()):
            half, rest = divmod(at, 128)
            quarter, lane = divmod(rest, 32)
            low[64 * half + 32 * (quarter % 2) + lane] |= (code & 15) << 4 * (quarter // 2)
            high[32 * half + lane] |= code >> 4 << 2 * quarter
        data += low.tobytes() + high.tobytes() + scales.tobytes() + step.tobytes()
        weights[place] = float(step) * np.repeat(scales.astype(float), 16) * (codes - 32)
    return weights.reshape(rows, -1), data


def write_hqq(
    folder: Path,
    rng: np.random.Generator,
    *,
    bits: float = 4,
    rows: int = 16,
    columns: int = 64,
    group_size: int | None = 32,
    dtype: npt.DTypeLike = np.float16,
    as_floats: bool = False,
    changes: Mapping[str, Any] | None = None,
) -> SampleCheckpoint:
    """Write one HQQ layer as safetensors, with all that HQQ says of it.

    ``changes`` replace tensors by their last name, or leave one out that is None there.
    """
    size = columns if group_size is None else group_size
    count = rows * columns // size
    packing, share, field, packed_type = _HQQ_PACKINGS[2 if bits == 1.58 else int(bits)]
    codes = rng.integers(0, round(2**bits), (count, size))
    scale = np.abs(random_scales(rng, (count, 1), dtype)) + np.asarray(2.0**-9, dtype)
    zero = rng.uniform(0.5, 2**bits, (count, 1)).astype(dtype)
    padded = np.zeros((-(-count // share) * share, size), dtype=np.int64)
    padded[:count] = codes
    parts = padded.reshape(share, -1, size)
    packed = sum(part << field * (share - 1 - at) for at, part in enumerate(parts))
    packed = np.asarray(packed).astype(packed_type)
    names = {np.dtype(np.float16): "float16", np.dtype(np.float32): "float32"}
    compute = f"torch.{names.get(np.dtype(dtype), 'bfloat16')}"
    stem = "model.layers.0.mlp.up_proj"
    bias = rng.standard_normal(rows).astype(dtype)
    said: dict[str, Any] = {
        "W_q": packed.view(dtype) if as_floats else packed,
        "scale": scale,
        "zero": zero,
        "bias": bias,
        "nbits": np.float32(bits) if bits == 1.58 else np.uint8(bits),
        "shape": np.array([rows, columns]),
        "axis": np.uint8(1),
        "packing": _letters(packing),
        "unpack_view_dtype": _letters(f"torch.{np.dtype(packed_type).name}"),
        "view_as_float": np.uint8(as_floats),
        "quant_scale": np.uint8(0),
        "quant_zero": np.uint8(0),
        "compute_dtype": _letters(compute),
        "channel_wise": np.uint8(1),
        "optimize": np.uint8(1),
        "round_zero": np.uint8(0),
        "offload_meta": np.uint8(0),
        "encoded_state_dict": np.uint8(1),
        "stores_quant_config": np.uint8(1),
    }
    if group_size is not None:
        said["group_size"] = np.uint8(group_size)
    said = {
        name: value for name, value in (said | dict(changes or {})).items() if value is not None
    }
    tensors = {f"{stem}.{name}": np.asarray(value) for name, value in said.items()}
    tensors["model.norm.weight"] = np.ones(4, dtype)
    _write(folder, tensors, {"quantization_config": {"quant_method": "hqq"}})
    exact = (codes - zero.astype(np.float64)) * scale.astype(np.float64)
    weights = {stem: exact.reshape(rows, columns).astype(np.float32)}
    return SampleCheckpoint(
        folder, weights, {stem: bias.astype(np.float32)}, ("model.norm.weight",)
    )


def write_squeezellm(
    folder: Path,
    rng: np.random.Generator,
    *,
    bits: int = 4,
    rows: int = 6,
    columns: int = 64,
    sparse: bool = True,
    full: int = 2,
) -> SampleCheckpoint:
    """Write one SqueezeLLM layer with ``torch.save``, with sparse weights and whole rows."""
    import torch  # only what writes this container needs it

    codes = rng.integers(0, 1 << bits, (rows, columns))
    table = np.sort(rng.normal(0, 0.02, (rows, 1 << bits)), axis=1).astype(np.float32)
    table = np.where(np.abs(table) < 2.0**-10, np.float32(2.0**-10), table)
    words = np.stack([pack_words(row, bits) for row in codes], axis=1)
    weights = np.take_along_axis(table.astype(np.float64), codes, axis=1)
    bias = rng.standard_normal(rows).astype(np.float32)
    stem = "model.layers.0.self_attn.q_proj"
    tensors: dict[str, Any] = {"qweight": words, "lookup_table": table, "bias": bias}
    if sparse:
        is_there = rng.random((rows, columns)) < 0.1
        is_there[1] = False
        values = np.where(is_there, rng.normal(0, 0.5, is_there.shape), 0).astype(np.float32)
        values = (values.astype(np.float16) + np.float32(2.0**-12) * is_there).astype(np.float32)
        pointers = np.concatenate([[0], np.cumsum(is_there.sum(axis=1))])
        tensors |= {
            "rows": pointers.astype(np.int32),
            "cols": np.nonzero(is_there)[1].astype(np.int32),
            "vals": values[is_there],
        }
        weights += values
    if full:
        chosen = rng.permutation(rows)[:full].astype(np.int32)
        whole = rng.normal(0, 0.1, (columns, full)).astype(np.float16).astype(np.float32)
        tensors |= {"full_rows": whole, "full_row_indices": chosen}
        weights[chosen] += whole.T.astype(np.float64)
    state: dict[str, Any] = {
        f"{stem}.{name}": torch.from_numpy(np.ascontiguousarray(value).view(_signed(value)))
        for name, value in tensors.items()
    }
    state["model.norm.weight"] = torch.ones(4)
    state[f"sparse_threshold.{stem}"] = 3
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "sq-model.pt"
    torch.save(state, path)
    return SampleCheckpoint(
        path, {stem: weights.astype(np.float32)}, {stem: bias}, ("model.norm.weight",)
    )


def write_bitnet(
    folder: Path,
    rng: np.random.Generator,
    *,
    linear_class: Any = "autobitlinear",
    rows: int = 8,
    columns: int = 40,
) -> SampleCheckpoint:
    """Write one BitNet layer as Transformers does."""
    ternary = rng.integers(-1, 2, (rows, columns))
    packed = np.zeros((rows // 4, columns), dtype=np.uint8)
    for row in range(rows):
        part, place = divmod(row, rows // 4)
        packed[place] |= (ternary[row] + 1).astype(np.uint8) << np.uint8(2 * part)
    scale = rng.uniform(0.5, 3, 1).astype(ml_dtypes.bfloat16)
    stem = "model.layers.0.mlp.gate_proj"
    tensors = {
        f"{stem}.weight": packed,
        f"{stem}.weight_scale": scale,
        "model.embed_tokens.weight": np.ones((3, 4), ml_dtypes.bfloat16),
    }
    config: dict[str, Any] = {"quant_method": "bitnet", "quantization_mode": "offline"}
    if linear_class is not None:
        config["linear_class"] = linear_class
    _write(folder, tensors, {"quantization_config": config})
    factor = scale.astype(np.float32)[0]
    if linear_class != "autobitlinear":
        factor = np.float32(1) / factor
    weights = ternary.astype(np.float32) * factor
    return SampleCheckpoint(folder, {stem: weights}, left_out=("model.embed_tokens.weight",))


def write_anybcq(
    folder: Path,
    rng: np.random.Generator,
    *,
    precisions: tuple[int, ...] = (2, 3, 4),
    precision: int | None = None,
    rows: int = 6,
    columns: int = 128,
    group_size: int = 64,
) -> SampleCheckpoint:
    """Write one AnyBCQ layer; its weights here are those of one precision, by default the last."""
    groups = columns // group_size
    signs = rng.choice([-1, 1], (max(precisions), rows, columns))
    stem = "model.layers.0.mlp.down_proj"
    tensors: dict[str, npt.NDArray] = {
        f"{stem}.qweight": _planes(signs),
        f"{stem}.q_bias": np.zeros((groups, rows), np.float16),
    }
    weights = np.empty((rows, columns))
    for bits in precisions:
        alphas = random_scales(rng, (groups, bits, rows))
        betas = random_scales(rng, (groups, rows))
        tensors[f"{stem}.alpha_{bits}"], tensors[f"{stem}.beta_{bits}"] = alphas, betas
        if bits == (precision or precisions[-1]):
            weights = _signed_sum(signs[:bits], alphas, betas)
    config = {"group_size": group_size, "seed_precision": 2, "parent_precision": max(precisions)}
    _write(folder, tensors, {"anybcq": config})
    return SampleCheckpoint(folder, {stem: weights.astype(np.float32)})


def write_lut_gemm(
    folder: Path,
    rng: np.random.Generator,
    *,
    bits: int = 3,
    offset: bool = True,
    rows: int = 5,
    columns: int = 96,
    groups: int = 3,
) -> SampleCheckpoint:
    """Write one layer in the layout of LUT-GEMM's memory."""
    signs = rng.choice([-1, 1], (bits, rows, columns))
    alphas, betas = random_scales(rng, (groups, bits, rows)), random_scales(rng, (groups, rows))
    tensors = {"a.qweight": _planes(signs), "a.alpha": alphas}
    if offset:
        tensors["a.q_bias"] = betas
    _write(folder, tensors, {})
    weights = _signed_sum(signs, alphas, betas if offset else 0 * betas)
    return SampleCheckpoint(folder, {"a": weights.astype(np.float32)})


def _planes(signs: npt.NDArray) -> npt.NDArray[np.int32]:
    """Pack (bits, N, K) of -1 and +1 as (K / 32, bits, N)."""
    words = [[pack_words((row + 1) // 2, 1) for row in plane] for plane in signs]
    return np.ascontiguousarray(np.array(words).transpose(2, 0, 1)).view(np.int32)


def _signed_sum(signs: npt.NDArray, alphas: npt.NDArray, betas: npt.NDArray) -> _Values:
    group_size = signs.shape[2] // len(alphas)
    weights = np.repeat(betas.astype(np.float64), group_size, axis=0).T
    for plane in range(len(signs)):
        weights = (
            weights
            + signs[plane] * np.repeat(alphas[:, plane].astype(np.float64), group_size, axis=0).T
        )
    return weights


def _letters(text: str) -> npt.NDArray[np.uint8]:
    return np.frombuffer(text.encode(), dtype=np.uint8)


def _signed(array: npt.NDArray) -> npt.DTypeLike:
    return np.int32 if array.dtype == np.uint32 else array.dtype


def _write(folder: Path, tensors: Mapping[str, npt.NDArray], config: dict[str, Any]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    write_safetensors(folder / "model.safetensors", tensors)
    (folder / "config.json").write_text(json.dumps(config))


def _three_bits(folder: Path, rng: np.random.Generator) -> SampleCheckpoint:
    return write_squeezellm(folder, rng, bits=3, full=0)


MORE_SAMPLES: dict[str, Callable[[Path, np.random.Generator], SampleCheckpoint]] = {
    "gguf": write_gguf,
    "hqq": write_hqq,
    "squeezellm": write_squeezellm,
    "squeezellm, 3 bits": _three_bits,
    "bitnet": write_bitnet,
    "anybcq": write_anybcq,
    "lut-gemm": write_lut_gemm,
}
"""One small checkpoint of each, by name; those of SqueezeLLM need PyTorch to be written."""

ALL_SAMPLES = SAMPLES | MORE_SAMPLES
"""Those of :mod:`sample_checkpoints` too."""
