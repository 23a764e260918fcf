"""Denoise a photograph with 2-D neighborhood attention.

Non-local means (Buades, Coll and Morel, 2005) replaces every pixel by a weighted mean of the pixels in a window around
it. A neighbor counts as much as the patch around it looks like the patch around the pixel itself:

    out(i) = sum_j w(i, j) pixel(j) / sum_j w(i, j),   w(i, j) = exp(-|patch(i) - patch(j)|^2 / h^2)

This is softmax attention over a window. With the features of a patch, f, arranged as

    query(i) = [f(i), 1],   key(j) = [2 f(j), -|f(j)|^2],   value(j) = pixel(j)

the score query(i).key(j) is 2 f(i).f(j) - |f(j)|^2 = |f(i)|^2 - |f(i) - f(j)|^2. The first term is the same for every
neighbor of i, so softmax cancels it, and with `scale = 1 / h^2` the attention weights are the weights above.

Run `python examples/denoise.py`, or with `--help` for the options.
"""

import argparse
import math
import time
from collections.abc import Callable
from pathlib import Path

import matplotlib
import numpy as np
import torch
import vicinal
from skimage import data
from skimage.restoration import denoise_nl_means

AttentionInputs = tuple[torch.Tensor, torch.Tensor, torch.Tensor]


