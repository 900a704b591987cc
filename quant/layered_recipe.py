"""Different recipes for different layers."""

import json
from dataclasses import dataclass
from fnmatch import fnmatchcase

from .mixture import Mixture
from .recipe import Recipe

__all__ = ["LayeredRecipe"]


@dataclass(frozen=True, kw_only=True)
class LayeredRecipe:
    """A recipe for layers by name, and one for all others.

    Parameters
    ----------
    layers : tuple of (str, Recipe or Mixture)
        Shell patterns for whole names of layers or their tensors; the first that matches counts.
    default : Recipe or Mixture
        For layers that no pattern matches.
    """

    layers: tuple[tuple[str, Recipe | Mixture], ...]
    default: Recipe | Mixture

    @property
    def rules(self) -> tuple[Recipe | Mixture, ...]:
        """All recipes, the default last."""
        return (*(rule for _, rule in self.layers), self.default)

    def rule_of(self, tensor: str) -> int:
        """Return the index into :attr:`rules` for a tensor's name."""
        names = (tensor, tensor.removesuffix(".weight"))
        for index, (pattern, _) in enumerate(self.layers):
            if any(fnmatchcase(name, pattern) for name in names):
                return index
        return len(self.layers)

    def to_json(self) -> str:
        """Return the recipe as one JSON object, in the form of a recipe file."""
        fields = json.loads(self.default.to_json())
        fields["layers"] = [
            {"match": pattern, **json.loads(rule.to_json())} for pattern, rule in self.layers
        ]
        return json.dumps(fields)
