"""Strategies whose networks Optuna chooses: evolution, and the Parzen estimator.

A trial says of every gate whether it is on. What a sampler knows of a network is its score,
the share of the first budget that it uses, and by how much it is over each budget.
"""

import hashlib
import math
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

from goldnas.errors import ConfigError, RunError
from goldnas.searching.config import SearchConfig
from goldnas.searching.strategies.random import Candidate, SampledSearch

if TYPE_CHECKING:
    import optuna

_OF_ONE_MACHINE = {
    *("storage", "samples", "data", "data_dir", "workers", "train_device", "threads"),
    *("amp", "checkpointing", "accumulate"),
}
"""Settings in which searches on one study may differ."""


class StudySearch(SampledSearch):
    """Networks that a sampler of Optuna proposes; the first of them are random.

    Without a storage the study is made anew from the candidates, which are part of the state,
    and each proposal has a seed of its own: a continued search ends as one that was not
    stopped. With a storage, searches of equal settings work on one study, and each records
    the best of all.
    """

    LARGEST_POPULATION = 50
    """Networks of a generation, and random ones at first; a tenth of all if that is fewer."""

    CHEAP = 0.85
    """Of the first budget: what costs less is no better for it. Otherwise half of a population
    would be networks far below the budgets, which nobody asked for."""

    def _build(self) -> None:
        super()._build()
        self._study: optuna.Study | None = None
        self._trial: optuna.Trial | None = None

    @staticmethod
    def check(config: SearchConfig) -> None:
        """Refuse a search without Optuna, or with a storage that cannot be reached.

        Raises:
            ConfigError: Saying what to install, or what is wrong with the storage.
        """
        if find_spec("optuna") is None:
            raise ConfigError(
                f"strategy {config.strategy} needs Optuna: pip install 'goldnas[optuna]'"
            )
        if config.storage is not None:
            try:
                _opened(config)
            except RunError as error:
                raise ConfigError(str(error)) from None

    # -- one trial ---------------------------------------------------------------------------

    def _next(self) -> Candidate | None:
        """Try what the sampler proposes; None once the study has all its trials."""
        proposed = self.ranks.broadcast(self._asked)
        if proposed is None:
            return None
        gates = self._repaired(proposed)
        self._look_at(gates)
        known = {tuple(c.gates): c.score for c in self.candidates}
        score = known.get(tuple(gates))
        if score is None and self.feasibility.within(self.mask):
            score = self._merit(gates)
        trial = self.ranks.broadcast(lambda: self._told(proposed, gates, score))
        return Candidate(gates, score, trial)

    def _asked(self) -> list[int] | None:
        """The gates that a new trial proposes to keep."""
        with _reaching(self.config):
            study = self._opened()
            done = len(_complete(study))
            if done >= self.samples:
                return None
            study.sampler = self._sampler()
            names = self._names()
            if done < self._population():
                on = self.sampler.draw().tolist()
                study.enqueue_trial(dict(zip(names, on, strict=True)))
            self._trial = trial = study.ask(dict.fromkeys(names, _on_or_off()))
            kept = trial.params
            return [index for index, name in enumerate(names) if kept[name]]

    def _told(
        self, proposed: list[int], gates: list[int], score: float | None
    ) -> dict[str, Any]:
        """Tell the study of a network; return what to make its trial from again."""
        trial, study = self._trial, self._study
        assert trial is not None
        assert study is not None
        spent = self._resources()
        with _reaching(self.config):
            for budget in self.feasibility.budgets:
                trial.set_constraint(budget.resource, spent[budget.resource] / budget.limit - 1)
            trial.set_user_attr("gates", gates)
            first = self.feasibility.budgets[0]
            # A network over budget has no score: its constraints put it behind all others.
            values = [
                -math.inf if score is None else score,
                max(spent[first.resource] / first.limit, self.CHEAP),
            ]
            told = study.tell(trial, values)
        attributes = {k: v for k, v in told.system_attrs.items() if k != "fixed_params"}
        return {"proposed": proposed, "values": values, "attributes": attributes}

    def _repaired(self, gates: list[int]) -> list[int]:
        """Give every node and input that is left without an operator one at random."""
        random = np.random.default_rng((self.config.seed, len(self.candidates)))
        kept = set(gates)
        for group in self.data.space.groups:
            if kept.isdisjoint(group):
                kept.add(int(random.choice(group)))
        return sorted(kept)

    # -- the study ---------------------------------------------------------------------------

    def _opened(self) -> "optuna.Study":
        """The study, with what is known so far."""
        import optuna

        if self._study is None:
            self._study = _opened(self.config)
            names = self._names()
            for candidate in () if self.config.storage else self.candidates:
                proposed = set(candidate.trial["proposed"])
                self._study.add_trial(
                    optuna.trial.create_trial(
                        values=candidate.trial["values"],
                        params={name: i in proposed for i, name in enumerate(names)},
                        distributions=dict.fromkeys(names, _on_or_off()),
                        user_attrs={"gates": candidate.gates},
                        system_attrs=candidate.trial["attributes"],
                    )
                )
        return self._study

    def _sampler(self) -> "optuna.samplers.BaseSampler":
        """The sampler of the next trial."""
        from optuna.samplers import NSGAIISampler, TPESampler

        seed = None
        if self.config.storage is None:
            mixed = np.random.SeedSequence((self.config.seed, len(self.candidates)))
            seed = int(mixed.generate_state(1)[0])
        if self.config.strategy == "evolution":
            return NSGAIISampler(population_size=self._population(), seed=seed)
        return TPESampler(n_startup_trials=self._population(), multivariate=True, seed=seed)

    def _population(self) -> int:
        return max(4, min(self.LARGEST_POPULATION, self.samples // 10))

    def _names(self) -> list[str]:
        return [gate.name for gate in self.data.space.gates]

    def _record_best(self) -> None:
        if self.config.storage is not None:
            self.candidates = self.ranks.broadcast(self._of_all)
        super()._record_best()

    def _of_all(self) -> list[Candidate]:
        """The candidates of every search that works on the study."""
        with _reaching(self.config):
            trials = _complete(self._opened())
        return [
            Candidate(t.user_attrs["gates"], t.values[0] if t.values[0] > -math.inf else None)
            for t in trials
        ]

    def _restore_own(self, state: dict[str, Any]) -> None:
        super()._restore_own(state)
        self._study = None


def study_name(config: SearchConfig) -> str:
    """The name of a study that searches of equal settings share."""
    settings = msgspec.to_builtins(config)
    decisive = {name: settings[name] for name in settings.keys() - _OF_ONE_MACHINE}
    text = msgspec.json.encode(decisive, order="sorted")
    return f"goldnas-{hashlib.sha256(text).hexdigest()[:8]}"


def _opened(config: SearchConfig) -> "optuna.Study":
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    with _reaching(config):
        return optuna.create_study(
            storage=config.storage,
            study_name=study_name(config),
            directions=["maximize", "minimize"],
            load_if_exists=True,
        )


def _complete(study: "optuna.Study") -> "list[optuna.trial.FrozenTrial]":
    import optuna

    return study.get_trials(deepcopy=False, states=[optuna.trial.TrialState.COMPLETE])


def _on_or_off() -> "optuna.distributions.CategoricalDistribution":
    import optuna

    return optuna.distributions.CategoricalDistribution([False, True])


@contextmanager
def _reaching(config: SearchConfig) -> Iterator[None]:
    """Say in one line what is wrong with a storage.

    Raises:
        RunError: If it cannot be used.
    """
    try:
        yield
    except Exception as error:  # every database has errors of its own
        if config.storage is None:
            raise
        place = config.storage.split("@")[-1]  # without a password
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise RunError(
            f"cannot use the study in {place!r} ({reason}); mend --storage"
        ) from None
