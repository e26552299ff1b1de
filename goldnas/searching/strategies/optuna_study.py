"""Strategies whose networks Optuna proposes: evolution, and the Parzen estimator.

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
from goldnas.searching.edge_rule import keep_two_edges
from goldnas.searching.sampled import Candidate, Rank
from goldnas.searching.sampler import BudgetedSampler
from goldnas.searching.session import Session
from goldnas.searching.strategies.random import SampledSearch
from goldnas.searching.strategies.registry import register_strategy

if TYPE_CHECKING:
    import optuna

LARGEST_POPULATION = 50
"""Networks of a generation, and random ones at first; a tenth of all if that is fewer."""

CHEAP = 0.85
"""Of the first budget: what costs less is no better for it. Otherwise half of a population
would be networks far below the budgets, which nobody asked for."""

_OF_ONE_MACHINE = {
    *("storage", "networks", "data", "data_dir", "workers", "train_device", "threads"),
    *("amp", "checkpointing", "accumulate"),
}
"""Settings in which searches on one study may differ."""


def check_storage(config: SearchConfig) -> None:
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
            _open_study(config)
        except RunError as error:
            raise ConfigError(str(error)) from None


_OPTUNA: dict[str, Any] = {
    "takes": {"networks", "score", "storage"},
    "relaxation": "none",
    "levels": (1,),
    "networks": 200,
    "always_ranks": True,
    "check": check_storage,
}


@register_strategy("evolution", description="evolutionary search: NSGA-II of Optuna", **_OPTUNA)
def evolution(session: Session) -> SampledSearch:
    """Networks that NSGA-II proposes."""
    return SampledSearch(session, OptunaProposer)


@register_strategy("tpe", description="tree-structured Parzen estimator of Optuna", **_OPTUNA)
def tpe(session: Session) -> SampledSearch:
    """Networks that the Parzen estimator proposes."""
    return SampledSearch(session, OptunaProposer)


class OptunaProposer:
    """Proposes networks from a sampler of Optuna; its first networks are random.

    Without a storage, the study is made again from the candidates of the search. So a stopped
    search can continue. With a storage, searches with equal settings share one study, and each
    records the best network of all.

    Args:
        session: Of the search.
        sampler: Of the random networks.
    """

    def __init__(self, session: Session, sampler: BudgetedSampler) -> None:
        self._session = session
        self._config = session.config
        self._random = sampler
        self._names = [gate.name for gate in session.space.gates]
        self._study: optuna.Study | None = None
        self._trial: optuna.Trial | None = None

    def try_next(self, candidates: list[Candidate], rank: Rank) -> Candidate | None:
        """Rank what the sampler proposes; None once the study has all its trials."""
        session = self._session
        proposed = session.loop.ranks.broadcast(lambda: self._ask(candidates))
        if proposed is None:
            return None
        gates = self._repair(proposed, len(candidates))
        mask = np.zeros(len(self._names), dtype=bool)
        mask[gates] = True
        known = {tuple(c.gates): c.score for c in candidates}
        score = known.get(tuple(gates))
        if score is None and session.feasibility.within(mask):
            score = rank(gates)
        spent = session.resources(mask)
        trial = session.loop.ranks.broadcast(lambda: self._tell(proposed, gates, score, spent))
        return Candidate(gates, score, trial)

    def all_candidates(self, candidates: list[Candidate]) -> list[Candidate]:
        """With a storage, those of every search that works on the study."""
        if self._config.storage is None:
            return candidates
        return self._session.loop.ranks.broadcast(self._candidates_of_study)

    def restart(self) -> None:
        """Make the study anew when it is needed next."""
        self._study = self._trial = None

    def _ask(self, candidates: list[Candidate]) -> list[int] | None:
        """The gates that a new trial proposes to keep."""
        assert self._config.networks is not None  # the settings see to it
        with _reach_storage(self._config):
            study = self._open(candidates)
            done = len(_complete_trials(study))
            if done >= self._config.networks:
                return None
            study.sampler = self._make_sampler(len(candidates))
            if done < self._population():
                on = self._random.draw().tolist()
                study.enqueue_trial(dict(zip(self._names, on, strict=True)))
            trial = study.ask(dict.fromkeys(self._names, _on_or_off()))
            self._trial, kept = trial, trial.params
            return [index for index, name in enumerate(self._names) if kept[name]]

    def _tell(
        self,
        proposed: list[int],
        gates: list[int],
        score: float | None,
        spent: dict[str, float],
    ) -> dict[str, Any]:
        """Tell the study of a network; return what to make its trial from again."""
        trial, study = self._trial, self._study
        assert trial is not None
        assert study is not None
        budgets = self._session.feasibility.budgets
        with _reach_storage(self._config):
            for budget in budgets:
                trial.set_constraint(budget.resource, spent[budget.resource] / budget.limit - 1)
            trial.set_user_attr("gates", gates)
            # A network over budget has no score: its constraints put it behind all others.
            values = [
                -math.inf if score is None else score,
                max(spent[budgets[0].resource] / budgets[0].limit, CHEAP),
            ]
            frozen = study.tell(trial, values)
        attributes = {k: v for k, v in frozen.system_attrs.items() if k != "fixed_params"}
        return {"proposed": proposed, "values": values, "attributes": attributes}

    def _repair(self, gates: list[int], tried: int) -> list[int]:
        """Give every node, input and output that is left without an operator one at random.

        Where nodes keep two edges, leave at random two of them, with one operator each.
        """
        random = np.random.default_rng((self._config.seed, tried))
        space = self._session.space
        if space.cell_layout and space.cell_layout.edges_per_node:
            others = np.setdiff1d(np.arange(len(space.gates)), gates)
            order = [*random.permutation(gates).tolist(), *random.permutation(others).tolist()]
            return sorted(keep_two_edges(space.gates, order))
        kept = set(gates)
        for group in space.groups:
            if kept.isdisjoint(group):
                kept.add(int(random.choice(group)))
        wiring = self._session.space.wiring
        return sorted(kept if wiring is None else wiring.complete(kept, random))

    # -- the study ---------------------------------------------------------------------------

    def _open(self, candidates: list[Candidate]) -> "optuna.Study":
        """The study, with what is known so far."""
        import optuna

        if self._study is None:
            self._study = _open_study(self._config)
            for candidate in () if self._config.storage else candidates:
                proposed = set(candidate.trial["proposed"])
                self._study.add_trial(
                    optuna.trial.create_trial(
                        values=candidate.trial["values"],
                        params={name: i in proposed for i, name in enumerate(self._names)},
                        distributions=dict.fromkeys(self._names, _on_or_off()),
                        user_attrs={"gates": candidate.gates},
                        system_attrs=candidate.trial["attributes"],
                    )
                )
        return self._study

    def _make_sampler(self, tried: int) -> "optuna.samplers.BaseSampler":
        """The sampler of the next trial."""
        from optuna.samplers import NSGAIISampler, TPESampler

        seed = None
        if self._config.storage is None:
            mixed = np.random.SeedSequence((self._config.seed, tried))
            seed = int(mixed.generate_state(1)[0])
        if self._config.strategy == "evolution":
            return NSGAIISampler(population_size=self._population(), seed=seed)
        return TPESampler(n_startup_trials=self._population(), multivariate=True, seed=seed)

    def _population(self) -> int:
        assert self._config.networks is not None
        return max(4, min(LARGEST_POPULATION, self._config.networks // 10))

    def _candidates_of_study(self) -> list[Candidate]:
        with _reach_storage(self._config):
            return [self._read_candidate(t) for t in _complete_trials(self._open([]))]

    def _read_candidate(self, trial: "optuna.trial.FrozenTrial") -> Candidate:
        """What a trial of the storage tried, which others may have written.

        Raises:
            ValueError: If it is of no search like this.
        """
        gates, score = trial.user_attrs.get("gates"), trial.values[0]
        fields = {"gates": gates, "score": score if score > -math.inf else None}
        candidate = msgspec.convert(fields, Candidate)
        if max(candidate.gates, default=0) >= len(self._names):
            raise ValueError(f"a trial keeps operator {max(candidate.gates)}")
        return candidate


def study_name(config: SearchConfig) -> str:
    """The name of a study that searches of equal settings share."""
    settings = msgspec.to_builtins(config)
    decisive = {name: settings[name] for name in settings.keys() - _OF_ONE_MACHINE}
    text = msgspec.json.encode(decisive, order="sorted")
    return f"goldnas-{hashlib.sha256(text).hexdigest()[:8]}"


def _open_study(config: SearchConfig) -> "optuna.Study":
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    with _reach_storage(config):
        return optuna.create_study(
            storage=config.storage,
            study_name=study_name(config),
            directions=["maximize", "minimize"],
            load_if_exists=True,
        )


def _complete_trials(study: "optuna.Study") -> "list[optuna.trial.FrozenTrial]":
    import optuna

    return study.get_trials(deepcopy=False, states=[optuna.trial.TrialState.COMPLETE])


def _on_or_off() -> "optuna.distributions.CategoricalDistribution":
    import optuna

    return optuna.distributions.CategoricalDistribution([False, True])


@contextmanager
def _reach_storage(config: SearchConfig) -> Iterator[None]:
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
            f"cannot use the study in {place!r} ({reason}); correct `storage`"
        ) from None
