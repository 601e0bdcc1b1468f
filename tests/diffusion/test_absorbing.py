"""The absorbing sampler against exact enumeration, scalar references and its own limits."""

import itertools
import math
from collections import Counter

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from spikegen.diffusion import Absorbing, as_solver, default_solver
from spikegen.diffusion.absorbing import categorical
from spikegen.errors import ConfigError
from spikegen.runtime.noise import ImageNoise
from tests.runtime.programs import tiny, tiny_tokens

LARGEST = 1 - 2.0**-53  # the largest uniform number


def chosen(codes: int, train_steps: int, steps: int, temperature: float = 1.0) -> Absorbing:
    solver = Absorbing(codes, train_steps, temperature)
    solver.set_timesteps(steps)
    return solver


@pytest.mark.parametrize("train_steps", [1, 2, 7, 48, 49, 50])
def test_timesteps_are_evenly_spread_from_the_top_to_nothing(train_steps: int) -> None:
    for steps in range(1, train_steps + 1):
        timesteps = chosen(3, train_steps, steps).timesteps
        assert timesteps.dtype == np.int64
        assert timesteps.shape == (steps,)
        assert timesteps[0] == train_steps
        gaps = -np.diff([*timesteps, 0])
        assert gaps.min() >= 1
        assert gaps.max() - gaps.min() <= 1
    assert chosen(3, 49, 49).timesteps.tolist() == list(range(49, 0, -1))
    assert chosen(3, 49, 4).timesteps.tolist() == [49, 37, 25, 12]  # 49, 36.75, 24.5, 12.25; halves are rounded up


def test_the_probability_to_be_revealed() -> None:
    assert [chosen(3, 49, 49).reveal_probability(t) for t in range(1, 50)] == [1 / t for t in range(1, 50)]
    few = chosen(3, 49, 4)
    assert [few.reveal_probability(t) for t in (49, 37, 25, 12)] == [12 / 49, 12 / 37, 13 / 25, 1.0]
    for steps in range(1, 50):  # the last step reveals whatever is left
        solver = chosen(3, 49, steps)
        assert solver.reveal_probability(int(solver.timesteps[-1])) == 1.0


@pytest.mark.parametrize("t", [49, 37, 25])
def test_a_site_is_revealed_below_that_probability_and_not_at_it(t: int) -> None:
    solver = chosen(2, 49, 4)
    p = solver.reveal_probability(t)
    uniform = np.zeros((1, 2, 1, 4))
    uniform[0, 0, 0] = [0.0, np.nextafter(p, 0), p, LARGEST]
    masks = np.full((1, 1, 4), 2)
    assert solver.step(np.zeros((1, 2, 1, 4)), t, masks, uniform).tolist() == [[[0, 0, 2, 2]]]


def test_the_last_step_reveals_everything_and_nothing_revealed_ever_changes() -> None:
    solver = chosen(2, 49, 4)
    uniform = np.full((1, 2, 1, 3), LARGEST)
    assert solver.step(np.zeros((1, 2, 1, 3)), 12, np.array([[[0, 2, 1]]]), uniform).tolist() == [[[0, 1, 1]]]


def test_the_initial_sample_is_all_masks_and_the_network_sees_tokens_and_time() -> None:
    solver = chosen(5, 6, 6)
    sample = solver.initial_sample(2, (2, 2, 3), ImageNoise(0, 0))
    assert sample.dtype == np.int64
    assert sample.tolist() == [[[5] * 3] * 2] * 2
    sample[1, 0, 2] = 4
    seen = solver.model_input(sample, 6)
    assert seen.dtype == np.float64
    np.testing.assert_array_equal(seen[:, 0], sample)
    np.testing.assert_array_equal(seen[:, 1], np.full((2, 2, 3), 6))
    assert [solver.condition(t) for t in (6, 1)] == [0, 0]


def logits_of(tokens: npt.NDArray[np.int64], codes: int) -> npt.NDArray[np.float64]:
    """Some logits that depend on every other site's token, float64 [N, K, 1, sites]."""
    sites = tokens.shape[2]
    place = np.arange(1, sites + 1)
    total = (tokens * place).sum(axis=2, keepdims=True) - tokens * place
    return np.stack([np.cos(total * (k + 1) + k * place) for k in range(codes)], axis=1)


def joint(codes: int, sites: int, solver: Absorbing) -> dict[tuple[int, ...], float]:
    """Exact distribution of the result, by enumeration of all states in Python floats."""
    states = {(codes,) * sites: 1.0}
    for t, s in itertools.pairwise([*solver.timesteps.tolist(), 0]):
        following: Counter[tuple[int, ...]] = Counter()
        for state, mass in states.items():
            logits = logits_of(np.array([[state]]), codes)[0, :, 0] / solver.temperature
            options = []
            for site, token in enumerate(state):
                weights = [math.exp(value) for value in logits[:, site]]
                shown = {k: (t - s) / t * weight / sum(weights) for k, weight in enumerate(weights)}
                options.append({token: 1.0} if token < codes else {**shown, codes: s / t})
            for way in itertools.product(*(option.items() for option in options)):
                chance = math.prod(p for _, p in way)
                if chance:
                    following[tuple(token for token, _ in way)] += mass * chance
        states = dict(following)
    return states


