"""Train or fine-tune the generator on a raw file of images.

python train.py --data base.rgb --out runs/base --minutes 70 --noise-after 60
python train.py --data target.rgb --out runs/target --init runs/base/ckpt.pt --freeze-mapping --augment --minutes 8

Non-saturating loss, lazy R1, style mixing and a running average of the weights, all from Karras et al. 2020.
"""

import argparse
import copy
import json
import time
from pathlib import Path

import numpy as np
import torch
from demo import GENERATOR, draw, read_images, seed_latents, synthesize
from discriminator import Discriminator
from PIL import Image
from torch import Tensor
from torch.nn import functional

from stylewire_export.networks.generator import Generator

MIXING_SHARE = 0.9  # of the training codes change to a second w at a random row
W_AVG_RATE = 0.002
PENALTY_INTERVAL = 16  # steps between two R1 penalties
LOG_INTERVAL = 50


class Trainer:
    """The networks, their optimizers and one training step.

    Args:
        arguments: of the command line.
    """

    def __init__(self, arguments: argparse.Namespace) -> None:
        self.arguments, self.device = arguments, torch.device(arguments.device)
        torch.manual_seed(arguments.seed)
        self.generator = Generator(GENERATOR).to(self.device)
        self.discriminator = Discriminator(GENERATOR).to(self.device)
        self.average = copy.deepcopy(self.generator).eval()
        self.images = read_images(arguments.data)
        self.kimg = self._load() if arguments.init else 0.0
        trained = self.generator.synthesis if arguments.freeze_mapping else self.generator
        self.generator_optimizer = torch.optim.Adam(trained.parameters(), lr=arguments.lr, betas=(0.0, 0.99))
        share = PENALTY_INTERVAL / (PENALTY_INTERVAL + 1)  # the penalty's steps count too
        self.discriminator_optimizer = torch.optim.Adam(
            self.discriminator.parameters(), lr=arguments.lr * share, betas=(0.0, 0.99**share)
        )

    def _load(self) -> float:
        """Start from a checkpoint: its latest weights to resume, its average to fine-tune. Return the kimg seen."""
        state = torch.load(self.arguments.init, map_location=self.device, weights_only=True)
        self.generator.load_state_dict(state["g" if self.arguments.resume else "ema"])
        self.discriminator.load_state_dict(state["d"])
        self.average.load_state_dict(state["ema"])
        return float(state["kimg"]) if self.arguments.resume else 0.0

    def step(self, index: int) -> dict[str, float]:
        """Train both networks on one batch, and return the losses."""
        self.discriminator.requires_grad_(requires_grad=False)
        fakes = self._fakes()
        generator_loss = functional.softplus(-self.discriminator(self._jitter(fakes))).mean()
        _descend(self.generator_optimizer, generator_loss)
        self.discriminator.requires_grad_(requires_grad=True)
        # The same fakes again: a fresh draw would cost an eighth more time.
        discriminator_loss = self._discriminator_loss(fakes.detach())
        _descend(self.discriminator_optimizer, discriminator_loss)
        if index % PENALTY_INTERVAL == 0:
            _descend(self.discriminator_optimizer, self._penalty() * (self.arguments.gamma / 2 * PENALTY_INTERVAL))
        self.kimg += self.arguments.batch / 1000
        self._update_average()
        return {"g_loss": float(generator_loss.detach()), "d_loss": float(discriminator_loss.detach())}

    def _fakes(self) -> Tensor:
        batch, layer_count = self.arguments.batch, self.generator.synthesis.layer_count
        first, second = (
            self.generator.mapping(torch.randn(batch, GENERATOR.z_dim, device=self.device)) for _ in range(2)
        )
        if not self.arguments.freeze_mapping:  # a frozen mapping keeps its mean: codes stay valid in both models
            with torch.no_grad():
                self.generator.mapping.w_avg.lerp_(first.mean(0), W_AVG_RATE)
        change = torch.randint(1, layer_count, (batch, 1), device=self.device)
        change[torch.rand(batch, 1, device=self.device) >= MIXING_SHARE] = layer_count
        changed = torch.arange(layer_count, device=self.device) >= change  # [N, L]
        codes = torch.where(changed[:, :, None], second[:, None], first[:, None])  # [N, L, D]
        return synthesize(self.generator, codes, "random" if self.kimg >= self.arguments.noise_after else "none")

    def _discriminator_loss(self, fakes: Tensor) -> Tensor:
        reals = draw(self.images, self.arguments.batch, self.device)
        loss: Tensor = functional.softplus(self.discriminator(self._jitter(fakes))).mean()
        return loss + functional.softplus(-self.discriminator(self._jitter(reals))).mean()

    def _penalty(self) -> Tensor:
        """R1: squared gradient of the logits at real images. Source: Mescheder et al. 2018, equation 9."""
        reals = draw(self.images, self.arguments.batch, self.device).requires_grad_()
        logits = self.discriminator(self._jitter(reals))
        (gradient,) = torch.autograd.grad(logits.sum(), reals, create_graph=True)
        return gradient.square().sum((1, 2, 3)).mean()

    def _jitter(self, images: Tensor) -> Tensor:
        return augment(images) if self.arguments.augment else images

    @torch.no_grad()
    def _update_average(self) -> None:
        half_life_kimg = min(self.arguments.ema_kimg, max(self.kimg * 0.05, 1e-3))  # short at the start
        keep = 0.5 ** (self.arguments.batch / 1000 / half_life_kimg)
        for average, latest in zip(self.average.parameters(), self.generator.parameters(), strict=True):
            average.lerp_(latest, 1 - keep)
        self.average.mapping.w_avg.copy_(self.generator.mapping.w_avg)

    def save(self, folder: Path) -> None:
        """Write ``ckpt.pt`` and a grid of seeds at psi 0.7."""
        states = {"g": self.generator, "d": self.discriminator, "ema": self.average}
        torch.save({key: net.state_dict() for key, net in states.items()} | {"kimg": self.kimg}, folder / "ckpt.tmp")
        (folder / "ckpt.tmp").replace(folder / "ckpt.pt")
        write_grid(self.average, folder / f"grid_{int(self.kimg):05d}.png")


