"""What a model file says of a layer, besides its tensors."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from ..formats import CATALOG, CodebookFormat, NumberFormat, QuantizedMatrix
from .format_description import describe_format, parse_format
from .packing import pack_codes, packed_bytes, unpack_codes
from .trits import DIGIT_CODES, pack_trits, trit_bytes, unpack_trits

__all__ = ["LayerRecord"]

_LARGEST = 62  # bits of a size, so that it is an int64


@dataclass(frozen=True, kw_only=True)
class LayerRecord:
    """Shape and formats of one layer.

    Parameters
    ----------
    format : str
        Name of the catalogue's family with these members, or of the slot of the one codebook that
        is the only member; empty where there is none.
    members : tuple of NumberFormat
        What format ids index.
    group_size : int
        Columns of one group.
    rows, columns : int
        N and K.
    scale_width : int
        Magnitude bits of a group scale.
    code_width : int
        Bits of one packed code: that of the widest member.
    packing : str
        ``bits``, as :func:`pack_codes`, or ``trits``, as :func:`pack_trits`: five to a byte, where
        all codes are those of :data:`DIGIT_CODES`.
    """

    format: str
    members: tuple[NumberFormat, ...]
    group_size: int
    rows: int
    columns: int
    scale_width: int
    code_width: int
    packing: str = "bits"

    @classmethod
    def of(cls, matrix: QuantizedMatrix) -> "LayerRecord":
        """Describe a quantised matrix."""
        names = [entry.name for entry in CATALOG.values() if entry.members == matrix.members]
        if len(matrix.members) == 1 and isinstance(matrix.members[0], CodebookFormat):
            names.append(matrix.members[0].name)
        return cls(
            format=next(iter(names), ""),
            members=matrix.members,
            group_size=matrix.group_size,
            rows=matrix.rows,
            columns=matrix.columns,
            scale_width=matrix.scale_width,
            code_width=max(item.code_width for item in matrix.members),
            packing="trits" if _is_ternary(matrix) else "bits",
        )

    def pack(self, codes: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
        """Pack codes of shape (N, K) along each row."""
        if self.packing == "trits":
            return pack_trits(codes)
        return pack_codes(codes, self.code_width)

    def unpack(self, packed: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
        """Undo :meth:`pack`.

        Raises
        ------
        :exc:`ValueError`
            If the bytes are none that it makes.
        """
        if self.packing == "trits":
            return unpack_trits(packed, self.columns)
        return unpack_codes(packed, self.columns, self.code_width)

    @property
    def packed_bytes(self) -> int:
        """Bytes of one packed row."""
        if self.packing == "trits":
            return trit_bytes(self.columns)
        return packed_bytes(self.columns, self.code_width)

    @property
    def groups(self) -> int:
        """Groups of a row, G."""
        return -(-self.columns // self.group_size)

    @property
    def scale_count(self) -> int:
        """Scales of a group, C."""
        return max(item.scale_count for item in self.members)

    @property
    def scale_type(self) -> str:
        """Type of the stored scales."""
        return "int16" if self.scale_width < 16 else "int32"

    @property
    def has_zeros(self) -> bool:
        """Whether some member has a zero-point."""
        return any(item.has_zero_point for item in self.members)

    def to_json(self) -> dict[str, Any]:
        """Return a JSON object."""
        fields = dict(self.__dict__)
        fields["members"] = [describe_format(item) for item in self.members]
        if self.packing == "bits":  # as it was before there was a choice
            del fields["packing"]
        return fields

    @classmethod
    def from_json(cls, fields: dict[str, Any]) -> "LayerRecord":
        """Undo :meth:`to_json`.

        Raises
        ------
        :exc:`ValueError`
            If something is missing or not valid.
        """
        try:
            members = tuple(parse_format(item) for item in fields["members"])
            record = cls(**{**fields, "members": members})
        except (KeyError, TypeError) as error:
            raise ValueError(f"A layer is not described as it should be: {error}") from error
        record._check()
        return record

    def _check(self) -> None:
        for name in ("group_size", "rows", "columns", "scale_width", "code_width"):
            value = getattr(self, name)
            if type(value) is not int or value < 1:
                raise ValueError(f"{name} must be a positive integer, not {value!r}")
            if value.bit_length() > _LARGEST:
                raise ValueError(f"{name} must have at most {_LARGEST} bits, not be {value}")
        if self.packing not in ("bits", "trits"):
            raise ValueError(f"packing must be 'bits' or 'trits', not {self.packing!r}")
        if not self.members:
            raise ValueError("A layer must have at least one format")
        if not max(item.code_width for item in self.members) <= self.code_width <= 8:
            raise ValueError(
                f"code_width must hold every code in at most 8 bits, not {self.code_width}"
            )


def _is_ternary(matrix: QuantizedMatrix) -> bool:
    """Whether two bits a code would hold three kinds of codes only."""
    if max(item.code_width for item in matrix.members) != 2:
        return False
    return bool(np.isin(matrix.codes, DIGIT_CODES).all())
