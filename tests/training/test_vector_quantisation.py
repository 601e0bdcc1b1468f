"""The loss of the autoencoder against its formula, term by term, and what happens before and after its training."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from torch import Tensor

from spikegen.models.sdid import SDID
from spikegen.models.vqsvae import VQSVAE
from spikegen.training import tasks
from spikegen.training.tasks import VectorQuantisation, encode, postsynaptic
from tests.training.networks import STEPS, settle, slow_psp, small_autoencoder, small_pixels


def parts(network: VQSVAE, pixels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Encoder spikes, latents and the nearest code vectors, found by going through all of them."""
    spikes = network.encoder.spikes(pixels)
    z = network.encoder.readout(spikes)
    nearest = torch.empty_like(z)
    for image in range(len(z)):
        for y in range(z.shape[2]):
            for x in range(z.shape[3]):
                distances = [float((z[image, :, y, x] - code).square().sum()) for code in network.codebook]
                nearest[image, :, y, x] = network.codebook[int(np.argmin(distances))]
    return spikes, z, nearest


def mean_square(a: Tensor, b: Tensor) -> Tensor:
    return (a - b).square().sum() / a.numel()


def test_the_postsynaptic_potential_is_its_recursion() -> None:
    spikes = torch.tensor([1.0, 0.0, 1.0, 1.0, 0.0, 0.0, 0.0, 1.0]).reshape(8, 1, 1, 1)  # two neurons, four steps
    expected = []
    for neuron in (0, 1):
        p, potentials = 0.0, []
        for step in spikes.flatten().tolist()[neuron::2]:
            p = p + (step - p) / 2
            potentials.append(p)
        expected.append(potentials)
    assert expected == [[0.5, 0.75, 0.375, 0.1875], [0.0, 0.5, 0.25, 0.625]]
    found = postsynaptic(spikes, 4)
    assert found.shape == (4, 2, 1, 1, 1)
    assert found.flatten(1).T.tolist() == expected
    torch.testing.assert_close(slow_psp(spikes), found)


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_the_loss_is_the_sum_of_five_terms(seed: int) -> None:
    network, pixels = small_autoencoder(seed), small_pixels(6, seed)
    spikes, z, nearest = parts(network, pixels)
    generated = network.decoder.generator(network.decoder.coding(nearest))
    image = torch.tanh(network.decoder.image(generated))
    for sent in (spikes, generated):
        assert 0.02 < float(sent.mean()) < 0.98  # else the terms would say little
    quantised = mean_square(nearest, z)
    potential = mean_square(slow_psp(generated), slow_psp(spikes))
    variance = np.var(small_pixels(50).numpy().astype(np.float64), ddof=1)
    expected = 1.25 * quantised + 1.25 * potential + mean_square(image, pixels) / variance
    loss = VectorQuantisation(small_pixels(50), 6).loss(network, (pixels,))
    torch.testing.assert_close(loss.double(), expected.double(), rtol=1e-4, atol=1e-6)


