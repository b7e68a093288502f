"""The replay of pixel sequences: every frame once, and what the model made of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import Tensor

from latentwrap.actions import ActionSpec
from latentwrap.datasets import Windows
from latentwrap.errors import ConfigError, DatasetError
from latentwrap.joint.columns import BeliefColumns
from latentwrap.pixels import FrameSpec
from latentwrap.seeding import numpy_generator
from latentwrap.types import AnyArray, BoolArray, FloatArray, Frames, IntArray

_NOTHING = -1
_BOOKKEEPING = 14  # reward, place in the episode, and two flags
_TRIES = 8


@dataclass(frozen=True)
class Stretch:
    """An episode in the replay, or what is left of it.

    Attributes:
        lane: whose it is.
        begun: rows that the lane had kept before it, those overwritten since included.
        rows: its rows in order, int64 (T+1,).
        open: it may still go on.
    """

    lane: int
    begun: int
    rows: IntArray
    open: bool


@dataclass(frozen=True)
class SequenceSpec:
    """What a row of the replay consists of.

    Attributes:
        frame, action: what frames and actions look like.
        vectors: numbers beside each frame.
    """

    frame: FrameSpec
    action: ActionSpec
    vectors: int = 0

    @property
    def row_bytes(self) -> int:
        """Bytes of a row, without what the model made of it."""
        frame = int(np.prod(self.frame.shape))
        action = self.action.stored_size * self.action.stored_dtype.itemsize
        return frame + action + 4 * self.vectors + _BOOKKEEPING


class SequenceReplay:
    """Keeps the latest frames, actions and rewards of some environments, in order.

    Every environment has a ring of rows of its own, its lane. Row t holds frame t, the action taken
    after it and that transition's reward; the last row of an episode has neither. Beside them lies
    what the model made of each frame: features and belief.

    Memory for frames is claimed at once but used only as rows are filled.

    Args:
        capacity: transitions that are kept; the oldest are overwritten.
        spec: what a row consists of.
        lanes: environments that add to it.
        seed: of the draws.

    Attributes:
        kept: rows that each lane has kept so far, those overwritten since included, int64 (lanes,).
        generator: of the draws.
        lane_rows: rows of each lane.
    """

    def __init__(self, capacity: int, spec: SequenceSpec, *, lanes: int, seed: int) -> None:
        self.capacity, self.spec, self.lanes = capacity, spec, lanes
        self.generator = numpy_generator(seed)
        self.lane_rows = max(2, -(-capacity // lanes) + 1)
        rows, action = lanes * self.lane_rows, spec.action
        try:
            self._frames = np.empty((rows, *spec.frame.shape), np.uint8)
        except (MemoryError, ValueError):
            raise ConfigError(
                f"A replay of {capacity} transitions would take {rows * spec.row_bytes / 1e9:.1f} "
                "GB, more than this machine gives: set a smaller buffer_size."
            ) from None
        self._actions = np.zeros((rows, action.stored_size), action.stored_dtype)
        self._rewards = np.zeros(rows, np.float32)
        self._terminations = np.zeros(rows, bool)
        self._vectors = np.zeros((rows, spec.vectors), np.float32)
        # Place of each row in its episode.
        self._age = np.full(rows, _NOTHING)
        # Whether what is kept beside a row is of this row, not of one that it was written over.
        self._filtered = np.zeros(rows, bool)
        self.kept = np.zeros(lanes, int)
        self._open = np.zeros(lanes, bool)
        self._made = BeliefColumns(rows)

    def __len__(self) -> int:
        """Transitions that can be drawn."""
        return int(np.count_nonzero(self._available(self._all_rows()) >= 1))

    @property
    def num_rows(self) -> int:
        """Rows that all lanes hold when they are full."""
        return len(self._age)

    def begin(self, lane: int, frame: AnyArray, vectors: AnyArray) -> int:
        """Keep the first frame of an episode; returns its row."""
        return self._put(lane, frame, vectors, age=0)

    def step(
        self,
        lane: int,
        action: AnyArray,
        reward: float,
        frame: AnyArray,
        vectors: AnyArray,
        *,
        terminated: bool,
        ended: bool,
    ) -> int:
        """Keep a transition of the lane's episode; returns the row of the frame it led to.

        Args:
            lane: of the environment.
            action: stored form, (A,).
            reward: of the transition.
            frame: that followed, uint8 (H, W, C).
            vectors: beside it, float32 (V,).
            terminated: whether the episode truly ended with it.
            ended: whether it ended at all.
        """
        row = lane * self.lane_rows + (int(self.kept[lane]) - 1) % self.lane_rows
        self._actions[row], self._rewards[row] = action, reward
        self._terminations[row] = terminated
        place = self._put(lane, frame, vectors, age=int(self._age[row]) + 1)
        self._open[lane] = not ended
        return place

    def keep(self, rows: IntArray, features: Tensor, beliefs: Any) -> None:
        """Keep what the model made of rows (N,): features (N, F), and beliefs of N.

        Of a row that is named several times the last counts.
        """
        self._made.keep(rows, features, beliefs)
        self._filtered[rows] = True

    def draw_windows(self, count: int, actions: int) -> IntArray | None:
        """Rows of random windows inside episodes, int64 (count, actions + 1).

        `None` where no episode, or what is left of it, is that long.
        """
        ends = self._draw(count, least=actions)
        return None if ends is None else self.windows_before(ends, actions)

    def draw(self, count: int) -> IntArray:
        """Rows that random transitions led to, int64 (count,).

        Raises:
            DatasetError: there is none yet.
        """
        rows = self._draw(count, least=1)
        if rows is None:
            raise DatasetError("An agent learns from transitions, the replay has none: add some.")
        return rows

    def windows_before(self, rows: IntArray, actions: int) -> IntArray:
        """The windows that end in rows (N,), int64 (N, actions + 1).

        Where an episode, or what is left of it, is shorter, its first row is repeated.
        """
        back, known = np.arange(actions, -1, -1), self._available(rows)
        return self.before(rows[:, None], np.minimum.outer(known, back))

    def before(self, rows: IntArray, count: IntArray | int) -> IntArray:
        """The rows so many places before."""
        place = rows % self.lane_rows
        earlier: IntArray = rows - place + (place - count) % self.lane_rows
        return earlier

    def windows(self, rows: IntArray) -> Windows:
        """What the model learns from in windows of rows (B, L+1)."""
        flat = rows[:, :-1].reshape(-1)
        shape = (len(rows), rows.shape[1] - 1)
        return Windows(
            frames=self._frames[rows],
            actions=self.actions(flat).reshape(*shape, -1),
            rewards=self._rewards[flat].reshape(shape),
            terminations=self._terminations[flat].reshape(shape),
            vectors=self._vectors[rows] if self.spec.vectors else None,
        )

    def frames(self, rows: IntArray) -> Frames:
        """Frames of rows (...), uint8 (..., H, W, C)."""
        return self._frames[rows]

    def vectors(self, rows: IntArray) -> FloatArray:
        """Vectors beside them, float32 (..., V)."""
        return self._vectors[rows]

    def stored_actions(self, rows: IntArray) -> AnyArray:
        """Actions taken after rows (N,), as a dataset has them, (N, columns)."""
        return self._actions[rows]

    def actions(self, rows: IntArray) -> FloatArray:
        """Encoded actions taken after rows (N,), float32 (N, A)."""
        return self.spec.action.encode(self._actions[rows])

    def rewards(self, rows: IntArray) -> FloatArray:
        """Rewards that followed rows (N,), float32 (N,)."""
        return self._rewards[rows]

    def terminated(self, rows: IntArray) -> FloatArray:
        """1 where the transition from rows (N,) truly ended the episode, float32 (N,)."""
        return self._terminations[rows].astype(np.float32)

    def is_first(self, rows: IntArray) -> BoolArray:
        """Whether rows are the first of their episodes, bool."""
        first: BoolArray = self._age[rows] == 0
        return first

    def begins(self, rows: IntArray) -> BoolArray:
        """Whether a filter has to begin anew at rows, bool.

        At the first of an episode, and where what came before was overwritten unfiltered.
        """
        return self.is_first(rows) | ~self._filtered[rows]

    def beliefs(self, rows: IntArray) -> Any:
        """Kept beliefs of rows (N,)."""
        return self._made.beliefs(rows)

    def features(self, rows: IntArray) -> Tensor:
        """Kept features of rows (...), float32 (..., F)."""
        return self._made.features(rows)

    def episodes(self) -> list[Stretch]:
        """Every episode with a transition, lane by lane in order."""
        found = []
        for lane in range(self.lanes):
            rows = self._in_order(lane)
            before = int(self.kept[lane]) - len(rows)
            starts = np.flatnonzero(self._age[rows] == 0)
            for begin, part in zip([0, *starts], np.split(rows, starts), strict=True):
                if len(part) > 1:
                    going_on = bool(self._open[lane]) and part[-1] == rows[-1]
                    found.append(Stretch(lane, before + int(begin), part, going_on))
        return found

    def rows(self) -> IntArray:
        """All rows of these episodes."""
        nothing = np.zeros(0, int)
        return np.concatenate([nothing, *(each.rows for each in self.episodes())])

    def longest(self) -> int:
        """Transitions of the longest episode, or of what is left of it."""
        return int(self._available(self._all_rows()).max(initial=0))

    def latest_rows(self) -> IntArray:
        """The row that each lane kept last, int64 (lanes,)."""
        rows: IntArray = np.arange(self.lanes) * self.lane_rows + (self.kept - 1) % self.lane_rows
        return rows

    def emptiest_lane(self) -> int:
        """The lane that has kept the fewest rows."""
        return int(self.kept.argmin())

    def _in_order(self, lane: int) -> IntArray:
        """Rows of a lane, the oldest first."""
        kept = int(self.kept[lane])
        places = np.arange(max(0, kept - self.lane_rows), kept) % self.lane_rows
        ordered: IntArray = lane * self.lane_rows + places
        return ordered

    def _draw(self, count: int, *, least: int) -> IntArray | None:
        """Random rows that at least so many transitions led to; `None` where there are none."""
        found: list[IntArray] = []
        for _ in range(_TRIES):
            # Most rows will do, so that a few tries spare looking at all of them.
            rows = self._random_rows(count)
            found.append(rows[self._available(rows) >= least])
            if sum(map(len, found)) >= count:
                return np.concatenate(found)[:count]
        everything = self._all_rows()
        fit = everything[self._available(everything) >= least]
        return fit[self.generator.integers(len(fit), size=count)] if len(fit) else None

    def _random_rows(self, count: int) -> IntArray:
        ends = np.cumsum(np.minimum(self.kept, self.lane_rows))
        if not ends[-1]:
            return np.zeros(0, int)
        drawn = self.generator.integers(ends[-1], size=count)
        lanes = np.searchsorted(ends, drawn, side="right")
        before = np.concatenate([[0], ends[:-1]])
        rows: IntArray = lanes * self.lane_rows + drawn - before[lanes]
        return rows

    def _all_rows(self) -> IntArray:
        return np.concatenate([self._in_order(lane) for lane in range(self.lanes)])

    def _available(self, rows: IntArray) -> IntArray:
        """How many transitions led to each row inside its episode and are still there."""
        lanes, places = np.divmod(rows, self.lane_rows)
        oldest = np.where(self.kept >= self.lane_rows, self.kept, 0)[lanes]
        available: IntArray = np.minimum(self._age[rows], (places - oldest) % self.lane_rows)
        return available

    def _put(self, lane: int, frame: AnyArray, vectors: AnyArray, *, age: int) -> int:
        row = lane * self.lane_rows + int(self.kept[lane]) % self.lane_rows
        self._frames[row], self._vectors[row], self._age[row] = frame, vectors, age
        self._filtered[row] = False
        self.kept[lane] += 1
        self._open[lane] = True
        return row
