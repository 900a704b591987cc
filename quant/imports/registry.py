"""Every importer, by its name on the command line."""

from .awq import AwqImporter
from .bcq import BcqImporter
from .bitnet import BitNetImporter
from .bitsandbytes import BitsAndBytesImporter
from .compressed_tensors import CompressedTensorsImporter
from .gguf import GgufImporter
from .gpt_oss import GptOssImporter
from .gptq import GptqImporter
from .hqq import HqqImporter
from .importer import Importer
from .modelopt import ModelOptImporter
from .source import CheckpointSource
from .squeezellm import SqueezeLlmImporter

__all__ = ["IMPORTERS", "detect_importer"]

# Packed weights of formats whose configuration says what they mean.
_PACKED = (AwqImporter.marker, CompressedTensorsImporter.marker)

IMPORTERS: dict[str, type[Importer]] = {
    item.name: item
    for item in (
        GptqImporter,
        AwqImporter,
        CompressedTensorsImporter,
        BitsAndBytesImporter,
        ModelOptImporter,
        GptOssImporter,
        GgufImporter,
        HqqImporter,
        SqueezeLlmImporter,
        BitNetImporter,
        BcqImporter,
    )
}


def detect_importer(source: CheckpointSource) -> type[Importer] | None:
    """Find the importer of a checkpoint; None where nothing says that it is quantised.

    Raises
    ------
    :exc:`ValueError`
        If it is quantised by a method that no importer reads, more than one would read it, or it
        has packed weights and no configuration says how.
    FileError
        If a file is damaged.
    """
    found = [item for item in IMPORTERS.values() if item.detect(source)]
    if len(found) > 1:
        names = ", ".join(item.name for item in found)
        raise ValueError(f"{source.path} could be of several formats; choose one of {names}")
    if found:
        return found[0]
    config = source.config
    method = config.get("quant_method", config.get("quant_algo"))
    if method is not None:
        raise ValueError(
            f"{source.path} is quantised by {method!r}, which Lutra does not import; it imports "
            f"{', '.join(IMPORTERS)}"
        )
    packed = next((name for name in source.tensor_names if name.endswith(_PACKED)), None)
    if packed is not None:
        raise ValueError(
            f"{source.path} has packed weights, such as {packed!r}, but no configuration beside "
            "them that says how: a config.json with its quantization_config, or "
            "quantize_config.json; --from float takes what else there is"
        )
    return None
