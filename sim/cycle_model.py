"""Cycles of a layer, from its packed stream and the engine's timing, without simulating it."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from ..formats import PackedLayer, StreamLayout
from ..formats.lane_order import lane_order
from ..formats.layout import FRAME_BEATS

__all__ = ["EngineTiming", "predict_cycles"]


@dataclass(frozen=True, kw_only=True)
class EngineTiming:
    """What decides how long an engine takes, in cycles unless said otherwise.

    Parameters
    ----------
    member_cycles : tuple of int
        Steps of a slice for each of the layout's formats.
    queue_depth : int
        Words that wait in a lane.
    slices_ahead : int
        Slices that do.
    multiply_interval : int
        Between group sums of a lane.
    release, add : int
        From a step to when its activations, and its row, are done with.
    banks : int
        Tiles whose activations are kept.
    tokens : int
        Vectors of a pass.
    act_lanes : int
        Activations of a beat.
    store_latency : int
        From reading activations to their integers.
    write_cycles : int
        To write a slice for the lanes.
    token_latency : int
        From the last beat of a vector to when it is described.
    output_latency : int
        From row sums to numbers.
    """

    member_cycles: tuple[int, ...]
    queue_depth: int
    slices_ahead: int
    multiply_interval: int
    release: int
    add: int
    banks: int
    tokens: int
    act_lanes: int
    store_latency: int
    write_cycles: int
    token_latency: int
    output_latency: int


def predict_cycles(
    packed: PackedLayer, layout: StreamLayout, timing: EngineTiming, *, passes: int = 1
) -> int:
    """Predict the cycles from the first beat offered to the last output taken.

    All streams go as fast as the engine lets them, from reset on: every beat is offered as soon as
    the one before has passed, and every output is taken at once. The prediction is exact: it is
    what the generated hardware takes.

    Parameters
    ----------
    packed : PackedLayer
        The layer.
    layout : StreamLayout
        The layout that it was packed for.
    timing : EngineTiming
        The engine's.
    passes : int
        How often the layer's weights pass, each for ``tokens`` vectors.

    Returns
    -------
    int

    Raises
    ------
    :exc:`ValueError`
        If the engine would wait for ever, because a lane's words come too late.
    """
    blocks = -(-packed.rows // layout.lanes)
    act_beats = -(-packed.columns // timing.act_lanes)
    output_beats = -(-packed.rows // layout.output_lanes)
    row_beats = layout.codebook_beats + blocks * layout.row_scale_beats
    if layout.places_of_beat:
        row_beats += -(-blocks // layout.places_of_beat)

    builder = _Builder(packed, layout, timing)
    words = _Words(packed, layout, timing)
    released = [-1, -1]  # when the vectors of the last passes had been read
    drained = [-1, -1]  # when the row sums of the last passes had been read
    received = drain_ends = -1
    begin, before = 0, None
    for left in range(passes, 0, -1):
        # Where a pass begins as the one before did, all that follow take as long.
        times = (received, *released, *drained, drain_ends, *builder.times)
        state = begin, [time - begin for time in times]
        if before and state[1] == before[1]:
            return drain_ends + (begin - before[0]) * left + timing.output_latency + 1
        before = state
        # The stores take two passes' vectors.
        for _ in range(timing.tokens):
            received = max(received, released[0]) + act_beats
        builder.begin_pass(ready=received + timing.token_latency)
        # Header, three cycles to check it, codebooks, row scales, checksum; then wait for a tile.
        checked = max(begin + layout.layer_header_beats + 2, drained[0] + 1)
        start = max(checked + row_beats + 2, builder.filled[0])
        done = words.run(start, builder)
        released = [released[1], builder.filled[-1] - 1]
        # The sums come out with two cycles before each token.
        for _ in range(timing.tokens):
            drain_ends = max(done, drain_ends) + 2 + output_beats
        drained = [drained[1], drain_ends]
        begin = done + 1
    return drain_ends + timing.output_latency + 1


# In all of the following a time is the number of a cycle, counted from reset. What is written in a
# cycle is seen in the next.


class _Builder:
    """Writes tiles for the lanes: with two banks, one while the lanes use the other.

    ``filled`` has for each tile of the pass at hand, as far as it is known, when the lanes see it.
    """

    def __init__(self, packed: PackedLayer, layout: StreamLayout, timing: EngineTiming) -> None:
        beats_of_slice = layout.width // timing.act_lanes
        slice_cycles = beats_of_slice + timing.store_latency + timing.write_cycles + 1
        slices = -(-packed.columns // layout.width)
        self._tile_cycles = [
            slice_cycles * min(layout.tile_slices, slices - first)
            for first in range(0, slices, layout.tile_slices)
        ]
        self._next = 0  # when the next tile can be begun
        self._freed = [0] * timing.banks  # when those of the next tiles are free
        self.filled: list[int] = []

    @property
    def times(self) -> tuple[int, ...]:
        """When the next tiles can be written, as far as it is known between two passes."""
        return self._next, *self._freed

    def begin_pass(self, *, ready: int) -> None:
        """Begin with the vectors that are known from ``ready`` on."""
        self.filled = []
        self._next = max(self._next, ready)
        while self._freed and len(self.filled) < len(self._tile_cycles):
            self._fill()

    def finish(self, time: int) -> None:
        """Note that all lanes have done with the oldest tile that any of them needed."""
        self._freed.append(time + 1)
        if len(self.filled) < len(self._tile_cycles):
            self._fill()

    def _fill(self) -> None:
        begin = max(self._next, self._freed.pop(0))
        end = begin + self._tile_cycles[len(self.filled)]
        self.filled.append(end + 1)
        self._next = end + 1


class _Words:
    """The lanes' words of one pass: pushed to all lanes at a time, taken by each at its own."""

    def __init__(self, packed: PackedLayer, layout: StreamLayout, timing: EngineTiming) -> None:
        self._depth = timing.queue_depth
        self._span_gap = layout.span_header_beats + 3
        streams = list(_lane_streams(packed, layout, timing))
        # Words of every span: as many as the lane with the most has.
        spans = [max(map(len, parts)) for parts in zip(*streams, strict=True)]
        self._gaps = self._find_gaps(spans)
        self._lanes = []
        for stream in streams:
            filled_up = [[*w, *[_PLAIN] * (n - len(w))] for w, n in zip(stream, spans, strict=True)]
            self._lanes.append(_Lane([word for part in filled_up for word in part], layout, timing))
        self._tiles = sum(word.ends_tile for part in streams[0] for word in part)

    def _find_gaps(self, spans: list[int]) -> list[int]:
        """Cycles from each word to the next: one, a checksum, or a checksum and a header."""
        gaps = []
        for length in spans:
            inside = np.ones(length, dtype=np.int64)
            inside[FRAME_BEATS - 1 :: FRAME_BEATS] += 1
            inside[-1] = 1 + self._span_gap
            gaps += inside.tolist()
        return gaps

    def run(self, start: int, builder: _Builder) -> int:
        """Let the words of a pass go by.

        Parameters
        ----------
        start : int
            When the lanes are told to begin.
        builder : _Builder
            The tiles; told of those that are done with.

        Returns
        -------
        int
            When the row sums are final.
        """
        lanes = self._lanes
        for lane in lanes:
            lane.begin()
        finished = 0
        pushed: list[int] = []
        time = start + self._span_gap
        for gap in self._gaps:
            time = self._when_there_is_room(pushed, time)
            pushed.append(time)
            time += gap
            for lane in lanes:
                lane.take(pushed, builder.filled)
            while finished < self._tiles and all(len(lane.finished) > finished for lane in lanes):
                builder.finish(max(lane.finished[finished] for lane in lanes))
                finished += 1
                for lane in lanes:
                    lane.take(pushed, builder.filled)
        # By then the last checksum, which came behind the last word, has been compared: steps and
        # sums that follow this word take longer than that, in the lane that has most words.
        return max(lane.idle for lane in lanes)

    def _when_there_is_room(self, pushed: list[int], time: int) -> int:
        """Return when the word that comes at ``time`` behind others is taken by all lanes.

        Room is seen a cycle after it was told; it counts neither the words of the two cycles before
        that nor what was dropped in the last of them.
        """
        while True:
            counted = len(pushed) - sum(before > time - 3 for before in pushed[-2:])
            last = counted - self._depth  # to have been dropped by then
            if last < 0:
                return time
            if any(len(lane.taken) <= last for lane in self._lanes):
                raise ValueError("The engine would wait for ever for words of this stream")
            room = max(lane.taken[last] for lane in self._lanes) + 2
            if room <= time:
                return time
            time = room if counted == len(pushed) else time + 1


