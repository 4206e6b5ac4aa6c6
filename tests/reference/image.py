"""Records images decoded and resized by Pillow and torch-like numpy, and compares at large.

    image.py golden                    write tests/data/image
    image.py compare PROGRAM [COUNT]   random sizes through PROGRAM (image_dump) and Pillow

Needs: pillow 12.3.0, numpy. The pictures are drawn here from a seed. Pillow 13 resizes pictures more than
about twice as tall as wide in the other order of passes (12: more than 100 times); the policies were trained with 11,
horizontal pass first.
"""
import pathlib
import struct
import subprocess
import sys
import zlib

import numpy as np
from PIL import Image

DATA = pathlib.Path(__file__).resolve().parent.parent / "data" / "image"
RULES = ["pillow_antialias", "torch_bilinear", "bicubic"]   # in the order of ResizeRule


def picture(seed, width, height):
    """Noise over gradients, from a 32-bit linear congruential generator that the C++ test repeats."""
    state = (seed * 2654435761 + 12345) & 0xffffffff
    n = width * height * 3
    # x[k+1] = a x[k] + c has a closed form mod 2**32; numpy computes it by doubling.
    a, c = 1664525, 1013904223
    values = np.empty(n, np.uint64)
    have, values[0] = 1, (a * state + c) & 0xffffffff
    mul, add = a, c
    while have < n:
        take = min(have, n - have)
        values[have:have + take] = (values[:take] * np.uint64(mul) + np.uint64(add)) & np.uint64(0xffffffff)
        mul, add = (mul * mul) & 0xffffffff, (add * mul + add) & 0xffffffff
        have += take
    noise = (values >> np.uint64(24)).astype(np.uint32).reshape(height, width, 3)
    y, x, ch = np.meshgrid(np.arange(height), np.arange(width), np.arange(3), indexing="ij")
    smooth = (x * 5 + y * 3 + ch * 40) & 255
    return np.where((x // 16 + y // 16) % 3 == 0, noise, smooth).astype(np.uint8)


def geometry(w, h, width, height):
    ratio = max(w / width, h / height)
    rw, rh = int(w / ratio), int(h / ratio)
    return rw, rh, int((width - rw) / 2), int((height - rh) / 2)


def pillow(image, width, height, method):
    h, w, _ = image.shape
    if (w, h) == (width, height):
        return image
    rw, rh, left, top = geometry(w, h, width, height)
    canvas = np.zeros((height, width, 3), np.uint8)
    canvas[top:top + rh, left:left + rw] = np.asarray(Image.fromarray(image).resize((rw, rh), resample=method))
    return canvas


def torch_bilinear(image, width, height):
    """F.interpolate(mode="bilinear", align_corners=False) of float images in 0…1, in float64; [h, w, 3]."""
    h, w, _ = image.shape
    rw, rh, left, top = geometry(w, h, width, height)
    unit = image.astype(np.float64) / 255

    def axis(src, dst):
        scale = np.float32(src) / np.float32(dst)
        at = np.maximum(scale * (np.arange(dst, dtype=np.float32) + np.float32(0.5)) - np.float32(0.5), np.float32(0))
        lo = np.minimum(at.astype(np.int64), src - 1)
        return lo, np.minimum(lo + 1, src - 1), (at - lo).astype(np.float64)

    y0, y1, ty = axis(h, rh)
    x0, x1, tx = axis(w, rw)
    tx, ty = tx[None, :, None], ty[:, None, None]
    rows = lambda y: unit[y][:, x0] * (1 - tx) + unit[y][:, x1] * tx
    canvas = np.zeros((height, width, 3))
    canvas[top:top + rh, left:left + rw] = rows(y0) * (1 - ty) + rows(y1) * ty
    return canvas


def expected(image, width, height, rule):
    if rule == "torch_bilinear":
        return torch_bilinear(image, width, height)
    return pillow(image, width, height, Image.BILINEAR if rule == "pillow_antialias" else Image.BICUBIC)


SIZES = [(640, 480, 224, 224), (480, 640, 224, 224), (224, 224, 224, 224), (256, 256, 224, 224), (1280, 720, 224, 224),
         (100, 37, 224, 224), (1, 1, 224, 224), (223, 224, 224, 224), (225, 224, 224, 224), (30, 500, 224, 224),
         (640, 480, 512, 384), (17, 13, 31, 7), (848, 480, 224, 224), (320, 240, 224, 224), (1920, 1080, 224, 224)]


def golden():
    DATA.mkdir(parents=True, exist_ok=True)
    lines = []
    for i, (w, h, width, height) in enumerate(SIZES):
        image = picture(i, w, h)
        for rule in RULES:
            out = expected(image, width, height, rule)
            if rule == "torch_bilinear":   # floats: a few samples instead of a digest
                rng = np.random.default_rng(i)
                at = [(rng.integers(height), rng.integers(width), rng.integers(3)) for _ in range(6)]
                at.append((height // 2, width // 2, 1))
                told = " ".join(f"{y}:{x}:{c}:{out[y, x, c]:.9f}" for y, x, c in at)
            else:
                told = f"{zlib.crc32(out.tobytes()):08x}"
            lines.append(f"{i} {w} {h} {width} {height} {rule} {told}")
    (DATA / "resize.txt").write_text("\n".join(lines) + "\n")

    image = Image.fromarray(picture(99, 37, 23))
    image.save(DATA / "rgb.png")
    image.convert("L").save(DATA / "grey.png")
    image.convert("P", palette=Image.ADAPTIVE, colors=16).save(DATA / "palette.png")
    image.convert("1").save(DATA / "bilevel.png")
    rgba = image.convert("RGBA")
    rgba.putalpha(image.convert("L"))
    rgba.save(DATA / "alpha.png")
    image.save(DATA / "q90.jpg", quality=90)
    image.save(DATA / "progressive.jpg", quality=75, progressive=True)
    image.convert("L").save(DATA / "grey.jpg")
    image.save(DATA / "444.jpg", quality=95, subsampling=0)
    names = sorted(p.name for p in DATA.iterdir() if p.suffix in (".png", ".jpg"))
    (DATA / "decode.txt").write_text("".join(
        f"{n} {im.width} {im.height} {zlib.crc32(im.tobytes()):08x}\n"
        for n in names for im in [Image.open(DATA / n).convert("RGB")]))


def compare(program, count):
    rng = np.random.default_rng(5)
    bad = 0
    worst = 0.0
    process = subprocess.Popen([program], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    for i in range(count):
        top = int(rng.choice([40, 300, 900]))
        w, h = (int(v) for v in rng.integers(1, top, 2))
        width, height = (224, 224) if i % 2 else (int(v) for v in rng.integers(8, 400, 2))
        rule = RULES[i % 3]
        rw, rh, _, _ = geometry(w, h, width, height)
        if rw < 1 or rh < 1:
            continue
        image = rng.integers(0, 256, (h, w, 3), np.uint8) if i % 5 else picture(i, w, h)
        process.stdin.write(struct.pack("<5i", w, h, width, height, RULES.index(rule)) + image.tobytes())
        process.stdin.flush()
        size = width * height * 3
        u8 = np.frombuffer(process.stdout.read(size), np.uint8).reshape(height, width, 3)
        f32 = np.frombuffer(process.stdout.read(size * 4), np.float32).reshape(3, height, width).transpose(1, 2, 0)
        want = expected(image, width, height, rule)
        if rule == "torch_bilinear":
            error = np.abs(want * 2 - 1 - f32)
            worst = max(worst, error.max())
            ok = error.max() < 2e-6
        else:
            ok = np.array_equal(u8, want) and np.array_equal(f32, want.astype(np.float32) / np.float32(255) * np.float32(2) - np.float32(1))
        if not ok:
            bad += 1
            print("differs:", w, h, width, height, rule)
    process.stdin.close()
    print(f"{count - bad} of {count} equal; torch_bilinear within {worst:.2e}")
    return bad


if __name__ == "__main__":
    if sys.argv[1:] == ["golden"]:
        golden()
    elif sys.argv[1:2] == ["compare"]:
        sys.exit(compare(sys.argv[2], int(sys.argv[3]) if len(sys.argv) > 3 else 2000) != 0)
    else:
        sys.exit(__doc__)
