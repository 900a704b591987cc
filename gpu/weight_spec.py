"""What is known of packed weights besides their tensors."""

import json
from dataclasses import asdict, dataclass
from functools import lru_cache

from .words import CHUNK

__all__ = ["Bucket", "WeightSpec"]


@dataclass(frozen=True, kw_only=True)
class Bucket:
    """Groups whose codes are packed alike.

    Parameters
    ----------
    code_width : int
        Bits of the codes of one sum.
    sums : int
        Sums with a scale of their own: 1, or the signs of a binary coding.
    tables : int
        Value tables of 16 bytes that groups choose from; 0 where the codes are the values.
    units : int
        Most rows that have such a group in the same columns.
    """

    code_width: int
    sums: int
    tables: int
    units: int

    @property
    def words(self) -> int:
        """Words of a chunk."""
        return self.code_width * self.sums


@dataclass(frozen=True, kw_only=True)
class WeightSpec:
    """Shape and layout of packed weights; goes through operators as text.

    Parameters
    ----------
    rows, columns, group_size : int
        N, K, and columns of a group.
    row_sum : int
        Largest sum of magnitudes of a row of integer weights.
    padded_group : int
        Columns of a group with padding: 4, 8, 16 or a multiple of 32; 0 for dense weights.
    buckets : tuple of Bucket
        None for dense weights; several for mixtures.
    is_ordered : bool
        Whether the one bucket holds all groups, so that rows and groups need no index.
    """

    rows: int
    columns: int
    group_size: int
    row_sum: int
    padded_group: int = 0
    buckets: tuple[Bucket, ...] = ()
    is_ordered: bool = False

    @property
    def is_dense(self) -> bool:
        """Whether the weights are plain integers and not packed."""
        return not self.buckets

    @property
    def groups(self) -> int:
        """Groups of a row, padded so that they fill chunks."""
        groups = -(-self.columns // self.group_size)
        return -(-groups // self.groups_per_chunk) * self.groups_per_chunk

    @property
    def groups_per_chunk(self) -> int:
        """Groups of a chunk, 1 if they are as long or longer."""
        return max(CHUNK // self.padded_group, 1) if self.padded_group else 1

    @property
    def padded_columns(self) -> int:
        """Columns of a packed row."""
        return self.groups * self.padded_group

    @property
    def sums(self) -> int:
        """Most sums of a bucket."""
        return max((bucket.sums for bucket in self.buckets), default=1)

    def to_text(self) -> str:
        """Return the same as JSON."""
        return json.dumps(asdict(self))

    @staticmethod
    @lru_cache(maxsize=4096)
    def parse(text: str) -> "WeightSpec":
        """Undo :meth:`to_text`.

        Raises
        ------
        :exc:`ValueError`
            If the text is none of :meth:`to_text`.
        """
        try:
            fields = json.loads(text)
            buckets = tuple(Bucket(**item) for item in fields.pop("buckets"))
            spec = WeightSpec(**fields, buckets=buckets)
            numbers = [*fields.values(), *(n for item in buckets for n in asdict(item).values())]
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise ValueError(
                f"The text of weights must be that of their specification (PackedWeights.text), "
                f"not {text[:60]!r}"
            ) from error
        if not all(isinstance(number, int) and number >= 0 for number in numbers) or not (
            spec.rows and spec.columns and spec.group_size
        ):
            raise ValueError(
                f"Numbers in the specification of weights must be whole and not negative, and "
                f"rows, columns and group_size positive; it is {text!r}"
            )
        return spec
