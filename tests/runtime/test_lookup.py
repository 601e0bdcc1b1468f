"""The look-up generator: every spike, readout, image and count behind it is what the generator on the chip makes."""

import dataclasses
from typing import Any

import hypothesis.strategies as st
import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings

from spikegen.energy import build_pipeline_report, generator_cost
from spikegen.errors import ConfigError
from spikegen.lowering.retime import retime
from spikegen.program import (
    Conditioning,
    Conv,
    Dense,
    Input,
    Lif,
    Pipeline,
    Program,
    Projection,
    Readout,
    Relay,
    TokenDiffusion,
    validate,
)
from spikegen.runtime import Lookup, decode_tokens, lookup_decoder
from spikegen.simulator import Simulator
from tests.program.examples import changed
from tests.runtime.programs import CODES, GRID, TIMESTEPS, tiny, tiny_tokens


def with_decoder(decoder: Program, pipeline: Pipeline | None = None) -> Pipeline:
    pipeline = pipeline or tiny_tokens()
    return dataclasses.replace(pipeline, networks={**pipeline.networks, "decoder": decoder})


@st.composite
def decoders(draw: st.DrawFn) -> Pipeline:
    """code -> generator -> a (Lif, perhaps shuffled) -> b (Lif or Relay, perhaps with a skip) -> readout."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1), label="weights"))
    codes, h, w = draw(st.integers(2, 6)), draw(st.integers(1, 4)), draw(st.integers(1, 4))
    steps, shuffle = draw(st.sampled_from((1, 2, 4, 8))), draw(st.sampled_from((1, 2)))
    groups = draw(st.sampled_from((1, 2)), label="groups")
    size, channels = groups * draw(st.integers(1, 3)), groups * draw(st.integers(1, 3))
    big = (2, h * shuffle, w * shuffle)

    def conv(source: str, target: str, *shape: int, **geometry: Any) -> Conv:
        weight = rng.integers(-60, 60, shape).astype(np.int8)
        return Conv(f"{source}>{target}", source, target, weight, 1, **geometry)

    def lif(name: str, shape: tuple[int, int, int], vth: int) -> Lif:
        du, dv = draw(st.sampled_from((4095, 1000))), draw(st.sampled_from((0, 2047, 4095)))
        return Lif(name, shape, vth, du, dv, rng.integers(-30, 30, shape[0]).astype(np.int16), 4)

    def table(width: int) -> npt.NDArray[np.int16]:
        return rng.integers(-9, 9, (1, width)).astype(np.int16)

    relayed, skip = draw(st.booleans(), label="relay"), draw(st.booleans(), label="skip")
    direct = rng.integers(-9, 9, (h * w * shuffle**2, channels * h * w)).astype(np.int8)
    projections: list[Projection] = [
        conv("code", "generator", channels, size // groups, 1, 1, groups=groups),
        conv("generator", "a", 2 * shuffle**2, channels, 3, 3, padding=(1, 1), shuffle=shuffle),
        conv("a", "b", 2, 2, 3, 3, padding=(1, 1)),
        conv("b", "pixel", 1, 2, 1, 1),
        Dense("generator>pixel", "generator", "pixel", direct, 1),
    ]
    if skip:
        projections.append(conv("generator", "b", 2 * shuffle**2, channels, 1, 1, shuffle=shuffle))
    decoder = retime(
        Program(
            "decoder",
            steps,
            Input("code", (size, h, w), 5, 0.1),
            (
                lif("generator", (channels, h, w), draw(st.sampled_from((50, 800)))),
                lif("a", big, 100),
                Relay("b", big, 16) if relayed else lif("b", big, 100),
                Readout("pixel", (1, *big[1:]), 0.8 ** np.arange(steps)[::-1], np.zeros(1), 1 / 500),
            ),
            tuple(projections),
            Conditioning(1, {"generator": table(channels), "a": table(2)}),
            ann_macs=1_000_000,
        )
    )
    if draw(st.booleans(), label="late"):
        decoder = changed(decoder, "code>generator", delay=2)
    validate(decoder)
    return Pipeline("any", TokenDiffusion(rng.normal(size=(codes, size)), 4), {"decoder": decoder})


def both_ways(pipeline: Pipeline, tokens: npt.NDArray[np.int64]) -> Lookup:
    """Compare the decodes of ``tokens`` in everything there is."""
    decoder, lookup = pipeline.network("decoder"), lookup_decoder(pipeline)
    assert isinstance(pipeline.host, TokenDiffusion)
    on_chip, injected = Simulator(decoder), Simulator(lookup.program)
    codes = pipeline.host.codebook[tokens].transpose(0, 3, 1, 2)
    chip = on_chip.evaluate(decoder.input.quantize(codes), step=0, record=True)
    table = injected.evaluate(lookup.frames(tokens), step=0, record=True)
    assert {decoder.input.name, *table.messages} == {*chip.messages}
    for found, expected in ((table.messages, chip.messages), (table.readouts, chip.readouts)):
        for name, values in found.items():
            np.testing.assert_array_equal(values, expected[name], err_msg=name)
    np.testing.assert_array_equal(table.messages[lookup.program.input.name], lookup.frames(tokens))
    for what in ("events", "stored", "effective"):
        behind, whole = getattr(table.counts, what), getattr(chip.counts, what)
        assert behind == {name: whole[name] for name in behind}
    one, other = (
        decode_tokens(pipeline, on_chip, tokens),
        decode_tokens(pipeline, injected, tokens, batch=2, lookup=lookup),
    )
    np.testing.assert_array_equal(one.images, other.images)
    assert one.counts == chip.counts
    assert other.counts == table.counts
    return lookup


@given(decoders(), st.integers(0, 2**32 - 1))
@settings(max_examples=60)
def test_both_ways_are_equal_for_any_decoder(pipeline: Pipeline, seed: int) -> None:
    assert isinstance(pipeline.host, TokenDiffusion)
    codes, grid = len(pipeline.host.codebook), pipeline.network("decoder").input.shape[1:]
    lookup = both_ways(pipeline, np.random.default_rng(seed).integers(0, codes, (3, *grid)))
    validate(lookup.program)


def test_both_ways_are_equal_for_every_code_at_every_site() -> None:
    every = np.array([np.full(GRID, k) for k in range(CODES)])
    lone = np.zeros((6 * CODES, *GRID), dtype=np.int64)
    for place, (y, x) in enumerate(np.ndindex(GRID)):
        lone[place * CODES : (place + 1) * CODES, y, x] = range(CODES)
    both_ways(tiny_tokens(), np.concatenate([every, lone]))


def test_the_program_begins_at_the_generator() -> None:
    pipeline = tiny_tokens()
    decoder, lookup = pipeline.network("decoder"), lookup_decoder(pipeline)
    program = lookup.program
    validate(program)
    assert program.input.name == "generator"
    assert program.input.shape == (3, *GRID)
    assert program.input.streamed
    assert (program.input.bits, program.input.low.tolist(), program.input.high.tolist()) == (0, [0] * 3, [1] * 3)
    assert [p.name for p in program.populations] == ["up", "pixel"]
    assert program.projections == decoder.projections[1:]
    assert program.levels == {name: level - 1 for name, level in decoder.levels.items() if name != "code"}
    assert program.ann_macs == 3000 - 9 * 6  # without the 3x3 kernel of 1x1 at 6 sites


def test_patterns_are_of_zeros_and_ones_and_differ_between_codes() -> None:
    lookup = lookup_decoder(tiny_tokens())
    assert lookup.patterns.dtype == np.uint8
    assert lookup.patterns.shape == (CODES, TIMESTEPS, 3)
    assert set(np.unique(lookup.patterns)) == {0, 1}
    assert len({pattern.tobytes() for pattern in lookup.patterns}) == CODES
    frames = lookup.frames(np.array([[[0, 1, 2], [3, 4, 0]]]))
    assert frames.dtype == np.int32
    assert frames.shape == (1, TIMESTEPS, 3, *GRID)
    np.testing.assert_array_equal(frames[0, :, :, 1, 1], lookup.patterns[4])


def test_the_conditioning_of_the_generator_is_in_its_patterns() -> None:
    decoder = tiny_tokens().network("decoder")
    tables = {"generator": np.array([[4000, -4000, 2000]]), "up": np.array([[1, 2, 3, 4]])}
    pipeline = with_decoder(dataclasses.replace(decoder, conditioning=Conditioning(1, tables)))
    lookup = both_ways(pipeline, np.arange(6).reshape(1, *GRID) % CODES)
    assert set(lookup.program.conditioning.tables) == {"up"}
    assert not np.array_equal(lookup.patterns, lookup_decoder(tiny_tokens()).patterns)


@pytest.mark.parametrize("gains", [(3, 0, -2, 1), (0, 0, 0, 7)])
def test_gains_on_the_way_into_the_generator_are_in_its_patterns(gains: tuple[int, ...]) -> None:
    decoder = changed(tiny_tokens().network("decoder"), "code>generator", gains=np.array(gains, dtype=np.int32))
    validate(decoder)
    tokens = np.random.default_rng(2).integers(0, CODES, (3, *GRID))
    lookup = both_ways(with_decoder(decoder), tokens)
    assert not np.array_equal(lookup.patterns, lookup_decoder(tiny_tokens()).patterns)
    rolled = changed(decoder, "code>generator", gains=np.roll(np.array(gains, dtype=np.int32), 1))
    assert not np.array_equal(lookup.patterns, lookup_decoder(with_decoder(rolled)).patterns)


DECODER = tiny_tokens().network("decoder")
CLOCK = Lif("clock", (1, 1, 1), 100, 4095, 0, np.array([40], np.int16), 6)
FIRST = DECODER.projections[0]
ANOTHER = Conv("code>up", "code", "up", np.ones((16, 3, 1, 1), np.int8), 1, shuffle=2, delay=1)


@pytest.mark.parametrize(
    ("decoder", "reason"),
    [
        (changed(DECODER, "code>generator", weight=np.ones((3, 3, 3, 3)), padding=(1, 1)), "no Conv of kernel 1x1"),
        (changed(DECODER, "code>generator", stride=(2, 2)), "no Conv of kernel 1x1, stride 1"),
        (changed(DECODER, "code>generator", padding=(1, 1)), "without padding and shuffle"),
        (changed(DECODER, "code>generator", weight=np.ones((12, 3, 1, 1)), shuffle=2), "without padding and shuffle"),
        (
            dataclasses.replace(
                DECODER,
                projections=(
                    Dense(FIRST.name, "code", "generator", np.ones((18, 18), np.int8), 1),
                    *DECODER.projections[1:],
                ),
            ),
            "code>generator is no Conv",
        ),
        (dataclasses.replace(DECODER, projections=(*DECODER.projections, ANOTHER)), "2 projections read code"),
        (
            dataclasses.replace(DECODER, populations=(Relay("generator", (3, *GRID), 20), *DECODER.populations[1:])),
            "generator is a Relay, no Lif",
        ),
        (changed(DECODER, "code", streamed=True), "code is streamed"),
        (changed(DECODER, "generator", delays=np.ones((3, *GRID))), "generator has axonal delays"),
        (
            dataclasses.replace(DECODER, populations=(CLOCK, *DECODER.populations)),
            "clock would no longer fire at the same time as the generator",
        ),
        (changed(DECODER, "code>generator", exponent=15), r"the current of generator leaves \+-262143"),
    ],
)
def test_decoders_without_such_a_generator_are_refused(decoder: Program, reason: str) -> None:
    message = f"decoder has no spike generator that a table could replace: .*{reason}"
    with pytest.raises(ConfigError, match=message):
        lookup_decoder(with_decoder(decoder))


def test_pipelines_without_a_decoder_are_refused() -> None:
    with pytest.raises(ConfigError, match="tiny is ImageDiffusion: only a TokenDiffusion has a decoder"):
        lookup_decoder(tiny())
    with pytest.raises(ConfigError, match="has no decoder"):
        lookup_decoder(dataclasses.replace(tiny_tokens(), networks={}))


TOKENS = np.random.default_rng(0).integers(0, CODES, (4, *GRID))


def test_the_costs_that_differ() -> None:
    pipeline = tiny_tokens()
    lookup = lookup_decoder(pipeline)
    chip = decode_tokens(pipeline, Simulator(DECODER), TOKENS).counts
    injected = decode_tokens(pipeline, Simulator(lookup.program), TOKENS, lookup=lookup).counts
    cost = generator_cost(DECODER, chip, lookup.program, injected)
    spikes = float(lookup.patterns[TOKENS].sum()) / 4
    nonzero = np.count_nonzero(DECODER.input.quantize(pipeline.host.codebook.T[..., None]))  # type: ignore[union-attr]
    assert nonzero == 3 * CODES  # so every component is an event, at each of the 4 timesteps
    assert (cost.name, cost.samples) == ("generator", 4)
    assert cost.chip == {
        "analog_macs": 18 * TIMESTEPS * 3,  # 18 components x 3 neurons each
        "analog_macs_effective": 18 * TIMESTEPS * 3,
        "neuron_updates": 18 * TIMESTEPS,
        "bias_adds": 6 * TIMESTEPS * np.count_nonzero(DECODER.bias_mant(DECODER.populations[0], 0)),  # type: ignore[arg-type]
        "spikes": spikes,
    }
    assert cost.lookup == {"injected_spikes": spikes}
    # what differs between the two reports of a sample is exactly this
    whole = build_pipeline_report(pipeline, {"decoder": [(0, chip)]}).per_sample()
    rest = build_pipeline_report(pipeline, {"decoder": [(0, injected)]}, {"decoder": lookup.program}).per_sample()
    assert {name: count - rest[name] for name, count in whole.items() if count != rest[name]} == {
        **{name: count for name, count in cost.chip.items() if count},
        "conv_synops": cost.chip["analog_macs"],  # the same operations, by their form
        "injected_spikes": -spikes,
    }


def test_costs_of_other_tokens_are_refused() -> None:
    pipeline = tiny_tokens()
    lookup = lookup_decoder(pipeline)
    chip = decode_tokens(pipeline, Simulator(DECODER), TOKENS).counts
    for others in (TOKENS[:2], (TOKENS + 1) % CODES):
        injected = decode_tokens(pipeline, Simulator(lookup.program), others, lookup=lookup).counts
        with pytest.raises(ConfigError, match="count both for the same tokens"):
            generator_cost(DECODER, chip, lookup.program, injected)
