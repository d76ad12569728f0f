"""A custom searcher: steps from the best point so far, with a random step size.

ssmrl sweep --task point --algorithm promp --searcher examples.own_searcher:StepFromBest
"""

import numpy as np


class StepFromBest:
    """An evolution strategy of one parent and one child."""

    def __init__(self, space, seed):
        self.space, self.rng = space, np.random.default_rng(seed)
        self.best, self.score = {}, -np.inf

    def tell(self, point, score):
        """Receive an ended trial's score; None if the trial failed."""
        if score is not None and score > self.score:
            self.best, self.score = point, score

    def ask(self):
        """A point near the best; a conditional knob is drawn after the knob it depends on."""
        size, point = 10.0 ** self.rng.uniform(-2.0, 0.0), {}
        while waiting := [knob for knob in self.space.active_knobs(point) if knob not in point]:
            point |= {knob: self.near(knob, size) for knob in waiting}
        return point

    def near(self, knob, size):
        """A value near the best point's value, or a random one if the best has none."""
        own, is_new = self.space.ranges[knob], knob not in self.best
        if hasattr(own, "options"):
            is_drawn = is_new or self.rng.random() < size
            return own.options[self.rng.integers(len(own.options))] if is_drawn else self.best[knob]
        unit = self.rng.random() if is_new else own.to_unit(self.best[knob])
        return own.from_unit(unit + size * self.rng.standard_normal())
