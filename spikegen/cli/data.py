"""`spikegen data`: look at a data set, and fetch it."""

from __future__ import annotations

import rich_click as click

from spikegen.errors import LoweringError


@click.command()
@click.argument("name")
@click.option("--download", is_flag=True, help="Fetch a published data set that is not there. Nothing else ever does.")
@click.option("--check", is_flag=True, help="Read every image, so that a damaged one is found now.")
def data(name: str, download: bool, check: bool) -> None:
    """Say what data set NAME holds.

    NAME is digits, mnist, fashion-mnist, kmnist, emnist-letters, cifar10, celeba, folder:PATH or noise:CxHxW, with
    @SIZE behind it to resize the images. Published data sets are in $SPIKEGEN_DATA, or else in ~/.cache/spikegen/data.
    """
    try:
        from spikegen.training import load_images
    except ImportError as error:
        raise LoweringError(f"data sets need PyTorch ({error}); pip install 'spikegen[torch]'") from error

    images = load_images(name, download=download)
    count, channels, height, width = images.shape
    if check:
        for row in range(count):
            images[row]
    mirrored = ", mirrored at random in training" if images.flips else ""
    click.echo(f"{name}: {count:,} images of {channels} x {height} x {width} (channels x height x width){mirrored}")