def augment(images: Tensor) -> Tensor:
    """Jitter brightness, saturation, position and a hole of float32[N, C, R, R], the same for real and generated ones.

    Source: Zhao et al. 2020 (DiffAugment, arXiv 2006.10738).
    """
    count, _, side, _ = images.shape

    def uniform() -> Tensor:
        return torch.rand(count, 1, 1, 1, device=images.device)

    images = images + (uniform() - 0.5) * 0.5
    mean = images.mean(1, keepdim=True)
    images = (images - mean) * (uniform() * 1.2 + 0.4) + mean
    down, right = torch.randint(-6, 7, (2,)).tolist()
    images = functional.pad(images, (8, 8, 8, 8), mode="replicate").roll((down, right), (2, 3))[:, :, 8:-8, 8:-8]
    y, x = torch.randint(0, side, (2,)).tolist()
    kept, reach = torch.ones_like(images[:1]), side // 8
    kept[:, :, max(0, y - reach) : y + reach, max(0, x - reach) : x + reach] = 0
    return images * kept


def _descend(optimizer: torch.optim.Optimizer, loss: Tensor) -> None:
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            if parameter.grad is not None:
                torch.nan_to_num_(parameter.grad, 0.0, 1e5, -1e5)
    optimizer.step()


@torch.no_grad()
def write_grid(generator: Generator, path: Path, *, rows: int = 6, columns: int = 10) -> None:
    """Draw seeds 0, 1, ... at psi 0.7 into one image file."""
    device = generator.mapping.w_avg.device
    w = generator.mapping(seed_latents(range(rows * columns)).to(device))
    w = generator.mapping.w_avg + 0.7 * (w - generator.mapping.w_avg)
    codes = w[:, None].expand(-1, generator.synthesis.layer_count, -1)
    images = torch.cat([synthesize(generator, part, "const") for part in codes.split(20)])
    pixels = (images * 127.5 + 128).clamp(0, 255).to(torch.uint8).permute(0, 2, 3, 1).cpu().numpy()
    side = pixels.shape[1]
    tiles = pixels.reshape(rows, columns, side, side, 3).transpose(0, 2, 1, 3, 4)
    Image.fromarray(np.ascontiguousarray(tiles).reshape(rows * side, columns * side, 3)).save(path)


def parse_arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="raw uint8 RGB images of 64 px")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--init", type=Path, help="checkpoint to start from")
    parser.add_argument("--resume", action="store_true", help="with --init: go on where that training stopped")
    parser.add_argument("--freeze-mapping", action="store_true", help="keep the w space, so that codes are shared")
    parser.add_argument("--augment", action="store_true", help="for few images")
    parser.add_argument("--minutes", type=float, default=70)
    parser.add_argument("--save-minutes", type=float, default=5)
    parser.add_argument("--noise-after", type=float, default=0, help="kimg before which noise only hinders the shapes")
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--lr", type=float, default=0.0025)
    parser.add_argument("--gamma", type=float, default=0.4, help="weight of R1")
    parser.add_argument("--ema-kimg", type=float, default=8, help="half-life of the running average")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args()


def main() -> None:
    """Train until the time is over."""
    arguments = parse_arguments()
    arguments.out.mkdir(parents=True, exist_ok=True)
    trainer = Trainer(arguments)
    start = saved = time.monotonic()
    index = 0
    while time.monotonic() - start < arguments.minutes * 60:
        losses = trainer.step(index)
        index += 1
        if index % LOG_INTERVAL == 0:
            minutes = (time.monotonic() - start) / 60
            log(arguments.out / "log.jsonl", {"kimg": trainer.kimg, "minutes": minutes} | losses)
        if time.monotonic() - saved > arguments.save_minutes * 60:
            trainer.save(arguments.out)
            saved = time.monotonic()
    trainer.save(arguments.out)


def log(path: Path, row: dict[str, float]) -> None:
    """Append one line to a log and print it."""
    line = json.dumps({key: round(value, 4) for key, value in row.items()})
    with path.open("a", encoding="utf-8") as file:
        file.write(line + "\n")
    print(line, flush=True)


if __name__ == "__main__":
    main()
