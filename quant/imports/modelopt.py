"""NVFP4 as NVIDIA's Model Optimizer writes it."""

from ...formats import QuantizedMatrix
from ..file_error import FileError
from .eight_bit_floats import e4m3_scales
from .nvfp4_matrix import NVFP4_GROUP, nvfp4_matrix
from .safetensors_importer import SafetensorsImporter
from .source import CheckpointSource
from .unpack import unpack_nibbles

__all__ = ["ModelOptImporter"]


class ModelOptImporter(SafetensorsImporter):
    """Model Optimizer checkpoints of algorithm NVFP4.

    ``weight`` uint8 (N, K / 2) has two E2M1 codes a byte, the low one first; a group of 16 has the
    scale ``weight_scale * weight_scale_2`` in float32, E4M3 (N, K / 16) times one float32.
    ``input_scale`` and the scales of a cache are not weights and are left out.

    A layer with ``pre_quant_scale`` is refused: its activations are to be multiplied by it first,
    and without that its weights are wrong.

    Source
    ------
    TensorRT Model Optimizer, ``NVFP4QTensor``.
    """

    name = "modelopt"
    summary = "Model Optimizer NVFP4"
    marker = ".weight"
    suffixes = (".weight_scale", ".weight_scale_2")

    def __init__(self, source: CheckpointSource):
        super().__init__(source)
        algorithm = source.config.get("quant_algo", "NVFP4")
        if algorithm != "NVFP4":
            raise ValueError(
                f"{source.path} is a Model Optimizer checkpoint of {algorithm!r}; Lutra imports "
                "NVFP4"
            )
        size = source.config.get("group_size", NVFP4_GROUP)
        if size != NVFP4_GROUP:
            raise ValueError(f"NVFP4 must have groups of {NVFP4_GROUP}, not {size!r}")

    @classmethod
    def detect(cls, source: CheckpointSource) -> bool:
        """Whether the configuration says so."""
        config = source.config
        method = config.get("quant_method")
        return method == "modelopt" or (method is None and "quant_algo" in config)

    def is_layer(self, tensor: str) -> bool:
        """Whether a weight has the scales of a quantised one."""
        return f"{tensor}_scale_2" in self.source.tensors

    def size(self, layer: str) -> int:
        """Return a layer's number of weights, for progress, without reading it."""
        rows, octets = self.shape(f"{layer}.weight", ("U8",), 2)
        return rows * 2 * octets

    def read_layer(self, layer: str) -> QuantizedMatrix:
        """Read a layer that there is; errors need not name it."""
        for name in (f"{layer}.pre_quant_scale", f"{layer}.input_quantizer._pre_quant_scale"):
            if self.has(name):
                raise FileError(
                    f"Its tokens are to be multiplied by {name!r} first, which Lutra does not do; "
                    "without it the weights would be wrong"
                )
        rows, octets = self.shape(f"{layer}.weight", ("U8",), 2)
        name = f"{layer}.weight_scale"
        shape = (rows, -(-2 * octets // NVFP4_GROUP))
        scales = e4m3_scales(self.array(name, ("F8_E4M3",), shape), name)
        name = f"{layer}.weight_scale_2"
        second = self.source.entry(name).shape
        factor = self.floats(name, second if second in ((), (1,)) else (1,)).reshape(-1)[0]
        codes = self.array(f"{layer}.weight", ("U8",), (rows, octets))
        matrix, as_defined = nvfp4_matrix(
            unpack_nibbles(codes, high_first=False),
            scales=scales,
            factor=factor,
            divides=False,
            bias=self.bias(layer, rows),
        )
        if not as_defined:
            self.note_apart(layer)
        return matrix