@pytest.mark.parametrize(("steps", "temperature"), [(3, 1.0), (2, 0.5), (1, 2.0)])
def test_the_joint_distribution_is_the_exact_one(steps: int, temperature: float) -> None:
    codes, sites, images = 2, 3, 8000
    solver = chosen(codes, 3, steps, temperature)
    sample = solver.initial_sample(images, (2, 1, sites), ImageNoise(1, 0))
    for index, t in enumerate(solver.timesteps.tolist()):
        sample = solver.advance(logits_of(sample, codes), t, sample, ImageNoise(1, 1 + index))
        # a site is still masked with probability s / T_d; five standard deviations are allowed
        share = [*solver.timesteps.tolist(), 0][index + 1] / 3
        allowed = 5 * math.sqrt(share * (1 - share) / (images * sites))
        assert abs(float((sample == codes).mean()) - share) <= allowed
    expected = joint(codes, sites, solver)
    assert sum(expected.values()) == pytest.approx(1.0)
    assert len(expected) == codes**sites
    found = Counter(map(tuple, solver.finish(sample)[:, 0].tolist()))
    chi_squared = sum((found[state] - images * p) ** 2 / (images * p) for state, p in expected.items())
    freedom = len(expected) - 1  # mean of the statistic; its variance is twice that; five standard deviations
    assert chi_squared < freedom + 5 * math.sqrt(2 * freedom)


def test_the_order_of_revelation_matters_for_the_joint() -> None:
    """The distribution test would notice a sampler that reveals all sites at once."""
    exact, at_once = (joint(2, 3, chosen(2, 3, steps)) for steps in (3, 1))
    assert max(abs(exact[state] - at_once[state]) for state in exact) > 0.02


def scalar(logits: list[float], temperature: float, uniform: float) -> int:
    weights = [float(np.exp((value - max(logits)) / temperature)) for value in logits]
    total = 0.0
    sums = [total := total + weight for weight in weights]
    return next(k for k, value in enumerate(sums) if value > uniform * total)


@given(st.integers(0, 2**32 - 1), st.integers(1, 9), st.sampled_from([0.05, 0.65, 1.0, 30.0]))
def test_values_are_drawn_as_by_a_scalar_loop(seed: int, codes: int, temperature: float) -> None:
    rng = np.random.default_rng(seed)
    logits, uniform = rng.normal(size=(3, codes, 2, 5)) * 4, rng.random((3, 2, 5))
    found = categorical(logits, temperature, uniform)
    assert found.dtype == np.int64
    for n, y, x in np.ndindex(3, 2, 5):
        assert found[n, y, x] == scalar(logits[n, :, y, x].tolist(), temperature, float(uniform[n, y, x]))


def test_the_number_of_images_changes_no_value() -> None:
    rng = np.random.default_rng(0)
    logits, uniform = rng.normal(size=(33, 7, 3, 3)), rng.random((33, 3, 3))
    together = categorical(logits, 0.65, uniform)
    for n in range(33):
        np.testing.assert_array_equal(categorical(logits[n : n + 1], 0.65, uniform[n : n + 1])[0], together[n])


@pytest.mark.parametrize("temperature", [5e-324, 1e-300, 1e-6])
def test_a_temperature_towards_zero_takes_the_most_probable(temperature: float) -> None:
    rng = np.random.default_rng(2)
    logits = rng.normal(size=(4, 6, 2, 2)) * 1e4
    for u in (0.0, 0.5, LARGEST):
        found = categorical(logits, temperature, np.full((4, 2, 2), u))
        np.testing.assert_array_equal(found, logits.argmax(axis=1))


def test_a_large_temperature_takes_all_alike() -> None:
    uniform = np.array([[[0.0, 0.19, 0.2, 0.5, 0.99, LARGEST]]])
    logits = np.random.default_rng(3).normal(size=(1, 5, 1, 6))
    assert categorical(logits, 1e300, uniform).tolist() == [[[0, 0, 1, 2, 4, 4]]]


