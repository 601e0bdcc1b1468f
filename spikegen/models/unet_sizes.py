"""The sizes that every U-Net here has, and their checks."""

from __future__ import annotations

from dataclasses import dataclass

from spikegen.errors import ConfigError
from spikegen.models.sizes import is_size

# Far above any use, and small enough that a hostile configuration is refused before anything is built.
SIZE_LIMITS = {
    "image_size": 1024,
    "channels": 1024,
    "width": 4096,
    "blocks": 64,
    "middle_blocks": 64,
    "timesteps": 1024,
    "diffusion_steps": 1 << 16,
}
LEVELS_MAX, WIDEST = 10, 64


@dataclass(frozen=True)
class UNetSizes:
    """Sizes of a U-Net that predicts the noise of a square image.

    Attributes:
        image_size: height and width of the square image [pixels]; divisible by 2 for every level below the first.
        channels: image channels.
        width: channels of the first level.
        multipliers: channels of level i are ``width * multipliers[i]``; each further level halves the resolution.
        blocks: residual blocks per level on the way down (one more on the way up, as in SDDPM).
        middle_blocks: residual blocks at the bottom.
        timesteps: T, SNN steps per evaluation of the network.
        diffusion_steps: number of diffusion steps the time embedding knows (t in 0 .. diffusion_steps - 1).
    """

    image_size: int = 8
    channels: int = 1
    width: int = 28
    multipliers: tuple[int, ...] = (1, 2)
    blocks: int = 1
    middle_blocks: int = 1
    timesteps: int = 4
    diffusion_steps: int = 1000

    def __post_init__(self) -> None:
        title = type(self).__name__
        for name, limit in SIZE_LIMITS.items():
            value = getattr(self, name)
            if not is_size(value, limit):
                raise ConfigError(f"{title}.{name} is {value!r}; it must be an integer in 1..{limit}")
        if not 1 <= len(self.multipliers) <= LEVELS_MAX or any(not is_size(m, WIDEST) for m in self.multipliers):
            raise ConfigError(
                f"{title}.multipliers is {self.multipliers!r:.80}; it must be 1..{LEVELS_MAX} integers in 1..{WIDEST}"
            )
        if self.width % 2:
            raise ConfigError(
                f"{title}.width is {self.width}; it must be even (the time embedding has sines and cosines)"
            )
        if self.image_size % 2 ** (len(self.multipliers) - 1):
            raise ConfigError(
                f"{title}.image_size is {self.image_size}; {len(self.multipliers)} levels need a multiple of "
                f"{2 ** (len(self.multipliers) - 1)}"
            )
