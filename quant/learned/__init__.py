"""What quantisers learn by gradients; PyTorch is imported only here, when it is asked for."""

from importlib.util import find_spec

if find_spec("torch") is None:
    raise ValueError(
        "Methods that learn need PyTorch; install it with `pip install 'lutra[gpu]'`, or choose a "
        "method such as gptq or mse"
    )

from .clipping import LearnedClipping
from .head_matrices import learn_value_matrices
from .hessian_trace import hessian_traces
from .rounding import learn_rounding

__all__ = ["LearnedClipping", "hessian_traces", "learn_rounding", "learn_value_matrices"]
