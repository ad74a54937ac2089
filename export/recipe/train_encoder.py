"""Train the encoder for a trained generator.

python train_encoder.py --generator runs/base/ckpt.pt --data base.rgb --test heldout.rgb --out runs/encoder --minutes 20

Half of each batch are real images, reconstructed through the frozen generator; half are generated ones, whose code
is known. Loss: squared error at three scales, edges, distance to the known codes and a pull toward the mean code, after
Richardson et al. 2021 (pSp) without its face identity.
"""

import argparse
import time
from pathlib import Path

import torch
from demo import ENCODER, GENERATOR, draw, read_images, synthesize
from torch import Tensor
from torch.nn import functional
from train import LOG_INTERVAL, log

from stylewire_export.networks.encoder import make_encoder
from stylewire_export.networks.generator import Generator

KNOWN_WEIGHT, PULL_WEIGHT = 0.5, 0.002
TEST_COUNT = 64


class Trainer:
    """The frozen generator, the encoder and one training step.

    Args:
        arguments: of the command line.
    """

    def __init__(self, arguments: argparse.Namespace) -> None:
        self.arguments, self.device = arguments, torch.device(arguments.device)
        torch.manual_seed(0)
        self.generator = Generator(GENERATOR).to(self.device).eval().requires_grad_(requires_grad=False)
        state = torch.load(arguments.generator, map_location=self.device, weights_only=True)
        self.generator.load_state_dict(state["ema"])
        self.encoder = make_encoder(ENCODER).to(self.device).train()
        if arguments.init:
            state = torch.load(arguments.init, map_location=self.device, weights_only=True)
            self.encoder.load_state_dict(state["encoder"])
        self.optimizer = torch.optim.Adam(self.encoder.parameters(), lr=arguments.lr, betas=(0.9, 0.99))
        self.images = read_images(arguments.data)
        held_out = read_images(arguments.test)[:TEST_COUNT].to(self.device)
        self.held_out = held_out.permute(0, 3, 1, 2).float() / 127.5 - 1  # [N, 3, 64, 64]

    def step(self, lr: float) -> float:
        """Train on one batch, and return the loss."""
        half, mean = self.arguments.batch // 2, self.generator.mapping.w_avg
        real = draw(self.images, half, self.device)
        codes = self._codes(half)
        fake = synthesize(self.generator, codes, "const")
        found = self.encoder(torch.cat([real, fake])) + mean
        loss = image_loss(synthesize(self.generator, found[:half], "const"), real)
        loss = loss + KNOWN_WEIGHT * functional.smooth_l1_loss(found[half:], codes)
        loss = loss + PULL_WEIGHT * (found[:half] - mean).square().mean()
        for group in self.optimizer.param_groups:
            group["lr"] = lr
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.encoder.parameters(), 5.0)
        self.optimizer.step()
        return float(loss.detach())

    @torch.no_grad()
    def _codes(self, count: int) -> Tensor:
        """Draw codes float32[N, L, D] of one or two w, half of each kind."""
        layer_count = self.generator.synthesis.layer_count
        first, second = (
            self.generator.mapping(torch.randn(count, GENERATOR.z_dim, device=self.device)) for _ in range(2)
        )
        change = torch.randint(1, 2 * layer_count, (count, 1), device=self.device)
        changed = torch.arange(layer_count, device=self.device) >= change  # [N, L]
        return torch.where(changed[:, :, None], second[:, None], first[:, None])  # [N, L, D]

    @torch.no_grad()
    def measure(self) -> float:
        """Measure the mean PSNR of held-out reconstructions, in dB."""
        self.encoder.eval()
        codes = self.encoder(self.held_out) + self.generator.mapping.w_avg
        error = synthesize(self.generator, codes, "const").clamp(-1, 1) - self.held_out
        self.encoder.train()
        return float((10 * torch.log10(4 / error.square().mean((1, 2, 3)))).mean())

    def save(self, folder: Path) -> None:
        """Write ``ckpt.pt``."""
        torch.save({"encoder": self.encoder.state_dict()}, folder / "ckpt.tmp")
        (folder / "ckpt.tmp").replace(folder / "ckpt.pt")


def image_loss(got: Tensor, wanted: Tensor) -> Tensor:
    """Return the squared error at three scales plus the absolute error of the edges, of float32[N, C, R, R]."""
    loss = functional.mse_loss(got, wanted)
    for axis in (2, 3):
        loss = loss + functional.l1_loss(got.diff(dim=axis), wanted.diff(dim=axis))
    for scale in (2, 4):
        loss = loss + functional.mse_loss(functional.avg_pool2d(got, scale), functional.avg_pool2d(wanted, scale))
    return loss


def parse_arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--generator", type=Path, required=True, help="checkpoint of train.py")
    parser.add_argument("--data", type=Path, required=True, help="raw uint8 RGB images of 64 px")
    parser.add_argument("--test", type=Path, required=True, help="raw images that no training sees")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--init", type=Path, help="checkpoint of this script to start from")
    parser.add_argument("--minutes", type=float, default=20)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--lr", type=float, default=1e-3)
    parser.add_argument("--device", default="cpu")
    return parser.parse_args()


def main() -> None:
    """Train until the time is over; the learning rate falls to zero by then."""
    arguments = parse_arguments()
    arguments.out.mkdir(parents=True, exist_ok=True)
    trainer = Trainer(arguments)
    start, index, share = time.monotonic(), 0, 0.0
    while share < 1:
        loss = trainer.step(arguments.lr * min(1, index / 50) * (1 - share) ** 0.7 + 1e-5)
        index += 1
        minutes = (time.monotonic() - start) / 60
        share = minutes / arguments.minutes
        if index % LOG_INTERVAL == 0:
            row = {"kimg": index * arguments.batch / 1000, "minutes": minutes, "loss": loss}
            log(arguments.out / "log.jsonl", row | {"heldout_psnr_db": trainer.measure()})
        if index % 200 == 0:
            trainer.save(arguments.out)
    trainer.save(arguments.out)


if __name__ == "__main__":
    main()
