"""How the denoiser starts: its first layer as a scale of thresholds over the numbers it reads."""

from __future__ import annotations

import torch

from spikegen.models.sdid import SDID, denoiser_input

CODES, STEPS, WIDTH = 64, 16, 64


def first_spikes(tokens: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
    """Spikes of the first layer (T, N, WIDTH, h, w), its BatchNorm measuring the batch."""
    torch.manual_seed(0)
    denoiser = SDID((WIDTH, 4), CODES, timesteps=8).train()
    with torch.no_grad():
        spikes = denoiser.layers[0](denoiser.coding(denoiser_input(tokens, t)))
    by_time: torch.Tensor = spikes.unflatten(0, (8, -1))
    return by_time


def uniform() -> tuple[torch.Tensor, torch.Tensor]:
    """Grids of 4x4 tokens in which every token and every step is equally frequent."""
    generator = torch.Generator().manual_seed(1)
    tokens = torch.arange(64 * 16) % (CODES + 1)
    return tokens[torch.randperm(64 * 16, generator=generator)].view(64, 4, 4), torch.arange(64) % STEPS + 1


def test_every_token_has_a_spike_pattern_of_its_own() -> None:
    tokens, t = uniform()
    of_tokens = first_spikes(tokens, t)[:, :, : WIDTH * 7 // 8].permute(1, 3, 4, 0, 2).flatten(0, 2).flatten(1)
    flat = tokens.flatten()
    mean = torch.stack([of_tokens[flat == token].mean(0) for token in range(CODES + 1)])
    distances = torch.cdist(mean, mean) + 1e9 * torch.eye(CODES + 1)
    nearest = torch.cdist(of_tokens, mean).argmin(1)
    assert distances.min() > 0.3  # no two tokens fire alike
    assert (nearest == flat).float().mean() > 0.8  # and the tokens around a site hardly matter
    assert ((nearest - flat).abs() <= 1).float().mean() > 0.99


def test_channels_rise_and_fall_with_the_number_in_turn_and_the_last_follow_the_step() -> None:
    tokens, t = uniform()
    rates = first_spikes(tokens, t).mean(0)
    numbers = torch.stack([tokens, t[:, None, None].expand_as(tokens)]).flatten(1).double()
    flat = rates.permute(1, 0, 2, 3).flatten(1).double()
    correlation = torch.corrcoef(torch.cat([numbers, flat]))[:2, 2:]
    inner = range(4, WIDTH * 7 // 8 - 4)
    assert all(correlation[0, c] * (-1) ** c > 0.2 for c in inner)
    last = range(WIDTH * 7 // 8 + 1, WIDTH - 1)
    assert all(correlation[1, c] * (-1) ** c > 0.2 for c in last)
    assert max(abs(correlation[1, c]) for c in inner) < 0.15


def test_half_the_thresholds_lie_below_the_mean() -> None:
    tokens, t = uniform()
    rates = first_spikes(tokens, t).mean((0, 1, 3, 4))[: WIDTH * 7 // 8]
    rising = rates[0::2]
    assert (rising.diff() <= 0.02).all()  # the higher the threshold, the fewer spikes
    assert rising[0] > 0.8
    assert rising[-1] < 0.05
