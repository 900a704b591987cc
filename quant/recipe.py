"""How to quantise: the choices that a model file records."""

import json
import operator
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

from ..formats import ALIASES, BLOCK_FORMATS, BlockFormat, CodebookFormat, Family
from ..formats.number_format import MAX_SCALE_WIDTH
from .codebook_family import recipe_family
from .methods import METHODS, method_for
from .option import OptionValue, complete_options

__all__ = ["Recipe"]

_USUAL_GROUP_SIZE = 128


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """Format, group size, method and scale width for a layer or a whole model.

    Parameters
    ----------
    format : str
        Name of a family of the catalogue, of a codebook's slot, or of a block format; what is kept
        of that is its element, its group size and its method.
    group_size : int, "row", "auto" or None
        Weights of one group, at least 1; "row" and None (which is what is kept) take whole rows.
        A size beyond a layer's columns takes whole rows there. "auto" is what a block format has,
        and 128 for all others.
    method : str, optional
        Name of a quantiser; kept as the format's default where none is given.
    scale_width : int
        Magnitude bits of a group scale, 1 to 31.
    codebook : sequence of int, optional
        Entries, for a codebook's slot; kept as a tuple.
    options : mapping, optional
        Options of the method, by name; kept as a dictionary of all of them, those left out with
        their defaults, or None where the method has none.

    Raises
    ------
    :exc:`ValueError`
        If a name is unknown, the codebook does not go with the format, the method does not serve
        the format or has no such option, or a number is out of range.
    """

    format: str
    group_size: int | str | None = "auto"
    method: str | None = None
    scale_width: int = 8
    codebook: Sequence[int] | None = None
    options: Mapping[str, OptionValue] | None = None

    def __post_init__(self) -> None:
        if self.format in BLOCK_FORMATS:
            self._take_block(BLOCK_FORMATS[self.format])
        if self.group_size == "auto":
            object.__setattr__(self, "group_size", _USUAL_GROUP_SIZE)
        object.__setattr__(self, "format", ALIASES.get(self.format, self.format))
        if self.codebook is not None:
            item = recipe_family(self.format, self.codebook).members[0]
            assert isinstance(item, CodebookFormat)
            object.__setattr__(self, "codebook", item.values)
        chosen = method_for(self.family, self.method)
        object.__setattr__(self, "method", chosen.name)
        complete = complete_options(chosen.name, chosen.options, self.options)
        object.__setattr__(self, "options", complete or None)
        size = None if self.group_size == "row" else self.group_size
        if size is not None:
            size = _integer("Group size", size, "an integer, or 'row' for whole rows")
            if size < 1:
                raise ValueError(
                    f"Group size must be at least 1, or 'row' for whole rows, not {size}"
                )
        object.__setattr__(self, "group_size", size)
        width = _integer("Scale width", self.scale_width, f"an integer in 1..{MAX_SCALE_WIDTH}")
        if not 1 <= width <= MAX_SCALE_WIDTH:
            raise ValueError(f"Scale width must be in 1..{MAX_SCALE_WIDTH}, not {width}")
        object.__setattr__(self, "scale_width", width)

    def _take_block(self, block: BlockFormat) -> None:
        """Put what a block format stands for in its place."""
        if self.group_size not in ("auto", block.group_size):
            raise ValueError(
                f"Format {block.name!r} has groups of {block.group_size} weights, not "
                f"{'whole rows' if self.group_size in (None, 'row') else self.group_size}; leave "
                f"the group size out, or take format {block.element!r}"
            )
        if self.method not in (None, block.method):
            raise ValueError(
                f"Format {block.name!r} is made by method {block.method!r}, not {self.method!r}; "
                f"leave the method out, or take format {block.element!r}"
            )
        object.__setattr__(self, "group_size", block.group_size)
        object.__setattr__(self, "method", block.method)
        object.__setattr__(self, "format", block.element)

    @property
    def family(self) -> Family:
        """What the format's name stands for."""
        return recipe_family(self.format, self.codebook, is_found=self.method == "kmeans")

    @property
    def needs_calibration(self) -> bool:
        """Whether the method uses calibration data."""
        return METHODS[str(self.method)].needs_calibration(self.options or {})

    @property
    def without_calibration(self) -> str:
        """Sentence for whoever gives no calibration data though they are needed."""
        return METHODS[str(self.method)].without_calibration

    def to_json(self) -> str:
        """Return the recipe as one JSON object; a codebook and options only where there are any."""
        fields = asdict(self)
        for name in ("codebook", "options"):
            if fields[name] is None:
                del fields[name]
        return json.dumps(fields)

    @classmethod
    def from_json(cls, text: str) -> "Recipe":
        """Read what :meth:`to_json` wrote.

        Raises
        ------
        :exc:`ValueError`
            If the text is not such an object or a choice in it is not valid.
        """
        try:
            return cls(**json.loads(text))
        except (json.JSONDecodeError, TypeError) as error:
            fields = ", ".join(cls.__dataclass_fields__)
            raise ValueError(f"A recipe must be a JSON object with the keys {fields}") from error


def _integer(thing: str, value: object, wanted: str) -> int:
    try:
        if isinstance(value, bool):  # TOML's true, which is no 1
            raise TypeError
        return operator.index(value)  # type: ignore[arg-type]
    except TypeError:
        raise ValueError(f"{thing} must be {wanted}, not {value!r}") from None
