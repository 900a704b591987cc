"""A back end that computes by planes, group by group, with places for faults."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from lutra.gen import BackendRun
from lutra.sim import align, convert_output


def same(value: Any, *_: Any) -> Any:
    return value


@dataclass
class Faulty:
    """What each step makes is given to a function, which returns what goes on.

    ``activations`` gets the aligned activations (M, K), and x; ``digits`` the digits (L,) of a
    plane, the plane's number and the codes; ``scale`` the scales of a group, its number and the
    row's; ``add`` the sum so far (M,), what is to be added, and the number of the group;
    ``convert`` and ``outputs`` the arguments of the conversion and what comes out.
    """

    config: Any
    activations: Callable = same
    digits: Callable = same
    scale: Callable = same
    add: Callable = lambda total, part, group: total + part
    convert: Callable = convert_output
    outputs: Callable = same
    runs: int = 0

    def run(self, matrix, x, *, packed=None):
        """Compute; see :class:`Backend`."""
        self.runs += 1
        numerics = self.config.parameters.numerics
        tokens = align(x, numerics, nonfinite="nan")
        aligned = self.activations(tokens.X, x)
        sums = np.stack([self.row(matrix, n, aligned) for n in range(matrix.rows)], axis=1)
        if numerics.output == "int":
            return BackendRun(self.outputs((sums, tokens.exponent)), None)
        scales = matrix.row_scales
        y = self.convert(sums, tokens.exponent, scales, numerics.output, tokens.nonfinite)
        return BackendRun(self.outputs(y), None)

    def row(self, matrix, n, aligned):
        """Return the sums of a row, (M,)."""
        total = np.zeros(len(aligned), np.int64)
        for group in range(matrix.groups):
            columns = slice(group * matrix.group_size, (group + 1) * matrix.group_size)
            item = matrix.members[matrix.format_ids[n, group]]
            codes, part = matrix.codes[n, columns], np.zeros(len(aligned), np.int64)
            scales = self.scale(matrix.scales[n, group], group, matrix.scales[n])
            for number, plane in enumerate(item.planes):
                digits = self.digits(plane.digits(item.code_width)[codes], number, codes)
                plane_sum = aligned[:, columns] @ digits
                part += int(scales[plane.scale_index]) * plane.coefficient * plane_sum
            if item.has_zero_point:
                zero = item.weight_table(np.ones(1, np.int64))[matrix.zeros[n, group]]
                part -= int(scales[0]) * zero * aligned[:, columns].sum(axis=1)
            total = self.add(total, part, group)
        return total