def patch_features(image: torch.Tensor, patch: int) -> torch.Tensor:
    """Features [X, Y, 3 * patch * patch] of the patch around each pixel of an image [X, Y, 3].

    The squared distance of two feature vectors is the mean squared difference of the patches, the middle of a patch
    weighted more than its rim by a Gaussian. Subtracting the mean color changes no distance, but keeps the scores
    small, so that float32 does not lose the distance as the difference of two large numbers.
    """
    size_x, size_y, channels = image.shape
    centered = (image - image.mean(dim=(0, 1))).permute(2, 0, 1)
    padded = torch.nn.functional.pad(centered, (patch // 2,) * 4, mode="reflect")
    patches = padded.unfold(1, patch, 1).unfold(2, patch, 1)  # [3, X, Y, patch, patch], a view

    offset = torch.arange(patch, device=image.device) - patch // 2
    tap = torch.exp(-0.5 * (offset / ((patch - 1) / 4)) ** 2)
    weight = torch.outer(tap, tap)
    weight = weight / (channels * weight.sum())
    return (patches * weight.sqrt()).permute(1, 2, 0, 3, 4).reshape(size_x, size_y, -1)


def attention_inputs(image: torch.Tensor, patch: int) -> AttentionInputs:
    """Query, key and value of non-local means, heads-last: [batch = 1, X, Y, heads = 1, dim]."""
    feature = patch_features(image, patch)
    ones = feature.new_ones(*feature.shape[:-1], 1)
    norm = feature.square().sum(-1, keepdim=True)
    query = torch.cat([feature, ones], dim=-1)
    key = torch.cat([2 * feature, -norm], dim=-1)
    return query[None, :, :, None], key[None, :, :, None], image[None, :, :, None].contiguous()


def non_local_means(inputs: AttentionInputs, window: int, h: float, sigma: float) -> torch.Tensor:
    """The denoised image [X, Y, 3]."""
    query, key, value = inputs  # the value has 3 channels, the query and the key many more: dim and dim_v may differ
    output, logsumexp = vicinal.na2d(query, key, value, kernel_size=window, scale=1 / h**2, return_lse=True)

    # A pixel matches itself perfectly, noise and all, while the noise alone puts 2 sigma^2 between it and any other
    # pixel. That would favor the one value that we know to be noisy, so the pixel gets the weight of a neighbor whose
    # patch would be the same but for the noise. The logsumexp of the scores tells how much weight it had.
    own_weight = torch.exp((query * key).sum(-1) / h**2 - logsumexp)[..., None]
    excess = (1 - math.exp(-2 * sigma**2 / h**2)) * own_weight
    return ((output - excess * value) / (1 - excess))[0, :, :, 0]


def dense_attention_mask(size_x: int, size_y: int, window: int) -> torch.Tensor:
    """[X * Y, X * Y], true where the pixel of a row attends to the pixel of a column: windows never leave the image."""

    def along(extent: int) -> torch.Tensor:
        position = torch.arange(extent)
        start = (position[:, None] - window // 2).clamp(0, extent - window)
        return (position >= start) & (position < start + window)

    both = along(size_x)[:, None, :, None] & along(size_y)[None, :, None, :]
    return both.reshape(size_x * size_y, size_x * size_y)


def dense_attention(inputs: AttentionInputs, mask: torch.Tensor, h: float) -> torch.Tensor:
    """What PyTorch offers for the same result: attention of all pixels to all pixels, most of them masked."""
    query, key, value = (tensor.flatten(1, 2).transpose(1, 2) for tensor in inputs)  # [1, 1, X * Y, dim]
    output = torch.nn.functional.scaled_dot_product_attention(query, key, value, attn_mask=mask, scale=1 / h**2)
    return output.transpose(1, 2).reshape(inputs[2].shape)


def best_time(function: Callable[[], object], repeats: int = 3) -> float:
    """Seconds of the fastest of a few calls."""

    def once() -> float:
        begin = time.perf_counter()
        function()
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        return time.perf_counter() - begin

    return min(once() for _ in range(repeats))


def compare_with_dense(noisy: torch.Tensor, args: argparse.Namespace) -> None:
    """Checks our attention against PyTorch's on a crop that dense attention can do, and prints both times."""
    crop = min(args.size, max(64, args.window))
    inputs = attention_inputs(noisy[:crop, :crop], args.patch)
    mask = dense_attention_mask(crop, crop, args.window).to(noisy.device)

    def ours() -> torch.Tensor:
        return vicinal.na2d(*inputs, kernel_size=args.window, scale=1 / args.h**2)

    def theirs() -> torch.Tensor:
        return dense_attention(inputs, mask, args.h)

    torch.testing.assert_close(ours(), theirs(), rtol=0, atol=1e-4)
    difference = (ours() - theirs()).abs().max().item()
    times = best_time(ours), best_time(theirs)
    print(f"The attention of a {crop} x {crop} crop, in vicinal and as masked dense attention in PyTorch:")
    print(f"{1e3 * times[0]:.1f} ms and {1e3 * times[1]:.1f} ms, {times[1] / times[0]:.1f} times as long; ", end="")
    print(f"largest difference {difference:.0e}\n")


def choose_device(args: argparse.Namespace) -> torch.device:
    """The GPU where there is one and the library has a kernel for it; the planner says so when it has none."""
    if torch.cuda.is_available():
        probe = torch.zeros(1, args.window, args.window, 1, 3 * args.patch**2 + 1, device="cuda")
        try:
            vicinal.na2d(probe, probe, probe[..., :3], kernel_size=args.window)
            return torch.device("cuda")
        except NotImplementedError as reason:
            print(f"The GPU is not used: {reason}")
    return torch.device("cpu")


def psnr(clean: np.ndarray, image: np.ndarray) -> float:
    """Peak signal-to-noise ratio in dB of an image with values in [0, 1]."""
    return -10 * math.log10(np.mean((clean.astype(np.float64) - image) ** 2))


def print_row(name: str, clean: np.ndarray, noisy: np.ndarray, method: Callable[[], np.ndarray]) -> np.ndarray:
    """Runs a method of denoising and prints how well and how quickly it does."""
    print(f"{name:24}", end="", flush=True)
    begin = time.perf_counter()
    image = method()
    seconds = time.perf_counter() - begin
    gain = psnr(clean, image) - psnr(clean, noisy)
    print(f"  {psnr(clean, image):5.2f} dB  {gain:+6.2f} dB  {seconds:7.2f} s")
    return image


def save_figure(images: dict[str, np.ndarray], path: Path) -> None:
    """The images side by side, and below each a part of it, enlarged."""
    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(2, len(images), figsize=(3.2 * len(images), 6.7), layout="constrained")
    for (top, bottom), (title, image) in zip(axes.T, images.items(), strict=True):
        size = len(image)
        detail = image[size // 8 : size // 8 + size // 4, 5 * size // 16 : 9 * size // 16]
        for axis, shown in ((top, image), (bottom, detail)):
            axis.imshow(np.clip(shown, 0, 1), interpolation="nearest")
            axis.set_axis_off()
        top.set_title(title)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=160)
    plt.close(figure)


def parse_arguments(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Denoise a photograph with 2-D neighborhood attention.")
    parser.add_argument("--size", type=int, default=512, help="use SIZE x SIZE pixels around the face (512: all)")
    parser.add_argument("--sigma", type=float, default=0.1, help="standard deviation of the noise, white is 1 (0.1)")
    parser.add_argument("--window", type=int, default=21, help="pixels along each side of the window (21)")
    parser.add_argument("--patch", type=int, default=7, help="pixels along each side of a patch, odd (7)")
    parser.add_argument("--h", type=float, help="how different patches may be (0.75 sigma)")
    parser.add_argument("--threads", type=int, help="CPU threads (as many as PyTorch uses)")
    parser.add_argument(
        "--output", type=Path, default=Path("out/denoised.png"), help="the picture to write (out/denoised.png)"
    )
    args = parser.parse_args(arguments)
    if args.patch < 3 or args.patch % 2 == 0:
        parser.error(f"--patch is {args.patch}; allowed: odd numbers from 3")
    if not args.window <= args.size <= 512:
        parser.error(f"--size is {args.size}; allowed: from the window, {args.window}, to 512")
    if args.h is None:
        args.h = 0.75 * args.sigma
    return args


def main(arguments: list[str] | None = None) -> None:
    args = parse_arguments(arguments)
    if args.threads:
        torch.set_num_threads(args.threads)

    left = (512 - args.size) // 2
    photograph = data.astronaut()[: args.size, left : left + args.size]  # 512 x 512, ships with scikit-image
    clean = (photograph / 255).astype(np.float32)
    noise = np.random.default_rng(seed=0).normal(0, args.sigma, clean.shape)
    noisy = (clean + noise).astype(np.float32)

    device = choose_device(args)
    print(
        f"{args.size} x {args.size} photograph, noise {args.sigma}, window {args.window} x {args.window}, "
        f"patch {args.patch} x {args.patch}, h {args.h:.4g}\n"
    )
    compare_with_dense(torch.from_numpy(noisy).to(device), args)

    def ours() -> np.ndarray:
        inputs = attention_inputs(torch.from_numpy(noisy).to(device), args.patch)
        return non_local_means(inputs, args.window, args.h, args.sigma).cpu().numpy()

    def scikit_image(fast_mode: bool) -> np.ndarray:
        settings = {"patch_size": args.patch, "patch_distance": args.window // 2, "h": args.h, "sigma": args.sigma}
        return denoise_nl_means(noisy, **settings, fast_mode=fast_mode, channel_axis=-1)

    print(f"{'':24}      PSNR       gain       time")
    print(f"{'noisy':24}  {psnr(clean, noisy):5.2f} dB")
    denoised = print_row("vicinal", clean, noisy, ours)
    print_row("scikit-image, fast mode", clean, noisy, lambda: scikit_image(fast_mode=True))
    print_row("scikit-image, classic", clean, noisy, lambda: scikit_image(fast_mode=False))

    titles = "photograph", f"noisy, {psnr(clean, noisy):.2f} dB", f"denoised, {psnr(clean, denoised):.2f} dB"
    save_figure(dict(zip(titles, (clean, noisy, denoised), strict=True)), args.output)
    print(f"\nThe picture is in {args.output}.")


if __name__ == "__main__":
    main()
