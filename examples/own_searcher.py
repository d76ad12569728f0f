"""A searcher of one's own: steps from the best point so far, of a size that is drawn each time.

ssmrl sweep --task point --algorithm promp --searcher examples.own_searcher:StepFromBest
"""

import numpy as np


class StepFromBest:
    """An evolution strategy of one parent and one child."""

    def __init__(self, space, seed):
        self.space, self.rng = space, np.random.default_rng(seed)
        self.best, self.score = space.default_point(), -np.inf

    def tell(self, point, score):
        """A trial ended; without a score it failed."""
        if score is not None and score > self.score:
            self.best, self.score = point, score

    def ask(self):
        """A point near the best."""
        size = 10.0 ** self.rng.uniform(-2.0, 0.0)
        units = {knob: self.space.ranges[knob].to_unit(self.best[knob]) for knob in self.best}
        steps = size * self.rng.standard_normal(len(units))
        return {
            knob: self.space.ranges[knob].from_unit(min(max(unit + step, 0.0), 1.0))
            for (knob, unit), step in zip(units.items(), steps, strict=True)
        }