@pytest.mark.parametrize("u", [0.0, 0.3, LARGEST])
def test_a_class_without_probability_is_never_drawn(u: float) -> None:
    logits = np.array([-1e5, 0.0, -1e5, 1.0, -1e5]).reshape(1, 5, 1, 1)
    assert categorical(logits, 1.0, np.full((1, 1, 1), u)).item() == (3 if u > 0.27 else 1)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((5, 6, 0.0), "temperature is 0.0, it must be positive and finite"),
        ((5, 6, -1.0), "temperature is -1.0"),
        ((5, 6, math.nan), "temperature is nan"),
        ((5, 6, math.inf), "temperature is inf"),
        ((0, 6), "there are 0 tokens"),
        ((5, 0), "0 diffusion steps"),
    ],
)
def test_values_out_of_range_are_refused(arguments: tuple[int, int, float], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Absorbing(*arguments)


def test_steps_out_of_range_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"7 steps are more steps than the 6 diffusion steps \(T_d\)"):
        chosen(5, 6, 7)
    with pytest.raises(ConfigError, match=r"number of solver steps is 0, it must lie in 1\.\.6"):
        chosen(5, 6, 0)
    with pytest.raises(ConfigError, match="6 steps are more steps than the 4 sites of the grid; use at most 4"):
        chosen(5, 6, 6).initial_sample(1, (2, 2, 2), ImageNoise(0, 0))
    with pytest.raises(ConfigError, match=r"input has shape \(3, 2, 3\), it must have 2 channels"):
        chosen(5, 6, 6).initial_sample(1, (3, 2, 3), ImageNoise(0, 0))
    with pytest.raises(ConfigError, match="timestep 5 is not one of the 3 that set_timesteps chose"):
        chosen(5, 6, 3).reveal_probability(5)


def test_it_must_fit_the_pipeline() -> None:
    pipeline = tiny_tokens()
    chosen(5, 6, 6).check(pipeline)
    with pytest.raises(ConfigError, match="the solver has 4 tokens, the codebook of tokens 5"):
        chosen(4, 6, 6).check(pipeline)
    with pytest.raises(ConfigError, match="the solver has 7 diffusion steps, tokens was made for 6"):
        chosen(5, 7, 6).check(pipeline)
    with pytest.raises(ConfigError, match="Absorbing samples tokens of a TokenDiffusion; tiny is ImageDiffusion"):
        chosen(5, 6, 6).check(tiny())
    large = tiny_tokens(steps=30)
    with pytest.raises(ConfigError, match="8 steps are more steps than the 6 sites"):
        chosen(5, 30, 8).check(large)
    chosen(5, 30, 6).check(large)


@pytest.mark.parametrize("token", [-1, 6])
def test_tokens_out_of_range_are_refused(token: int) -> None:
    solver, sample = chosen(5, 6, 6), np.zeros((2, 2, 3), dtype=np.int64)
    sample[1, 0, 2] = token
    for refuses in (solver.check_sample, solver.finish, lambda tokens: solver.model_input(tokens, 6)):
        with pytest.raises(ConfigError, match=rf"token {token} at image 1, site \(0, 2\): allowed are 0\.\.5"):
            refuses(sample)


def test_logits_that_are_not_finite_are_refused() -> None:
    logits = np.zeros((1, 5, 2, 3))
    logits[0, 3, 1, 1] = np.nan
    with pytest.raises(ConfigError, match="the logits at timestep 6 hold NaN"):
        chosen(5, 6, 6).step(logits, 6, np.full((1, 2, 3), 5), np.zeros((1, 2, 2, 3)))


def test_a_result_with_a_mask_is_refused() -> None:
    sample = np.zeros((2, 2, 3), dtype=np.int64)
    assert chosen(5, 6, 6).finish(sample) is sample
    sample[1, 1, 0] = 5
    with pytest.raises(ConfigError, match=r"image 1, site \(1, 0\) is still masked"):
        chosen(5, 6, 6).finish(sample)


def test_identity_tells_everything_that_matters() -> None:
    solvers = [chosen(5, 6, 6), chosen(4, 6, 6), chosen(5, 7, 6), chosen(5, 6, 5), chosen(5, 6, 6, 0.5)]
    assert len({str(solver.identity()) for solver in solvers}) == len(solvers)
    assert as_solver(solvers[0]) is solvers[0]


def test_the_default_solver_fits_its_pipeline() -> None:
    tokens, images = tiny_tokens(), tiny(schedule="squaredcos_cap_v2")
    solver = default_solver(tokens, temperature=0.5)
    assert solver.identity() == chosen(5, 6, 6, 0.5).identity()
    solver.check(tokens)
    for name in (None, "ddim", "ddpm"):
        solver = default_solver(images, name, spacing="trailing", eta=None)
        solver.check(images)
        assert type(solver).__name__ == (name or "ddim").upper()


@pytest.mark.parametrize(
    ("tokens", "name", "options", "message"),
    [
        (True, "ddim", {}, "solver 'ddim' does not fit this pipeline; its solvers are absorbing"),
        (False, "absorbing", {}, "solver 'absorbing' does not fit this pipeline; its solvers are analytic, ddim, ddpm"),
        (True, None, {"eta": 0.5}, "solver absorbing has no option eta; it has temperature"),
        (False, None, {"temperature": 0.5}, "solver ddim has no option temperature; it has eta, spacing"),
    ],
)
def test_foreign_options_are_refused(tokens: bool, name: str | None, options: dict[str, float], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        default_solver(tiny_tokens() if tokens else tiny(), name, **options)
