"""Saving a loop, and going back to what was saved.

A loop is saved after each epoch, every ten minutes, and when a signal asks it to stop. It goes
back where training diverged, and where a process ended.
"""

import time
from typing import TYPE_CHECKING, Any

from goldnas.errors import GoldnasError, RunError, StoppedError, read_message
from goldnas.training.divergence import DivergedError

if TYPE_CHECKING:
    from goldnas.training.loop import TrainingLoop

SAVE_EVERY_S = 600.0
"""Seconds of training, at most, that a crash costs."""

MOST_OTHER_BYTES = 64 * 2**20
"""Of a checkpoint, besides what grows with the weights."""

SETBACKS = 3
"""Returns to the last checkpoint, each at half the learning rate, before giving up."""

_OF_DAMAGE = (
    *(AttributeError, LookupError, TypeError, ValueError, RuntimeError, OverflowError),
    DivergedError,
)
"""What a part says of a state that is not its own."""


class Checkpoints:
    """The checkpoint of one loop, in the folder of its run.

    Args:
        loop: That is saved.
    """

    def __init__(self, loop: "TrainingLoop[Any]") -> None:
        self._loop = loop
        self._saved_at = time.monotonic()
        self.setbacks = 0
        """Times that training has diverged."""

    def save_if_due(self) -> None:
        """Save after ten minutes, or where a signal asks for it and ends the loop.

        Raises:
            StoppedError: If a signal did.
        """
        loop = self._loop
        late = time.monotonic() - self._saved_at > SAVE_EVERY_S
        signal, save = loop.ranks.all_reduce_max(loop.stop_signal(), int(late))
        if signal or save:
            self.save()
        if signal:
            raise loop.ranks.common(
                StoppedError(
                    f"interrupted after step {loop.step}, and {loop.run.saved}", signal
                )
            )

    def save(self) -> None:
        """Replace the checkpoint.

        Raises:
            DivergedError: If the weights are no numbers, or have exploded.
        """
        self._loop.check_sane()
        if self._loop.ranks.first:
            self._loop.run.save_checkpoint(self._loop.state_dict())
        self._saved_at = time.monotonic()

    def step_back(self, reason: str) -> None:
        """Return to the last checkpoint, at half the learning rate.

        Args:
            reason: Why training has diverged.

        Raises:
            RunError: If that was done often enough.
        """
        loop = self._loop
        step, setbacks = loop.step, self.setbacks + 1
        state = loop.ranks.broadcast(loop.run.read_checkpoint)
        if setbacks > SETBACKS or state is None:
            raise loop.ranks.common(
                RunError(
                    f"training diverged at step {step} ({reason}), {setbacks} times so far, "
                    f"the last time with learning rate {loop.learning_rate(step):.2g}. "
                    f"{loop.run.path} keeps the state before that; {loop.run.again} with a "
                    f"lower `learning_rate` than {loop.config.learning_rate}"
                )
            )
        at_once = loop.gradients.at_once
        loop.load_state_dict(state)
        loop.gradients.at_once = min(at_once, loop.gradients.at_once)
        self.setbacks = setbacks
        self.save()
        loop.events.emit(
            "setback",
            reason=reason,
            step=step,
            back_to_step=loop.step,
            learning_rate=loop.learning_rate(loop.step),
        )

    def resume(self) -> None:
        """Go on from the checkpoint in the folder, if there is one.

        Raises:
            RunError: If it is damaged, or of another run.
        """
        loop = self._loop
        learnt = sum(tensor.nbytes for tensor in loop.learner.module.state_dict().values())
        # Beside the weights there are momenta, an average, and plain values.
        most_bytes = 8 * learnt + MOST_OTHER_BYTES
        state = loop.ranks.broadcast(lambda: loop.run.read_checkpoint(most_bytes))
        if state is not None:
            self._loop.ranks.on_all(lambda: self._resume_from(state))

    def _resume_from(self, state: dict[str, Any]) -> None:
        run = self._loop.run
        try:
            self._loop.load_state_dict(state)
            self._loop.check_sane()  # as it was when it was saved
        except GoldnasError:
            raise
        except _OF_DAMAGE as error:
            lacks = "it has no " if isinstance(error, KeyError) else ""
            reason = lacks + read_message(error)[:200]  # torch lists what is missing
            raise RunError(
                f"{run.path}/checkpoint.pt does not belong to this {run.kind} ({reason}); "
                f"{run.restore}"
            ) from None
