"""Train a small classifier of handwritten digits with local and dilated neighborhood attention.

The model is a small DiNAT (Hassani and Shi, 2022): a pyramid in two stages. In each, a block whose tokens attend to the
tokens next to them is followed by one whose tokens attend to as many, spread over the whole picture. The digits are
those that ship with scikit-learn, 8 x 8 pixels, enlarged to 32 x 32.

Run `python examples/digits.py`, or with `--help` for the options.
"""

import argparse
import time
from dataclasses import dataclass

import torch
from sklearn.datasets import load_digits
from torch import nn
from vicinal import NeighborhoodAttention2D

HEAD_DIM = 32
TEST_IMAGES = 297  # of 1797
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


@dataclass
class Digits:
    """Pictures [count, 1, 32, 32] with a mean of 0 and a variance of 1, and the digits on them, [count]."""

    images: torch.Tensor
    labels: torch.Tensor

    def to(self, device: str) -> "Digits":
        return Digits(self.images.to(device), self.labels.to(device))


def digits() -> tuple[Digits, Digits]:
    """1500 to train with and 297 to test with, the same ones in every call."""
    bunch = load_digits()
    small = torch.from_numpy(bunch.images).float()[:, None]
    images = nn.functional.interpolate(small, size=(32, 32), mode="bilinear", align_corners=False)
    images = (images - images.mean()) / images.std()
    labels = torch.from_numpy(bunch.target).long()
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(0))
    train, test = order[TEST_IMAGES:], order[:TEST_IMAGES]
    return Digits(images[train], labels[train]), Digits(images[test], labels[test])


class Block(nn.Module):
    """Attention in a neighborhood, then an MLP for each token: [batch, X, Y, channels] to the same."""

    def __init__(self, channels: int, window: int, dilation: int) -> None:
        super().__init__()
        self.attention = nn.Sequential(
            nn.LayerNorm(channels),
            NeighborhoodAttention2D(channels, channels // HEAD_DIM, kernel_size=window, dilation=dilation),
        )
        self.mlp = nn.Sequential(
            nn.LayerNorm(channels), nn.Linear(channels, 2 * channels), nn.GELU(), nn.Linear(2 * channels, channels)
        )

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        tokens = tokens + self.attention(tokens)
        return tokens + self.mlp(tokens)


class Downsample(nn.Module):
    """Half the extents: [batch, X, Y, channels] to [batch, X / 2, Y / 2, more channels]."""

    def __init__(self, channels: int, more_channels: int) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(channels, more_channels, kernel_size=3, stride=2, padding=1)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        return self.convolution(tokens.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)


class Classifier(nn.Module):
    """Images [batch, 1, 32, 32] to logits [batch, 10]; a hundred thousand parameters."""

    def __init__(self) -> None:
        super().__init__()
        self.tokens = Downsample(1, HEAD_DIM)
        self.position = nn.Parameter(0.02 * torch.randn(16, 16, HEAD_DIM))
        self.stages = nn.Sequential(
            Block(HEAD_DIM, window=5, dilation=1),  # of 16 x 16 tokens
            Block(HEAD_DIM, window=5, dilation=3),
            Downsample(HEAD_DIM, 2 * HEAD_DIM),
            Block(2 * HEAD_DIM, window=3, dilation=1),  # of 8 x 8 tokens
            Block(2 * HEAD_DIM, window=3, dilation=2),
        )
        features = 4 * 2 * HEAD_DIM  # the mean token of each quarter of the picture
        self.head = nn.Sequential(nn.LayerNorm(features), nn.Linear(features, 10))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        tokens = self.tokens(images.permute(0, 2, 3, 1)) + self.position
        quarters = self.stages(tokens).unflatten(2, (2, 4)).unflatten(1, (2, 4)).mean(dim=(2, 4))
        return self.head(quarters.flatten(1))


@dataclass
class Training:
    losses: list[float]
    """Of each step, on its batch."""
    accuracy: float
    """The share of the pictures to test with that is recognized at the end."""


def train(
    device: str = "cpu",
    dtype: torch.dtype = torch.float32,
    steps: int = 200,
    seed: int = 0,
    batch: int = 50,
    learning_rate: float = 1e-3,
) -> Training:
    """Trains a classifier from the start.

    Args:
        device: "cpu", "cuda" or "cuda:1", say.
        dtype: of the products, by autocast where it is not float32; parameters and their sums stay in float32.
        steps, batch, learning_rate: as many batches of so many pictures, and how far AdamW goes with each.
        seed: of the first parameters and of the order of the pictures, which are the same on every device.
    """
    train_set, test_set = (part.to(device) for part in digits())
    torch.manual_seed(seed)
    model = Classifier().to(device)
    optimizer = torch.optim.AdamW(model.parameters(), learning_rate)
    # Gradients of float16 are kept from vanishing; a scale that is never raised skips no step.
    kind = torch.device(device).type
    scaler = torch.amp.GradScaler(kind, init_scale=256, growth_interval=1 << 30, enabled=dtype is torch.float16)
    autocast = torch.autocast(kind, dtype, enabled=dtype is not torch.float32)
    order = torch.Generator().manual_seed(seed)
    losses = []
    for _ in range(steps):
        chosen = torch.randint(len(train_set.labels), (batch,), generator=order).to(device)
        with autocast:
            loss = nn.functional.cross_entropy(model(train_set.images[chosen]), train_set.labels[chosen])
        optimizer.zero_grad()
        scaler.scale(loss).backward()
        scaler.step(optimizer)
        scaler.update()
        losses.append(loss.detach())
    with torch.no_grad(), autocast:
        recognized = model(test_set.images).argmax(-1) == test_set.labels
    return Training(torch.stack(losses).tolist(), recognized.float().mean().item())


def parse_arguments(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Train a small classifier of handwritten digits.")
    parser.add_argument("--device", default="cpu", help="cpu, cuda or cuda:N (cpu)")
    parser.add_argument("--dtype", choices=DTYPES, help="of the products (fp32 on a CPU, bf16 elsewhere)")
    parser.add_argument("--steps", type=int, default=200, help="batches of 50 pictures to train with (200)")
    parser.add_argument("--seed", type=int, default=0, help="of the first parameters and of the batches (0)")
    args = parser.parse_args(arguments)
    if args.steps < 1:
        parser.error(f"--steps is {args.steps}; allowed: from 1")
    if args.dtype is None:
        args.dtype = "fp32" if args.device == "cpu" else "bf16"
    return args


def main(arguments: list[str] | None = None) -> None:
    args = parse_arguments(arguments)
    parameters = sum(parameter.numel() for parameter in Classifier().parameters())
    print(f"{parameters} parameters, {args.steps} steps on {args.device} in {args.dtype}\n")

    begin = time.perf_counter()
    training = train(args.device, DTYPES[args.dtype], args.steps, args.seed)
    seconds = time.perf_counter() - begin

    print("steps       mean loss")
    for first in range(0, args.steps, 20):
        part = training.losses[first : first + 20]
        print(f"{first + 1:3} to {first + len(part):3}  {sum(part) / len(part):9.3f}")
    print(f"\n{training.accuracy:.1%} of {TEST_IMAGES} other pictures recognized; {seconds:.1f} s")


if __name__ == "__main__":
    main()