def test_the_codebook_learns_from_its_own_term_only() -> None:
    network, pixels = small_autoencoder(), small_pixels(6)
    _, z, nearest = parts(network, pixels)
    assigned = network.tokens(z)
    VectorQuantisation(pixels, 6).loss(network, (pixels,)).backward()
    found = network.codebook.grad
    assert found is not None
    at_sites = (2 / z.numel() * (nearest - z)).detach().movedim(1, -1)
    expected = torch.stack([at_sites[assigned == code].sum(0) for code in range(len(network.codebook))])
    assert int((expected.abs().amax(1) > 0).sum()) > 1  # more than one code vector is in use
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("commitment", [0.0, 0.25])
def test_the_encoder_learns_through_the_codes_and_by_commitment(
    commitment: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Straight-through: the gradient at the code vectors arrives at the latents as it is."""
    monkeypatch.setattr(tasks, "COMMITMENT", commitment)
    pixels = small_pixels(6)
    task = VectorQuantisation(pixels, 6)
    network = small_autoencoder()
    task.loss(network, (pixels,)).backward()

    other = small_autoencoder()
    spikes, z, nearest = parts(other, pixels)
    held = nearest.detach().requires_grad_()
    generated = other.decoder.generator(other.decoder.coding(held))
    image = torch.tanh(other.decoder.image(generated))
    target = slow_psp(spikes.detach())
    at_codes = mean_square(slow_psp(generated), target) + mean_square(image, pixels) / task.variance
    (through,) = torch.autograd.grad(at_codes, held)
    assert float(through.abs().max()) > 0
    committed = mean_square(z, nearest.detach()) + mean_square(slow_psp(generated.detach()), slow_psp(spikes))
    ((z * through).sum() + commitment * committed).backward()
    names = dict(other.encoder.named_parameters())
    moved = 0
    for name, parameter in network.encoder.named_parameters():
        expected = names[name].grad
        if parameter.grad is None or expected is None:
            assert parameter.grad is expected is None, name
            continue
        moved += int(bool(parameter.grad.abs().max() > 1e-6))
        torch.testing.assert_close(parameter.grad, expected, rtol=1e-3, atol=1e-5, msg=name)
    assert moved >= 4  # the convolutions of both layers among them


def test_the_decoder_learns_from_the_image_and_from_the_potentials() -> None:
    pixels = small_pixels(6)
    task, network, other = VectorQuantisation(pixels, 6), small_autoencoder(), small_autoencoder()
    task.loss(network, (pixels,)).backward()
    spikes, _, nearest = parts(other, pixels)
    generated = other.decoder.generator(other.decoder.coding(nearest.detach()))
    image = torch.tanh(other.decoder.image(generated))
    potential = mean_square(slow_psp(generated), slow_psp(spikes.detach()))
    (potential + mean_square(image, pixels) / task.variance).backward()
    for (name, a), (_, b) in zip(network.decoder.named_parameters(), other.decoder.named_parameters(), strict=True):
        if a.requires_grad:
            assert a.grad is not None
            torch.testing.assert_close(a.grad, b.grad, rtol=1e-3, atol=1e-5, msg=name)


def test_code_vectors_start_at_latents_of_the_data() -> None:
    pixels = small_pixels(20)
    network = small_autoencoder()
    VectorQuantisation(pixels, 8).prepare(network, torch.Generator().manual_seed(3))
    fresh = small_autoencoder()
    batch = pixels[torch.randint(20, (8,), generator=torch.Generator().manual_seed(3))]
    latents = fresh.encoder(batch).movedim(1, -1).flatten(0, 2).detach()
    nearest = torch.cdist(network.codebook.detach(), latents).min(1).values
    assert float(nearest.max()) < 0.1 * 5  # the jitter has a standard deviation of 0.1 in 3 dimensions
    assert float(torch.cdist(fresh.codebook.detach(), latents).min(1).values.max()) > float(nearest.max())
    again = small_autoencoder()
    VectorQuantisation(pixels, 8).prepare(again, torch.Generator().manual_seed(3))
    assert torch.equal(again.codebook, network.codebook)


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_sorting_the_codebook_changes_no_image(seed: int) -> None:
    network = small_autoencoder(seed)
    pixels = small_pixels(9, seed)
    settle(network, pixels)
    before = copy.deepcopy(network)
    VectorQuantisation(pixels, 4).finish(network)
    order = [int((before.codebook == code).all(1).nonzero()) for code in network.codebook]
    assert sorted(order) == list(range(len(order)))
    renamed = torch.tensor([order.index(token) for token in range(len(order))])
    tokens = encode(before, pixels)
    assert len(tokens.unique()) > 1
    assert torch.equal(encode(network, pixels), renamed[tokens])
    with torch.no_grad():
        assert torch.equal(network(pixels), before(pixels))
    # in the order of the first principal component, whichever way it points
    codes = network.codebook.detach().double().numpy()
    component = np.linalg.svd(codes - codes.mean(0))[2][0]
    steps = np.diff(codes @ component)
    assert (steps >= 0).all() or (steps <= 0).all()
    for name, value in before.state_dict().items():
        assert name == "codebook" or torch.equal(value, network.state_dict()[name]), name


def test_a_batch_is_a_choice_of_images() -> None:
    pixels = small_pixels(5)
    task = VectorQuantisation(pixels, 64)
    (batch,) = task.batch(torch.Generator().manual_seed(0))
    assert batch.shape == (64, 1, 8, 8)
    which = {int((pixels == image).flatten(1).all(1).nonzero()) for image in batch}
    assert which == set(range(5))
    assert torch.equal(batch, task.batch(torch.Generator().manual_seed(0))[0])
    (other,) = task.batch(torch.Generator().manual_seed(1))
    assert not torch.equal(batch, other)


def test_another_network_is_refused() -> None:
    task = VectorQuantisation(small_pixels(4), 4)
    stranger = SDID((2,), 3, STEPS)
    with pytest.raises(TypeError, match=r"^this task trains a VQSVAE, not a SDID$"):
        task.loss(stranger, (small_pixels(4),))
    with pytest.raises(TypeError, match=r"^this task trains a VQSVAE, not a SDID$"):
        task.finish(stranger)
