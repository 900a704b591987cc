"""Block formats: a number format with the size of its groups and the kind of their scales."""

from dataclasses import dataclass

__all__ = ["BLOCK_FORMATS", "BlockFormat"]


@dataclass(frozen=True)
class BlockFormat:
    """What a name such as MXFP4 stands for.

    Parameters
    ----------
    name : str
        Name in recipes and on the command line.
    element : str
        Family of the catalogue.
    group_size : int
        Weights of one block along K.
    method : str
        Quantiser that makes scales of the kind: ``mx`` powers of two, ``nv`` floats of E4M3.
    source : str
        Where it is defined.
    """

    name: str
    element: str
    group_size: int
    method: str
    source: str


_OCP = "OCP Microscaling Formats 1.0, table 1"

BLOCK_FORMATS: dict[str, BlockFormat] = {
    item.name: item
    for item in (
        BlockFormat("mxfp4", "float4_e2m1", 32, "mx", _OCP),
        BlockFormat("mxfp6_e2m3", "float6_e2m3", 32, "mx", _OCP),
        BlockFormat("mxfp6_e3m2", "float6_e3m2", 32, "mx", _OCP),
        BlockFormat("mxfp8_e4m3", "float8_e4m3fn", 32, "mx", _OCP),
        BlockFormat("mxfp8_e5m2", "float8_e5m2_ieee", 32, "mx", _OCP),
        BlockFormat("mxint8", "int8", 32, "mx", _OCP),
        BlockFormat("nvfp4", "float4_e2m1", 16, "nv", "NVIDIA, NVFP4, 2025"),
    )
}
"""Block formats by name."""