class _Word(NamedTuple):
    """What a lane's word does."""

    steps: int  # of the slice that it completes; 0 if it completes none
    tile: int
    ends_record: bool
    ends_tile: bool
    alone: bool  # the record has no other


_PLAIN = _Word(0, 0, False, False, False)


class _Lane:
    """One lane: takes words, completes slices, steps through them."""

    def __init__(self, words: list[_Word], layout: StreamLayout, timing: EngineTiming) -> None:
        self._words, self._timing = words, timing
        self._first_batch = layout.batch_shape[0]
        self._look_up = int(len(layout.members) > 1)  # cycles until a header's meaning is known
        self.begin()

    def begin(self) -> None:
        """Begin a pass."""
        self.taken: list[int] = []  # when each word was
        self.finished: list[int] = []  # when the lane says that it has done with each tile
        self._slices: list[int] = []  # when each slice's turn came
        self._last_step = self._last_sum = -1

    @property
    def idle(self) -> int:
        """When it is known that nothing is under way any more."""
        return max(self.taken[-1], self._last_step + self._timing.add) + 3

    def take(self, pushed: list[int], filled: list[int]) -> None:
        """Take the words that are there, as far as it is known when their tiles are."""
        taken, slices, ahead = self.taken, self._slices, self._timing.slices_ahead
        for index in range(len(taken), len(pushed)):
            word = self._words[index]
            time = pushed[index] + 3
            if taken:
                # A cycle after the one before; the first header takes one more. What a header means
                # is looked up meanwhile, if there are words enough.
                first = index == self._first_batch
                time = max(time, taken[-1] + 1 + first + self._look_up * (first + word.alone))
            if word.steps:
                if word.tile >= len(filled):
                    return
                time = max(time, filled[word.tile] + 1)
                if len(slices) >= ahead:
                    time = max(time, slices[-ahead] + 1)
                self._step(word, time)
            taken.append(time)

    def _step(self, word: _Word, completed: int) -> None:
        """Step through a slice as soon as it is there and the one before is in its last step."""
        timing = self._timing
        turn = max(completed + 1, self._last_step)
        self._slices.append(turn)
        self._last_step = turn + word.steps
        if word.ends_record:
            self._last_step = max(self._last_step, self._last_sum + timing.multiply_interval)
            self._last_sum = self._last_step
        if word.ends_tile:
            self.finished.append(self._last_step + timing.release + 1)


