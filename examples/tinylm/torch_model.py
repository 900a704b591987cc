"""The character model as a torch module whose linear layers can be replaced.

All but the matrix products stays the NumPy code of ``TinyLM``, so that two sets of layers which
return the same bits give the same logits to the bit.
"""

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import nn

from lutra.sim.tiny_lm import Floats, KvCache, TinyLM

__all__ = ["TorchTinyLM"]


class TorchTinyLM(nn.Module):
    """A :class:`TinyLM` whose linear layers are ``nn.Linear`` modules of the checkpoint's names.

    Parameters
    ----------
    lm : :class:`TinyLM`
        The model; its tensors are copied into the modules.
    """

    def __init__(self, lm: TinyLM) -> None:
        super().__init__()
        for name in lm.linear_layers():
            weight = torch.from_numpy(lm.tensors[f"{name}.weight"].copy())
            linear = nn.Linear(weight.shape[1], weight.shape[0], bias=False)
            linear.weight = nn.Parameter(weight, requires_grad=False)
            self._place(name, linear)
        self._lm = lm.with_matmul(self._product)

    def _place(self, name: str, linear: nn.Module) -> None:
        """Make the modules on the way to a dotted name, and put the layer there."""
        *path, last = name.split(".")
        module: nn.Module = self
        for part in path:
            if part not in module._modules:
                module.add_module(part, nn.Module())
            module = module.get_submodule(part)
        module.add_module(last, linear)

    def _product(self, name: str, x: Floats) -> Floats:
        device = next((item.device for item in self.parameters()), torch.device("cpu"))
        y = self.get_submodule(name)(torch.from_numpy(np.ascontiguousarray(x)).to(device))
        return y.detach().cpu().numpy()

    def forward(self, tokens: ArrayLike, cache: KvCache | None = None) -> Floats:
        """Return the logits of the token after each; see :meth:`TinyLM.logits`."""
        return self._lm.logits(tokens, cache)
