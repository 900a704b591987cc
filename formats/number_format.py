"""A number format as data: what the codes of one group of weights mean."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from .planes import bit_truth, find_planes
from .stream_codes import assign_stream_codes
from .terms import Term, TermStep, find_term_steps, power_term, signed_power_terms

__all__ = ["MAX_SCALE_WIDTH", "BinaryCodingFormat", "NumberFormat", "Plane", "ValueFormat"]

MAX_SCALE_WIDTH = 31
"""Most magnitude bits of a group scale, which is an int32."""


@dataclass(frozen=True, slots=True)
class Plane:
    """One digit plane: a function of the code bits that yields a digit, and its coefficient.

    Parameters
    ----------
    truth : int
        Truth table; bit ``c`` is the digit's bit for code ``c``.
    coefficient : int
        Integer factor of the digit, on the format's grid.
    bipolar : bool
        Digits are -1 and +1 when true, 0 and 1 when false.
    scale_index : int
        Which of the group's scales multiplies this plane.
    """

    truth: int
    coefficient: int
    bipolar: bool = False
    scale_index: int = 0

    def digits(self, code_width: int) -> npt.NDArray[np.int64]:
        """Return the digit of every code, ``(2**code_width,) int64``."""
        bits = np.array([self.truth >> code & 1 for code in range(1 << code_width)], dtype=np.int64)
        return 2 * bits - 1 if self.bipolar else bits


@dataclass(frozen=True)
class NumberFormat:
    """What every engine needs to know of a format; see the kinds below and beside this file.

    A weight is ``sum_p scales[p.scale_index] * p.coefficient * digit_p(code)``, less
    ``scales[0] * value(zero)`` where the format has a zero-point.

    Parameters
    ----------
    name : str
        Unique name, also used in model files.
    code_width : int
        Bits of one stored code, 1 to 8.
    """

    name: str
    code_width: int

    def __post_init__(self) -> None:
        if not 1 <= self.code_width <= 8:
            raise ValueError(
                f"Code width of format {self.name!r} must be in 1..8, not {self.code_width!r}"
            )

    @property
    def planes(self) -> tuple[Plane, ...]:
        """Digit planes, in the order in which an engine takes them."""
        raise NotImplementedError(f"{type(self).__name__} must define planes")

    @property
    def stream_codes(self) -> tuple[int, ...]:
        """Number of each code by which most planes are its bits: its own, if there is no such."""
        return tuple(range(1 << self.code_width))

    def stream_truth(self, truth: int) -> int:
        """Rearrange a truth table over codes into one over these numbers."""
        return sum((truth >> code & 1) << new for code, new in enumerate(self.stream_codes))

    @cached_property
    def term_steps(self) -> tuple[TermStep, ...]:
        """Signed powers of two of every code, in the order in which an engine takes them.

        Times their scales they add up to a code's weight; in formats with a zero-point up to a
        constant, which the zero-point's own terms take off again. Here one step for each plane,
        whose coefficients must be powers of two.
        """
        return tuple(
            TermStep(tuple(map(power_term, self._plane_values()[index])), plane.scale_index)
            for index, plane in enumerate(self.planes)
        )

    @property
    def step_count(self) -> int:
        """Steps that a bit-serial engine takes."""
        return len(self.term_steps)

    @property
    def scale_count(self) -> int:
        """Integers that scale one group: 1, or one for each plane."""
        return 1 + max(plane.scale_index for plane in self.planes)

    @property
    def has_zero_point(self) -> bool:
        """Whether each group names a code whose value is subtracted from all of its weights."""
        return False

    @property
    def peak(self) -> int:
        """Largest magnitude of a weight on the grid when every scale is 1."""
        values = self.weight_table(np.eye(self.scale_count, dtype=np.int64))
        if self.has_zero_point:
            return int(values.max() - values.min())
        return int(np.abs(values).sum(axis=0).max())  # scales have signs of their own

    def weight_table(self, scales: npt.ArrayLike) -> npt.NDArray[np.int64]:
        """Return the integer weight of every code for given scales, before any zero-point.

        Parameters
        ----------
        scales : int array, shape (..., scale_count)
            Group scales.

        Returns
        -------
        int64 array, shape (..., 2**code_width)
        """
        factors = np.asarray(scales, dtype=np.int64)[..., [p.scale_index for p in self.planes]]
        return factors @ self._plane_values()

    def _plane_values(self) -> npt.NDArray[np.int64]:
        """Coefficient times digit, ``(planes, 2**code_width) int64``."""
        return np.stack([p.coefficient * p.digits(self.code_width) for p in self.planes])


@dataclass(frozen=True)
class ValueFormat(NumberFormat):
    """A format given by a table: each code is an integer on a grid.

    Parameters
    ----------
    values : tuple of int
        Value of each code in steps of the grid, ``2**code_width`` of them.
    grid_exponent : int
        One step is ``2**grid_exponent`` in the units of the format's definition. Scales are chosen
        for the integers, so this only matters to whoever reads the values.
    zero_point : bool
        Whether groups carry a zero-point, itself a code of this format.
    source : str
        Where the values are defined.
    unused : tuple of int
        Codes that quantisers do not produce, so that a symmetric format stays symmetric. They
        decode like any other.
    coefficients : tuple of int
        Coefficients of the planes, where the weight stream numbers codes so that the first
        ``code_width`` planes are bits of these numbers (:func:`assign_stream_codes`): decoders then
        have little to do. Otherwise the shortest list is searched for, and codes are streamed as
        they are.
    """

    values: tuple[int, ...] = ()
    grid_exponent: int = 0
    zero_point: bool = False
    source: str = ""
    unused: tuple[int, ...] = ()
    coefficients: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        super().__post_init__()
        if len(self.values) != 1 << self.code_width:
            raise ValueError(
                f"Format {self.name!r} must list {1 << self.code_width} values for its "
                f"{self.code_width}-bit codes, not {len(self.values)}"
            )
        if self.coefficients and self.zero_point:
            raise ValueError(
                f"Format {self.name!r} must not have both coefficients and a zero-point: the "
                f"stream has zero-points as they are"
            )

    @cached_property
    def planes(self) -> tuple[Plane, ...]:  # type: ignore[override]
        """Planes of the given coefficients, or the shortest exact list, searched for once."""
        if not self.coefficients:
            return tuple(Plane(truth, factor) for factor, truth in find_planes(self.values))
        _, digits = self._streamed
        return tuple(
            Plane(sum((each >> plane & 1) << code for code, each in enumerate(digits)), factor)
            for plane, factor in enumerate(self.coefficients)
        )

    @cached_property
    def stream_codes(self) -> tuple[int, ...]:  # type: ignore[override]
        """Number of each code by which the first planes are its bits."""
        return self._streamed[0] if self.coefficients else super().stream_codes

    @cached_property
    def _streamed(self) -> tuple[tuple[int, ...], tuple[int, ...]]:
        return assign_stream_codes(self.values, self.coefficients, self.code_width)

    @cached_property
    def terms(self) -> tuple[tuple[Term, ...], ...]:
        """Fewest signed powers of two that make up the value of each code, largest first."""
        return tuple(signed_power_terms(value) for value in self.values)

    @cached_property
    def term_steps(self) -> tuple[TermStep, ...]:
        """Fewest steps, of the values themselves or, beside a zero-point, of centred ones."""
        steps = find_term_steps(self.values)
        if not self.zero_point:
            return steps
        centre = (min(self.values) + max(self.values) + 1) // 2
        centred = find_term_steps(tuple(value - centre for value in self.values))
        return min(steps, centred, key=len)

    @property
    def has_zero_point(self) -> bool:
        """Whether each group names a code whose value is subtracted from all of its weights."""
        return self.zero_point


@dataclass(frozen=True)
class BinaryCodingFormat(NumberFormat):
    """Binary-coding quantisation: every code bit is a sign with a scale of its own.

    A weight is ``sum_i scales[i] * (2 * bit_i - 1)``, plus ``scales[code_width]`` where the format
    has an offset.

    Parameters
    ----------
    offset : bool
        Whether each group has an additive constant, held as one more scale.
    source : str
        Where the format is defined.
    """

    offset: bool = False
    source: str = "Park et al., LUT-GEMM, ICLR 2024, section 2.3"

    @cached_property
    def planes(self) -> tuple[Plane, ...]:  # type: ignore[override]
        """One bipolar plane a code bit; the offset is a plane whose digit is always 1."""
        planes = [
            Plane(bit_truth(bit, self.code_width), 1, bipolar=True, scale_index=bit)
            for bit in range(self.code_width)
        ]
        if self.offset:
            always = (1 << (1 << self.code_width)) - 1
            planes.append(Plane(always, 1, bipolar=True, scale_index=self.code_width))
        return tuple(planes)
