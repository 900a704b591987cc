"""What a language model loses when its matrix products are replaced."""

import math
from dataclasses import dataclass

import numpy as np

from .tiny_lm import Matmul, TinyLM

__all__ = ["LanguageScore", "LanguageTest"]


@dataclass(frozen=True, kw_only=True)
class LanguageScore:
    """How a model with other matrix products reads a text.

    Parameters
    ----------
    loss : float
        Mean negative log likelihood of a character, in nats.
    excess : float
        What of it is not in the loss of the model in floating point.
    excess_error : float
        Standard error of ``excess`` over the windows: how far another text of this kind would move
        it. 0 for a single window.
    divergence : float
        Mean over characters of ``KL(p || q)`` in nats, with ``p`` what the model in floating point
        predicts and ``q`` what this one does.
    windows, characters : int
        Windows read, and characters predicted in all of them.
    """

    loss: float
    excess: float
    excess_error: float
    divergence: float
    windows: int
    characters: int

    @property
    def perplexity(self) -> float:
        """Perplexity per character."""
        return math.exp(self.loss)


class LanguageTest:
    """A text, and how a model in floating point reads it; other products are judged by that.

    Parameters
    ----------
    model : TinyLM
        The model; its own product is the reference.
    text : bytes
        As :meth:`TinyLM.windows` takes it.
    window_count : int, optional
        Number of windows, spread evenly over the text; by default all of them.

    Attributes
    ----------
    model : TinyLM
        As given.
    reference : LanguageScore
        The score of the model itself.

    Raises
    ------
    :exc:`ValueError`
        If the text is too short or not of the vocabulary.
    """

    def __init__(self, model: TinyLM, text: bytes, window_count: int | None = None):
        self.model = model
        self._windows = model.windows(text, window_count)
        self._predicted = [model.log_probabilities(window[:-1]) for window in self._windows]
        self._losses = np.array([
            -_chosen(predicted, window).mean(dtype=np.float64)
            for predicted, window in zip(self._predicted, self._windows, strict=True)
        ])
        self.reference = self._score(self._losses, 0.0)

    def score(self, matmul: Matmul) -> LanguageScore:
        """Read the text with other matrix products.

        Parameters
        ----------
        matmul : Matmul
            As :class:`TinyLM` takes it.
        """
        model = self.model.with_matmul(matmul)
        losses, divergence = np.empty(len(self._windows)), 0.0
        for index, window in enumerate(self._windows):
            q, p = model.log_probabilities(window[:-1]), self._predicted[index]
            losses[index] = -_chosen(q, window).mean(dtype=np.float64)
            # float64: the divergence is a small difference of large terms.
            wide = p.astype(np.float64)
            divergence += float((np.exp(wide) * (wide - q)).sum()) / len(p)
        return self._score(losses, max(0.0, divergence / len(losses)))

    def _score(self, losses: np.ndarray, divergence: float) -> LanguageScore:
        excess = losses - self._losses
        count = len(losses)
        return LanguageScore(
            loss=float(losses.mean()),
            excess=float(excess.mean()),
            excess_error=float(excess.std(ddof=1)) / math.sqrt(count) if count > 1 else 0.0,
            divergence=divergence,
            windows=count,
            characters=count * self.model.dims.context_length,
        )


def _chosen(predicted: np.ndarray, window: np.ndarray) -> np.ndarray:
    """Return the log likelihood of each character that came, shape (M,)."""
    return predicted[np.arange(len(predicted)), window[1:]]
