"""What a quantised model is worth: error of its weights, size, loss on a text, predicted cycles."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from ..formats import QuantizedMatrix
from ..quant import Checkpoint, LayerRecord, ModelFile, WeightError, weight_error
from ..sim import LanguageScore, LanguageTest, predict_cycles
from ..sim.tiny_lm import Floats, Matmul
from .config import EngineConfig
from .simulate import families

__all__ = ["Evaluation", "LayerEvaluation", "evaluate_model", "float_product"]


@dataclass(frozen=True, kw_only=True)
class LayerEvaluation:
    """Figures of one layer.

    Parameters
    ----------
    layer : str
        Its name.
    rows, columns : int
        N and K.
    code_bits, stored_bits : float
        Bits of a weight: of the codes alone, and of all that the model file has of the layer.
    error : WeightError
        Against the checkpoint.
    cycles : int or None
        That an engine is predicted to take for one token; None without an engine that could.
    """

    layer: str
    rows: int
    columns: int
    code_bits: float
    stored_bits: float
    error: WeightError
    cycles: int | None


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """Figures of a model file; bits are means over the weights.

    Parameters
    ----------
    layers : tuple of LayerEvaluation
        In the order of the file.
    score : LanguageScore or None
        On the text, if there was one.
    """

    layers: tuple[LayerEvaluation, ...]
    score: LanguageScore | None

    @property
    def weights(self) -> int:
        """Weights of all layers."""
        return sum(item.rows * item.columns for item in self.layers)

    @property
    def code_bits(self) -> float:
        """Bits of a weight's code."""
        bits = (item.code_bits * item.rows * item.columns for item in self.layers)
        return sum(bits) / self.weights

    @property
    def stored_bits(self) -> float:
        """Bits that the model file has for a weight."""
        bits = (item.stored_bits * item.rows * item.columns for item in self.layers)
        return sum(bits) / self.weights

    @property
    def error(self) -> WeightError:
        """Error of all weights together."""
        return sum((item.error for item in self.layers), WeightError())

    @property
    def cycles(self) -> int | None:
        """Cycles of all layers for one token; None if one of them has none."""
        cycles = [item.cycles for item in self.layers if item.cycles is not None]
        return sum(cycles) if len(cycles) == len(self.layers) else None


def evaluate_model(
    model: ModelFile,
    checkpoint: Checkpoint,
    *,
    test: LanguageTest | None = None,
    config: EngineConfig | None = None,
) -> Evaluation:
    """Compare a model file with the checkpoint that it was made from.

    Parameters
    ----------
    model : ModelFile
        Quantised layers.
    checkpoint : Checkpoint
        Their weights in floating point.
    test : LanguageTest, optional
        Text for the model of the checkpoint. Products are those of the quantised weights in
        float32: how an engine rounds activations is left out.
    config : EngineConfig, optional
        Engine to predict cycles of, made anew for the formats and the group size of each layer. A
        layer that no such engine can run has none.

    Raises
    ------
    :exc:`ValueError`
        If the checkpoint lacks a layer, has it in another shape, or the test's model does not have
        a layer of the file.
    """
    layers: list[LayerEvaluation] = []
    weights: dict[str, Floats] = {}
    tensors = {tensor.removesuffix(".weight"): tensor for tensor in checkpoint.tensor_names}
    for name in model.layers:
        if name not in tensors:
            raise ValueError(f"{checkpoint.path} has no layer {name!r}, as {model.path} does")
        matrix = model.layer(name)
        layers.append(
            LayerEvaluation(
                layer=name,
                rows=matrix.rows,
                columns=matrix.columns,
                code_bits=model.code_bits(name),
                stored_bits=model.bits_per_weight(name),
                error=weight_error(checkpoint.read(tensors[name]).weights, matrix),
                cycles=None if config is None else _cycles(model.record(name), matrix, config),
            )
        )
        if test is not None:
            weights[name] = matrix.dequantize().astype(np.float32)
    score = None if test is None else test.score(float_product(weights, test))
    return Evaluation(layers=tuple(layers), score=score)


def float_product(weights: Mapping[str, Floats], test: LanguageTest) -> Matmul:
    """Return a product with other weights for some layers of a test's model.

    Raises
    ------
    :exc:`ValueError`
        If the model does not have one of them.
    """
    if unknown := sorted(weights.keys() - test.model.linear_layers()):
        raise ValueError(f"The language model has no layer {unknown[0]!r}")

    def product(name: str, x: Floats) -> Floats:
        return x @ weights[name].T if name in weights else test.model.float_matmul(name, x)

    return product


def _cycles(record: LayerRecord, matrix: QuantizedMatrix, config: EngineConfig) -> int | None:
    """Predict the cycles of one token in an engine for the layer's formats, if there is one."""
    layout = config.parameters.layout
    # Families may share formats: a uniform layer's own is all that its engine needs.
    formats = (record.format,) if record.format else tuple(families(matrix).split("+"))
    sizes = () if matrix.group_size >= matrix.columns else (matrix.group_size,)
    try:
        fitted = replace(
            config,
            parameters=replace(
                config.parameters,
                layout=replace(
                    layout,
                    formats=formats,
                    group_sizes=sizes,
                    scale_width=matrix.scale_width,
                    max_rows=max(layout.max_rows, matrix.rows),
                    max_columns=max(layout.max_columns, matrix.columns),
                ),
            ),
        )
        packed = fitted.parameters.pack(matrix)
    except ValueError:
        return None
    return predict_cycles(packed, fitted.parameters.layout, fitted.timing)
