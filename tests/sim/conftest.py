"""The arithmetic contract a second time: slow, literal, in Python integers and fractions.

Nothing here is shared with the package but the data that describe a format: bit fields, rounding
and packing are written anew from docs/arithmetic.md.
"""

import struct
from fractions import Fraction

import numpy as np
import pytest

from lutra.formats import (
    AffineFormat,
    BinaryCodingFormat,
    FreeFormat,
    Numerics,
    QuantizedMatrix,
    ValueFormat,
)

# Exponent bits, fraction bits.
FIELDS = {"float16": (5, 10), "bfloat16": (8, 7), "float32": (8, 23)}


def floor_log2(value: Fraction) -> int:
    exponent = 0
    while value >= 2:
        value, exponent = value / 2, exponent + 1
    while value < 1:
        value, exponent = value * 2, exponent - 1
    return exponent


def power_of_two(exponent: int) -> Fraction:
    return Fraction(1 << exponent) if exponent >= 0 else Fraction(1, 1 << -exponent)


def round_half_even(value: Fraction) -> int:
    floor, rest = divmod(value, 1)
    floor = int(floor)
    if rest > Fraction(1, 2) or (rest == Fraction(1, 2) and floor % 2 == 1):
        floor += 1
    return floor


class Contract:
    """Sections 1 to 4, one number at a time."""

    def parse(self, bits: int, name: str) -> Fraction | None:
        """Return the value of a bit pattern, or None where it is not finite."""
        if name == "float16":
            value = struct.unpack("<e", struct.pack("<H", bits))[0]
        elif name == "bfloat16":
            value = struct.unpack("<f", struct.pack("<I", bits << 16))[0]
        else:
            value = struct.unpack("<f", struct.pack("<I", bits))[0]
        return None if value != value or value in (float("inf"), -float("inf")) else Fraction(value)

    def align(self, token: np.ndarray, numerics: Numerics) -> tuple[list[int], int] | None:
        """Return X and e of one token, or None where it holds a NaN or an infinity."""
        if numerics.activation == "int8":
            return [int(x) for x in token], 0
        values = []
        for bits in token.view(f"u{token.itemsize}"):
            value = self.parse(int(bits), numerics.activation)
            if value is None:
                return None
            values.append(value)
        if numerics.act_width == "exact":
            scaled = [value * (1 << 24) for value in values]
            assert all(value.denominator == 1 for value in scaled)
            return [int(value) for value in scaled], -24
        largest = max(abs(value) for value in values)
        if largest == 0:
            return [0] * len(values), 0
        width = int(numerics.act_width)
        exponent = floor_log2(largest) + 2 - width
        peak = 2 ** (width - 1) - 1
        integers = [round_half_even(value / power_of_two(exponent)) for value in values]
        return [max(-peak, min(peak, integer)) for integer in integers], exponent

    def weights(self, matrix: QuantizedMatrix) -> list[list[int]]:
        """Return the integer weights, (N, K), in the order of the codes."""
        weights = [
            [self._weight(matrix, row, column) for column in range(matrix.columns)]
            for row in range(matrix.rows)
        ]
        sparse = matrix.outliers
        if sparse is not None:
            for row in range(matrix.rows):
                for entry in range(sparse.row_pointers[row], sparse.row_pointers[row + 1]):
                    weights[row][sparse.columns[entry]] += int(sparse.values[entry])
        return weights

    def _weight(self, matrix: QuantizedMatrix, row: int, column: int) -> int:
        group = column // matrix.group_size
        number_format = matrix.members[matrix.format_ids[row, group]]
        code = int(matrix.codes[row, column])
        scales = [int(scale) for scale in matrix.scales[row, group]]
        if isinstance(number_format, ValueFormat):
            zero = int(matrix.zeros[row, group])
            offset = number_format.values[zero] if number_format.zero_point else 0
            return scales[0] * (number_format.values[code] - offset)
        if isinstance(number_format, AffineFormat):
            return scales[0] * code + scales[1]
        if isinstance(number_format, FreeFormat):
            return scales[code]
        assert isinstance(number_format, BinaryCodingFormat)
        width = number_format.code_width
        total = sum(scales[bit] * (1 if code >> bit & 1 else -1) for bit in range(width))
        return total + (scales[width] if number_format.offset else 0)

    def convert(self, total: int, exponent: int, row_scale: np.float32, output: str) -> int:
        """Return the bit pattern of one output."""
        scale = Fraction(float(row_scale))
        if total == 0 or scale == 0:
            return 0
        scale_exponent = floor_log2(abs(scale))
        first = self._round(Fraction(total), 24)
        second = self._round(first * scale / power_of_two(scale_exponent), 24)
        value = second * power_of_two(exponent + scale_exponent)
        sign = int(value < 0)
        value = abs(value)
        if value < power_of_two(-126):
            value = Fraction(0)
        if output == "float32":
            return self._pack(sign, value, output)
        if value >= power_of_two(128):
            return self._pack(sign, value, output)
        exponent_width, fraction_width = FIELDS[output]
        quantum = 2 - (1 << exponent_width - 1) - fraction_width  # of subnormals
        return self._pack(sign, self._round(value, fraction_width + 1, quantum), output)

    def _round(self, value: Fraction, precision: int, least: int | None = None) -> Fraction:
        """Round to a number of significant bits, but to no finer step than ``2**least``."""
        if value == 0:
            return value
        step = floor_log2(abs(value)) + 1 - precision
        if least is not None:
            step = max(step, least)
        return round_half_even(value / power_of_two(step)) * power_of_two(step)

    def _pack(self, sign: int, value: Fraction, output: str) -> int:
        exponent_width, fraction_width = FIELDS[output]
        bias = 2 ** (exponent_width - 1) - 1
        top = sign << exponent_width + fraction_width
        if value >= power_of_two(bias + 1):
            return top | (2**exponent_width - 1) << fraction_width
        if value < power_of_two(1 - bias):
            integer = value / power_of_two(1 - bias - fraction_width)
            field = 0
        else:
            exponent = floor_log2(value)
            integer = value / power_of_two(exponent - fraction_width) - 2**fraction_width
            field = exponent + bias
        assert integer.denominator == 1
        return top | field << fraction_width | int(integer)

    def run(self, matrix: QuantizedMatrix, numerics: Numerics, x: np.ndarray) -> np.ndarray:
        """Return the bit patterns of all outputs, (M, N)."""
        exponent_width, fraction_width = FIELDS[numerics.output]
        infinity = (2**exponent_width - 1) << fraction_width
        weights = self.weights(matrix)
        rows = []
        for token in x:
            aligned = self.align(token, numerics)
            if aligned is None:
                rows.append([infinity + 2 ** (fraction_width - 1)] * len(weights))
                continue
            integers, exponent = aligned
            if matrix.column_order is not None:
                integers = [integers[element] for element in matrix.column_order]
            sums = [sum(a * b for a, b in zip(integers, row, strict=True)) for row in weights]
            rows.append([
                self.convert(total, exponent, scale, numerics.output)
                for total, scale in zip(sums, matrix.row_scales, strict=True)
            ])
        return np.array(rows, dtype=f"u{(1 + exponent_width + fraction_width) // 8}")


@pytest.fixture(scope="session")
def contract() -> Contract:
    return Contract()