def _lane_streams(
    packed: PackedLayer, layout: StreamLayout, timing: EngineTiming
) -> Iterator[list[list[_Word]]]:
    """Yield the words of every span, for each lane that differs from those before."""
    code_widths = np.array([item.code_width for item in layout.members])[packed.formats]
    steps = np.array(timing.member_cycles)[packed.formats]
    batch_words = lane_order(layout, packed.formats).batches_before * layout.batch_shape[0]
    slices = packed.slices.tolist()
    tile_records = _records_of_tiles(packed, layout, -(-packed.rows // layout.lanes))
    shapes = np.stack([batch_words, code_widths, steps], axis=2)
    for lane in np.unique(shapes.reshape(len(shapes), -1), axis=0):
        records = lane.reshape(-1, 3).tolist()
        spans: list[list[_Word]] = []
        first = 0
        for tile, last in enumerate(tile_records):
            if tile % packed.span_tiles == 0:
                spans.append([])
            words = spans[-1]
            for record in range(first, last + 1):
                batch, code_width, cycles = records[record]
                words += [_PLAIN] * batch
                for index in range(slices[record]):
                    ends = index == slices[record] - 1
                    words += [_PLAIN] * (code_width - 1)
                    alone = code_width * slices[record] == 1
                    words.append(_Word(cycles, tile, ends, ends and record == last, alone))
            first = last + 1
        yield spans


def _records_of_tiles(packed: PackedLayer, layout: StreamLayout, blocks: int) -> list[int]:
    """Return the number of the last record of each tile."""
    slices = -(-packed.columns // layout.width)
    tile_ends = np.minimum(
        np.arange(layout.tile_slices, slices + layout.tile_slices, layout.tile_slices), slices
    )
    return (np.searchsorted(packed.slices.cumsum(), tile_ends * blocks)).tolist()
