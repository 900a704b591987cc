"""Small random checkpoints of other tools' formats, written from their definitions, bit by bit.

Tests compare what is imported with the weights that are returned here, float32 products of the
formats' own formulas; ``bench/fuzz_imports.py`` damages the files. Nothing here is shared with what
imports them.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import numpy.typing as npt

__all__ = ["SAMPLES", "SampleCheckpoint", "pack_words", "random_scales", "write_safetensors"]

_NAMES = {
    "float64": "F64",
    "float32": "F32",
    "float16": "F16",
    "bfloat16": "BF16",
    "float8_e4m3fn": "F8_E4M3",
    "int64": "I64",
    "int32": "I32",
    "uint32": "I32",  # words, by their bits
    "int8": "I8",
    "uint8": "U8",
}
_E2M1 = np.array([0, 0.5, 1, 1.5, 2, 3, 4, 6, 0, -0.5, -1, -1.5, -2, -3, -4, -6], np.float32)
_AWQ_OUTPUTS = (0, 2, 4, 6, 1, 3, 5, 7)

_NF4 = (
    *(-1.0, -0.6961928009986877, -0.5250730514526367, -0.39491748809814453, -0.28444138169288635),
    *(-0.18477343022823334, -0.09105003625154495, 0.0, 0.07958029955625534, 0.16093020141124725),
    *(0.24611230194568634, 0.33791524171829224, 0.44070982933044434, 0.5626170039176941),
    *(0.7229568362236023, 1.0),
)
_FP4 = [sign * value / 12 for sign in (1, -1) for value in (0, 0.0625, 8, 12, 4, 6, 2, 3)]
# Tables of bitsandbytes, the integers that Lutra has for them, and the largest of these.
_FOUR_BITS = {
    "nf4": (_NF4, [round(127 * value) for value in _NF4], 127),
    "fp4": (_FP4, [round(192 * value) for value in _FP4], 192),
}


@dataclass(frozen=True)
class SampleCheckpoint:
    """A checkpoint on the disk and what it says.

    Parameters
    ----------
    path : Path
        File or folder to open.
    weights : dict of str to float32 array, shape (N, K)
        By layer, in the order of the tokens' elements.
    biases : dict of str to float32 array, shape (N,)
        Of the layers that have one.
    left_out : tuple of str
        Tensors that are of no quantised layer.
    """

    path: Path
    weights: dict[str, npt.NDArray[np.float32]]
    biases: dict[str, npt.NDArray[np.float32]] = field(default_factory=dict)
    left_out: tuple[str, ...] = ()


def write_safetensors(path: Path, tensors: Mapping[str, npt.NDArray]) -> None:
    """Write tensors into a safetensors file, in their order."""
    header, data = {}, b""
    for name, array in tensors.items():
        raw = np.ascontiguousarray(array).tobytes()
        header[name] = {
            "dtype": _NAMES[array.dtype.name],
            "shape": list(array.shape),
            "data_offsets": [len(data), len(data) + len(raw)],
        }
        data += raw
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    path.write_bytes(len(text).to_bytes(8, "little") + text + data)


def pack_words(codes: Sequence[int] | npt.NDArray, bits: int) -> npt.NDArray[np.uint32]:
    """Pack codes into words as one stream of bits, lowest first."""
    stream = sum(int(code) << index * bits for index, code in enumerate(codes))
    count = -(-len(codes) * bits // 32)
    return np.array([stream >> 32 * word & 0xFFFFFFFF for word in range(count)], dtype=np.uint32)


def random_scales(
    rng: np.random.Generator, shape: tuple[int, ...], dtype: npt.DTypeLike = np.float16
) -> npt.NDArray:
    """Return scales of both signs, some of them zero, within six binary places of each other."""
    scales = np.ldexp(rng.uniform(0.5, 1, shape), rng.integers(-9, -3, shape))
    return (scales * rng.choice([-1, 1, 1, 1, 0], shape, p=[0.1, 0.3, 0.3, 0.25, 0.05])).astype(
        dtype
    )


def write_gptq(
    folder: Path,
    rng: np.random.Generator,
    *,
    bits: int = 4,
    group_size: int = 32,
    groups: int = 3,
    tail: int = 0,
    rows: int = 32,
    act_order: bool = False,
    symmetric: bool = False,
    version: str = "gptq",
    scale_type: npt.DTypeLike = np.float16,
) -> SampleCheckpoint:
    """Write one GPTQ layer of ``groups`` whole groups and a tail.

    ``group_size`` -1 has one group of 64 columns.
    """
    size = 64 if group_size == -1 else group_size
    columns = size * (1 if group_size == -1 else groups) + tail
    count = -(-columns // size)
    codes = rng.integers(0, 1 << bits, (columns, rows))
    zeros = rng.integers(0, 1 << bits, (count, rows))
    if symmetric:
        zeros[:] = 1 << (bits - 1)
    scales = random_scales(rng, (count, rows), scale_type)
    group_of = np.arange(columns) // size
    if act_order:
        rng.shuffle(group_of)
    weights = scales.astype(np.float32)[group_of] * (codes - zeros[group_of]).astype(np.float32)

    stored = (zeros - 1) % (1 << bits) if version == "gptq" else zeros
    bias = random_scales(rng, (rows,))
    tensors = {
        "model.embed_tokens.weight": np.ones((2, 2), np.float16),
        "model.a.qweight": np.stack([pack_words(codes[:, n], bits) for n in range(rows)], axis=1),
        "model.a.qzeros": np.stack([pack_words(row, bits) for row in stored]),
        "model.a.scales": scales,
        "model.a.g_idx": group_of.astype(np.int32),
        "model.a.bias": bias,
    }
    folder.mkdir(parents=True, exist_ok=True)
    write_safetensors(folder / "model.safetensors", tensors)
    config = {
        "bits": bits,
        "group_size": group_size,
        "desc_act": act_order,
        "sym": symmetric,
        "quant_method": "gptq",
        "checkpoint_format": version,
    }
    (folder / "quantize_config.json").write_text(json.dumps(config))
    return SampleCheckpoint(
        folder,
        {"model.a": np.ascontiguousarray(weights.T)},
        {"model.a": bias.astype(np.float32)},
        ("model.embed_tokens.weight",),
    )


def write_awq(
    folder: Path,
    rng: np.random.Generator,
    *,
    group_size: int = 32,
    columns: int = 80,
    rows: int = 24,
    scale_type: npt.DTypeLike = np.float16,
) -> SampleCheckpoint:
    """Write one AWQ layer of version GEMM."""
    count = -(-columns // group_size)
    codes = rng.integers(0, 16, (columns, rows))
    zeros = rng.integers(0, 16, (count, rows))
    scales = random_scales(rng, (count, rows), scale_type)
    group_of = np.arange(columns) // group_size
    weights = scales.astype(np.float32)[group_of] * (codes - zeros[group_of]).astype(np.float32)

    def interleave(values: npt.NDArray) -> npt.NDArray:
        words = np.zeros((len(values), rows // 8), dtype=np.uint32)
        for (row, word), _ in np.ndenumerate(words):
            for nibble, output in enumerate(_AWQ_OUTPUTS):
                words[row, word] |= np.uint32(int(values[row, 8 * word + output]) << 4 * nibble)
        return words

    tensors = {
        "model.a.qweight": interleave(codes),
        "model.a.qzeros": interleave(zeros),
        "model.a.scales": scales,
        "lm_head.weight": np.ones((2, 2), np.float16),
    }
    config = {"quant_method": "awq", "bits": 4, "group_size": group_size, "version": "gemm"}
    _write_folder(folder, tensors, config)
    return SampleCheckpoint(
        folder, {"model.a": np.ascontiguousarray(weights.T)}, {}, ("lm_head.weight",)
    )


def write_compressed_tensors(
    folder: Path,
    rng: np.random.Generator,
    *,
    bits: int = 4,
    strategy: str = "group",
    group_size: int = 32,
    columns: int = 80,
    rows: int = 12,
    symmetric: bool = True,
    act_order: bool = False,
    padded: bool = False,
    scale_type: npt.DTypeLike = np.float16,
) -> SampleCheckpoint:
    """Write one layer of packed integers; ``padded`` is the older layout of words."""
    size = group_size if strategy == "group" else columns
    count = -(-columns // size)
    half = 1 << (bits - 1)
    codes = rng.integers(-half, half, (rows, columns))
    zeros = (
        np.zeros((rows, count), np.int64) if symmetric else rng.integers(-half, half, (rows, count))
    )
    scales = random_scales(rng, (1,) if strategy == "tensor" else (rows, count), scale_type)
    group_of = np.arange(columns) // size
    if act_order:
        rng.shuffle(group_of)
    wide = np.broadcast_to(
        scales.astype(np.float32).reshape(-1, scales.size // max(1, len(scales))), (rows, count)
    )
    weights = wide[:, group_of] * (codes - zeros[:, group_of]).astype(np.float32)

    def pack(values: npt.NDArray) -> npt.NDArray[np.uint32]:
        if not padded:
            return pack_words(values + half, bits)
        share = 32 // bits
        parts = [values[at : at + share] + half for at in range(0, len(values), share)]
        return np.concatenate([
            pack_words([*part, *[0] * (share - len(part))], bits)[:1] for part in parts
        ])

    tensors = {
        "model.a.weight_packed": np.stack([pack(row) for row in codes]),
        "model.a.weight_scale": scales,
        "model.a.weight_shape": np.array([rows, columns], np.int64),
        "model.norm.weight": np.ones(4, ml_dtypes.bfloat16),
    }
    if not symmetric:
        packed = np.stack([pack(zeros[:, group]) for group in range(count)], axis=1)
        tensors["model.a.weight_zero_point"] = packed
    if act_order:
        tensors["model.a.weight_g_idx"] = group_of.astype(np.int32)
    scheme = {
        "num_bits": bits,
        "type": "int",
        "symmetric": symmetric,
        "strategy": strategy,
        "group_size": group_size if strategy == "group" else None,
        "actorder": "group" if act_order else None,
    }
    _write_folder(folder, tensors, _compressed_config("pack-quantized", scheme))
    return SampleCheckpoint(folder, {"model.a": weights}, {}, ("model.norm.weight",))


def write_compressed_floats(
    folder: Path,
    rng: np.random.Generator,
    *,
    kind: str = "nvfp4",
    rows: int = 6,
    columns: int = 96,
) -> SampleCheckpoint:
    """Write one layer of E2M1 codes as compressed-tensors does; ``kind`` is nvfp4 or mxfp4."""
    size = 16 if kind == "nvfp4" else 32
    codes = rng.integers(0, 16, (rows, columns))
    tensors: dict[str, npt.NDArray] = {
        "model.a.weight_packed": (codes[:, ::2] | codes[:, 1::2] << 4).astype(np.uint8)
    }
    shape = (rows, columns // size)
    if kind == "nvfp4":
        stored = random_scales(rng, shape, np.float32) * 1000
        stored = stored.astype(ml_dtypes.float8_e4m3fn)
        divisor = np.float32(rng.uniform(100, 5000))
        tensors["model.a.weight_global_scale"] = np.array([divisor], np.float32)
        scales = stored.astype(np.float32) / divisor
    else:
        stored = rng.integers(110, 126, shape).astype(np.uint8)
        scales = np.float32(2) ** (stored.astype(np.float32) - 127)
    tensors["model.a.weight_scale"] = stored
    scheme = {
        "num_bits": 4,
        "type": "float",
        "symmetric": True,
        "strategy": "tensor_group" if kind == "nvfp4" else "group",
        "group_size": size,
    }
    _write_folder(folder, tensors, _compressed_config(f"{kind}-pack-quantized", scheme))
    weights = _E2M1[codes] * np.repeat(scales, size, axis=1)
    return SampleCheckpoint(folder, {"model.a": weights.astype(np.float32)})


def write_modelopt(
    folder: Path, rng: np.random.Generator, *, rows: int = 6, columns: int = 96
) -> SampleCheckpoint:
    """Write one NVFP4 layer as Model Optimizer does."""
    codes = rng.integers(0, 16, (rows, columns))
    stored = (random_scales(rng, (rows, columns // 16), np.float32) * 1000).astype(
        ml_dtypes.float8_e4m3fn
    )
    factor = np.float32(rng.uniform(1e-4, 1e-2))
    tensors = {
        "model.a.weight": (codes[:, ::2] | codes[:, 1::2] << 4).astype(np.uint8),
        "model.a.weight_scale": stored,
        "model.a.weight_scale_2": np.array(factor, np.float32),
        "model.a.input_scale": np.array(1, np.float32),
        "model.b.weight": np.ones((2, 2), ml_dtypes.bfloat16),
    }
    folder.mkdir(parents=True, exist_ok=True)
    write_safetensors(folder / "model.safetensors", tensors)
    config = {"quantization": {"quant_algo": "NVFP4", "group_size": 16}}
    (folder / "hf_quant_config.json").write_text(json.dumps(config))
    weights = _E2M1[codes] * np.repeat(stored.astype(np.float32) * factor, 16, axis=1)
    return SampleCheckpoint(
        folder,
        {"model.a": weights.astype(np.float32)},
        {},
        ("model.a.input_scale", "model.b.weight"),
    )


def write_gpt_oss(
    folder: Path, rng: np.random.Generator, *, experts: int = 3, rows: int = 6, groups: int = 3
) -> SampleCheckpoint:
    """Write the experts of one MXFP4 tensor as gpt-oss does."""
    codes = rng.integers(0, 16, (experts, rows, groups, 32))
    stored = rng.integers(110, 126, (experts, rows, groups)).astype(np.uint8)
    bias = rng.standard_normal((experts, rows)).astype(ml_dtypes.bfloat16)
    stem = "model.layers.0.mlp.experts.down_proj"
    tensors = {
        f"{stem}_blocks": (codes[..., ::2] | codes[..., 1::2] << 4).astype(np.uint8),
        f"{stem}_scales": stored,
        f"{stem}_bias": bias,
        "lm_head.weight": np.ones((2, 2), ml_dtypes.bfloat16),
    }
    _write_folder(folder, tensors, {"quant_method": "mxfp4"})
    weights = np.ldexp(_E2M1[codes], (stored.astype(np.int32) - 127)[..., None])
    weights = weights.reshape(experts, rows, -1)
    return SampleCheckpoint(
        folder,
        {f"{stem}.expert{expert}": weights[expert] for expert in range(experts)},
        {f"{stem}.expert{expert}": bias[expert].astype(np.float32) for expert in range(experts)},
        ("lm_head.weight",),
    )


def write_bitsandbytes(
    folder: Path,
    rng: np.random.Generator,
    *,
    kind: str = "nf4",
    rows: int = 6,
    columns: int = 128,
    block: int = 64,
    nested: bool = False,
    storage: npt.DTypeLike = np.uint8,
) -> SampleCheckpoint:
    """Write one layer of NF4 or FP4; the weights are those of Lutra's grids."""
    codes = rng.integers(0, 16, rows * columns)
    count = -(-codes.size // block)
    state: dict[str, Any] = {"quant_type": kind, "blocksize": block, "dtype": "float16"}
    state["shape"] = [rows, columns]
    stem = "model.a.weight"
    tensors: dict[str, npt.NDArray] = {}
    if nested:
        stored = rng.integers(0, 256, count).astype(np.uint8)
        table = np.sort(rng.uniform(-1, 1, 256)).astype(np.float32)
        second = rng.uniform(0.01, 0.02, -(-count // 256)).astype(np.float32)
        offset = np.float32(0.05)
        scales = table[stored] * np.repeat(second, 256)[:count] + offset
        tensors |= {f"{stem}.absmax": stored, f"{stem}.nested_absmax": second}
        tensors[f"{stem}.nested_quant_map"] = table
        state |= {"nested_blocksize": 256, "nested_dtype": "float32"}
        state["nested_offset"] = float(offset)
    else:
        scales = np.abs(random_scales(rng, (count,), np.float16)).astype(np.float32)
        tensors[f"{stem}.absmax"] = scales
    table, grid, peak = _FOUR_BITS[kind]
    tensors[stem] = (codes[::2] << 4 | codes[1::2]).astype(np.uint8).view(storage)[:, None]
    tensors[f"{stem}.quant_map"] = np.array(table, np.float32)
    text = json.dumps(state).encode()
    tensors[f"{stem}.quant_state.bitsandbytes__{kind}"] = np.frombuffer(text, np.uint8)
    _write_folder(folder, tensors, {"quant_method": "bitsandbytes", "load_in_4bit": True})
    # Exact in float64 but for its last rounding: 24 bits, 8 bits and 24 bits.
    wide = np.repeat(scales.astype(np.float64), block)[: codes.size] * np.array(grid)[codes]
    weights = (wide * np.float64(np.float32(1 / peak))).astype(np.float32)
    return SampleCheckpoint(folder, {"model.a": weights.reshape(rows, columns)})


def _compressed_config(kind: str, scheme: dict[str, Any]) -> dict[str, Any]:
    return {
        "quant_method": "compressed-tensors",
        "format": kind,
        "config_groups": {"group_0": {"targets": ["Linear"], "weights": scheme}},
        "ignore": ["lm_head"],
    }


def _write_folder(folder: Path, tensors: Mapping[str, npt.NDArray], config: dict[str, Any]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    write_safetensors(folder / "model.safetensors", tensors)
    (folder / "config.json").write_text(json.dumps({"quantization_config": config}))


def _act_order(folder: Path, rng: np.random.Generator) -> SampleCheckpoint:
    return write_gptq(folder, rng, bits=3, act_order=True)


def _mxfp4(folder: Path, rng: np.random.Generator) -> SampleCheckpoint:
    return write_compressed_floats(folder, rng, kind="mxfp4")


def _asymmetric(folder: Path, rng: np.random.Generator) -> SampleCheckpoint:
    return write_compressed_tensors(folder, rng, bits=3, columns=96, symmetric=False)


def _nested_fp4(folder: Path, rng: np.random.Generator) -> SampleCheckpoint:
    return write_bitsandbytes(folder, rng, kind="fp4", nested=True)


SAMPLES: dict[str, Callable[[Path, np.random.Generator], SampleCheckpoint]] = {
    "gptq": write_gptq,
    "gptq, act-order": _act_order,
    "awq": write_awq,
    "compressed-tensors": write_compressed_tensors,
    "compressed-tensors, asymmetric": _asymmetric,
    "compressed-tensors, nvfp4": write_compressed_floats,
    "compressed-tensors, mxfp4": _mxfp4,
    "bitsandbytes": write_bitsandbytes,
    "bitsandbytes, fp4 with double quantisation": _nested_fp4,
    "modelopt": write_modelopt,
    "gpt-oss": write_gpt_oss,
}
"""One small checkpoint of every importer and of its larger variants, by name."""
