"""Which networks a pick measures, on devices whose true times are known."""

import numpy as np
import pytest

from goldnas.picking.belief import Known, believe
from goldnas.picking.choose import Limits, choose, count_unmeasured, list_needed
from goldnas.picking.options import Measurable
from goldnas.zoo.file import Accuracy, Candidate, Measured, Row
from goldnas.zoo.work import Work

SIZES = (160, 192, 224)
FAMILIES = ("alpha", "beta", "gamma", "delta", "epsilon", "zeta", "eta", "theta")


def make_zoo(random: np.random.Generator) -> list[Measurable]:
    """Forty networks of eight families, at three sizes: the larger, the more accurate."""
    options = []
    for number in range(40):
        family = FAMILIES[number % len(FAMILIES)]
        flops = 10 ** random.uniform(7.5, 10)
        grouped = random.uniform(0, 0.3) if number % 2 else 0.0
        best = 55 + 10 * np.log10(flops / 10**7.5) + random.normal(0, 3)
        for size in SIZES:
            area = (size / 224) ** 2
            work = Work(
                dense=flops * area * (1 - grouped),
                grouped=flops * area * grouped,
                matrix=1e6,
                elements=flops * area / random.uniform(30, 300),
                parameters=flops / random.uniform(50, 500),
                operators=float(random.integers(50, 400)),
            )
            accuracy = 100 - (100 - best) * (224 / size) ** (1 / 3)
            candidate = Candidate(
                network=f"torchvision/{family}_{number}",
                image_size=size,
                accuracy=Accuracy(percent=float(np.clip(accuracy, 1, 99)), source="published"),
                parameters=int(work.parameters),
                flops=int(work.flops),
            )
            options.append(Measurable(candidate, "fp32", work, make=bytes))
    return options


class Device:
    """Takes so long for each kind of work, and deviates by family, by network and at random."""

    def __init__(self, random: np.random.Generator) -> None:
        slow = 10 ** random.uniform(-0.5, 0.5)
        self._speeds = slow * np.array([4e-5, 4e-4, 6e-5, 6e-4, 2e-4, 3.0])
        self._speeds = self._speeds * np.exp(random.normal(0, 0.5, 6))
        self._families = {f: random.normal(0, 0.2) for f in FAMILIES}
        self._networks: dict[str, float] = {}
        self._random = random

    def measure(self, option: Measurable, limit_us: float | None) -> Row:
        name, family = option.candidate.network, option.known.family
        own = self._networks.setdefault(name, self._random.normal(0, 0.12))
        deviation = self._families[family] + own + self._random.normal(0, 0.03)
        latency_us = float(self._speeds @ option.work.amounts * np.exp(deviation))
        return Measured(
            **{f: getattr(option.candidate, f) for f in option.candidate.__struct_fields__},
            latency_us=latency_us,
            interval_us=0.01 * latency_us,
            visits=8,
            complete=limit_us is None or latency_us < 1.2 * limit_us,
        )


@pytest.mark.parametrize("front", [False, True])
def test_few_networks_are_measured_and_the_best_is_found(front: bool) -> None:
    """Of three limits on each device, nearly every answer is that of measuring everything."""
    right, shares = [], []
    for seed in range(8 if front else 20):
        random = np.random.default_rng(seed)
        options = make_zoo(random)
        device = Device(random)
        truth = {option.key: device.measure(option, None) for option in options}
        latencies = [row.latency_us for row in truth.values() if isinstance(row, Measured)]
        for quantile in (0.15, 0.4, 0.7):
            limits = Limits(float(np.quantile(latencies, quantile)))
            found: dict[tuple[str, str], Row] = {}
            while needed := list_needed(options, found, limits, front=front):
                assert not any(o.key in found for o in needed)  # or it would never end
                found |= {option.key: truth[option.key] for option in needed}
            best, optimum = choose(options, found, limits), choose(options, truth, limits)
            right.append(best == optimum)
            shares.append(len(found) / len(options))
            counted = count_unmeasured(options, found, limits, best)
            assert counted.total == len(options) - len(found)
    print(f"right {np.mean(right):.3f}, measured {np.mean(shares):.3f}, most {max(shares):.3f}")
    assert np.mean(right) >= 0.95
    assert np.mean(shares) <= (0.4 if front else 0.2)


def test_a_network_is_judged_by_itself_at_another_size() -> None:
    random = np.random.default_rng(0)
    options = make_zoo(random)
    device = Device(random)
    first, same, stranger = options[0], options[2], options[5]
    others = options[30:60:7]
    known = [option.known for option in (first, *others)]
    rows = [device.measure(option, None) for option in (first, *others)]
    latencies = [row.latency_us for row in rows if isinstance(row, Measured)]
    belief = believe(known, latencies, [same.known, stranger.known])
    assert belief.deviations[0] < 0.6 * belief.deviations[1]


def test_a_belief_is_right_about_as_often_as_it_says() -> None:
    outside = []
    for seed in range(100, 130):
        random = np.random.default_rng(seed)
        options = make_zoo(random)
        device = Device(random)
        drawn = random.permutation(len(options))
        some, rest = drawn[:12], drawn[12:]
        rows = {int(i): device.measure(options[i], None) for i in drawn}
        times = np.array([getattr(rows[int(i)], "latency_us", 0.0) for i in drawn])
        known = [options[i].known for i in some]
        belief = believe(known, times[:12].tolist(), [options[i].known for i in rest])
        outside += list(np.abs(np.log(times[12:]) - belief.means) > 2 * belief.deviations)
    assert 0.005 < np.mean(outside) < 0.1


def test_a_network_whose_work_nobody_could_count_is_thought_to_be_fast() -> None:
    """So it is measured; the belief of others stays one of numbers."""
    random = np.random.default_rng(0)
    options = make_zoo(random)
    device = Device(random)
    nothing = Known("unknown.onnx", Work(0, 0, 0, 0, 0, 0))
    rows = [device.measure(option, None) for option in options[:30:6]]
    latencies = [row.latency_us for row in rows if isinstance(row, Measured)]
    known = [option.known for option in options[:30:6]]
    assert believe(known, latencies, [nothing]).below(1.0)[0] > 0.9
    belief = believe([*known, nothing], [*latencies, 50.0], [options[31].known])
    assert np.isfinite(belief.means).all()
    assert np.isfinite(belief.deviations).all()


def test_without_a_network_for_the_limit_all_that_might_be_is_measured() -> None:
    random = np.random.default_rng(1)
    options = make_zoo(random)
    device = Device(random)
    limits, found = Limits(1.0), {}
    while needed := list_needed(options, found, limits, front=False):
        found |= {option.key: device.measure(option, 1.0) for option in needed}
    assert choose(options, found, limits) is None
    assert len(found) < len(options) / 3
