"""The registry of quantisers: every method that Lutra knows, by name."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from ..formats import Family, QuantizedMatrix
from .absmax import absmax
from .alternating import alternating
from .block_scaled import is_plain_value, microscaling, nvidia_scaling
from .calibration import LayerCalibration
from .finequant import finequant
from .gptq import gptq
from .greedy import greedy
from .group_searches import SEARCHES, GroupMethod, searches_for
from .kmeans import has_free_values, kmeans
from .learned_clipping import can_clip, learned_clipping
from .learned_rounding import learned_rounding
from .llm_fp4 import has_no_zero_point, llm_fp4
from .minmax import minmax
from .mse import mse
from .option import Option, OptionValue
from .slim_quant import slim_quant

__all__ = ["METHODS", "Method", "method_for"]


@dataclass(frozen=True, slots=True)
class Method:
    """A quantiser and the formats that it serves.

    Parameters
    ----------
    name : str
        Name in recipes and on the command line.
    quantizer : callable
        ``quantizer(weights, family, group_size, scale_width, **options)`` returns a
        :class:`QuantizedMatrix`; ``weights`` is finite float32 of shape (N, K), ``group_size`` is
        1 to K. Where calibration is used, it is given ``calibration`` besides.
    serves : callable
        ``serves(family)``: whether the method can quantise to it.
    summary : str
        One line for people.
    options : tuple of Option
        What it can be told besides.
    calibrated : bool
        Whether it cannot do without calibration data. One that has an option ``weighting`` uses
        them unless that is "none"; any other does not.
    search : GroupMethod, optional
        The part of it that quantises a few groups; None for a method that does not work group by
        group, whose formats cannot be mixed with others in a layer.
    """

    name: str
    quantizer: Callable[..., QuantizedMatrix]
    serves: Callable[[Family], bool]
    summary: str
    options: tuple[Option, ...] = ()
    calibrated: bool = False
    search: GroupMethod | None = None

    def needs_calibration(self, options: Mapping[str, OptionValue]) -> bool:
        """Whether calibration data are used with these options, which are complete."""
        return self.calibrated or options.get("weighting", "none") != "none"

    def run(
        self,
        weights: npt.NDArray[np.float32],
        family: Family,
        group_size: int,
        scale_width: int,
        options: Mapping[str, OptionValue],
        calibration: LayerCalibration | None = None,
    ) -> QuantizedMatrix:
        """Quantise, with checked arguments and complete options.

        Raises
        ------
        :exc:`ValueError`
            If calibration data are needed and missing, or given and not used.
        """
        needed = self.needs_calibration(options)
        if needed and calibration is None:
            raise ValueError(self.without_calibration)
        if calibration is not None and not needed:
            raise ValueError(f"Method {self.name!r} does not use calibration data{self._hint}")
        known: dict[str, Any] = {"calibration": calibration} if needed else {}
        return self.quantizer(weights, family, group_size, scale_width, **options, **known)

    @property
    def without_calibration(self) -> str:
        """Sentence for whoever gives no calibration data to a method that needs them."""
        instead = "" if self.calibrated else "; or set its option 'weighting' to 'none'"
        return (
            f"Method {self.name!r} needs the activations of calibration text; give a calibration "
            f"file, --calibration FILE{instead}"
        )

    @property
    def _hint(self) -> str:
        weightings = [item for item in self.options if item.name == "weighting"]
        if not weightings:
            return ""
        return f" unless its option 'weighting' is {weightings[0].choices[-1]!r}"


_WEIGHTING = Option(
    name="weighting",
    default="none",
    choices=("none", "activation"),
    summary="what an error of a weight counts: the same, or the mean square of its input",
)
_BASE = Option(
    name="base",
    default="auto",
    choices=("auto", *SEARCHES),
    summary="method that finds formats and scales; 'auto' is mse, or alternating for signs",
)

_DEVICE = Option(
    name="device",
    default="cpu",
    choices=("cpu", "cuda"),
    summary="where PyTorch computes; results of different devices differ",
)


def _damping(default: float) -> Option:
    return Option(
        name="damping",
        default=default,
        low=1e-6,
        high=10.0,
        summary="added to the Hessian's diagonal, as a share of its mean",
    )


def _share(name: str, of: str) -> Option:
    return Option(name=name, default=0.0, low=0.0, high=0.1, summary=f"share of {of}")


def _steps(default: int) -> Option:
    return Option(name="steps", default=default, low=1, high=100_000, summary="steps of Adam")


def _rate(default: float) -> Option:
    return Option(name="rate", default=default, low=1e-6, high=1.0, summary="learning rate")


def _in_groups(
    name: str, quantizer: Callable[..., QuantizedMatrix], summary: str, *options: Option
) -> Method:
    """Enter a method that quantises every group by itself."""
    search = SEARCHES[name]
    return Method(name, quantizer, search.serves, summary, options, search=search)


def _on_groups(family: Family) -> bool:
    """Whether some method finds scales for a family, group by group."""
    return bool(searches_for(family))


# The first method that serves a family is its default.
METHODS: dict[str, Method] = {
    entry.name: entry
    for entry in (
        _in_groups("absmax", absmax, "round to nearest; the largest weight fits"),
        _in_groups("mse", mse, "round to nearest; clip where that lowers the error", _WEIGHTING),
        _in_groups(
            "alternating",
            alternating,
            "fit scales and signs in turns",
            Option(name="rounds", default=15, low=0, high=1000, summary="turns"),
            _WEIGHTING,
        ),
        Method(
            "mx",
            microscaling,
            is_plain_value,
            "powers of two as scales, as MX formats have",
        ),
        Method("nv", nvidia_scaling, is_plain_value, "E4M3 numbers as scales, as NVFP4 has"),
        _in_groups("minmax", minmax, "codes spread from the least to the greatest weight"),
        _in_groups("greedy", greedy, "one plane after another"),
        Method(
            "kmeans",
            kmeans,
            has_free_values,
            "codebooks that fit the weights, with a few of them kept beside",
            (
                _WEIGHTING,
                Option(name="rounds", default=50, low=1, high=1000, summary="of k-means, at most"),
                _share("outliers", "the weights kept beside the codebook, the largest"),
                _share("sensitive", "those kept beside, that lose the most"),
            ),
            search=SEARCHES["kmeans"],
        ),
        Method(
            "slim_quant",
            slim_quant,
            is_plain_value,
            "one scale for the layer, of least error on a histogram",
        ),
        Method(
            "llm_fp4",
            llm_fp4,
            has_no_zero_point,
            "bounds, and of several formats the one, of least output error",
            (
                Option(
                    name="weighting",
                    default="none",
                    choices=("none", "output"),
                    summary="whose error is measured: the weights', or the outputs'",
                ),
                Option(
                    name="tokens",
                    default=256,
                    low=1,
                    high=1_000_000,
                    summary="most tokens of the calibration data to look at",
                ),
            ),
        ),
        Method(
            "finequant",
            finequant,
            _on_groups,
            "groups from whole rows down to the group size, no smaller than needed",
            (
                _BASE,
                Option(
                    name="rule",
                    default="range",
                    choices=("range", "error"),
                    summary="halve while ranges shrink, or until the error is small enough",
                ),
                Option(
                    name="gain",
                    default=0.9,
                    low=0.0,
                    high=1.0,
                    summary="share to which halving has to shrink the mean range",
                ),
                Option(
                    name="budget",
                    default=0.01,
                    low=0.0,
                    high=1.0,
                    summary="squared error that is small enough, as a share of the squares",
                ),
            ),
        ),
        Method(
            "gptq",
            gptq,
            _on_groups,
            "column by column; each error is made up for by the columns after it",
            (
                _BASE,
                _damping(0.1),
                Option(
                    name="scales",
                    default="along",
                    choices=("along", "before"),
                    summary="take a group's scale when its turn comes, or all before the first",
                ),
                Option(
                    name="order",
                    default="given",
                    choices=("given", "activation"),
                    summary="of the columns: as they stand, or by the mean squares of their inputs",
                ),
            ),
            calibrated=True,
        ),
        Method(
            "learned_clipping",
            learned_clipping,
            can_clip,
            "round to nearest; bounds of groups are learned for the layer's output",
            (
                replace(_BASE, name="start", summary="method whose scales are the first step"),
                _steps(100),
                _rate(0.1),
                _damping(0.01),
                _DEVICE,
            ),
            calibrated=True,
        ),
        Method(
            "learned_rounding",
            learned_rounding,
            _on_groups,
            "each weight up or down, learned for the layer's output",
            (_BASE, _steps(200), _rate(0.05), _damping(0.1), _DEVICE),
            calibrated=True,
        ),
    )
}


def method_for(family: Family, name: str | None = None) -> Method:
    """Look up a method for a family; without a name, the family's default.

    Raises
    ------
    :exc:`ValueError`
        If there is no such method, or it does not serve the family; the sentence lists those that
        do.
    """
    serving = [method for method in METHODS.values() if method.serves(family)]
    if not serving:
        raise ValueError(f"There is no method that quantises to format {family.name!r}")
    if name is None:
        return serving[0]
    listed = ", ".join(method.name for method in serving)
    if name not in METHODS:
        raise ValueError(f"Unknown method {name!r}; methods for format {family.name!r}: {listed}")
    if METHODS[name] not in serving:
        raise ValueError(
            f"Method {name!r} cannot quantise to format {family.name!r}; methods that can: {listed}"
        )
    return METHODS[name]
