"""Writes the small test pictures of tests/golden/images and what OpenCV makes of them.

Made with opencv-python-headless 5.0.0.93 (x86-64 wheel, with IPP) and numpy 2.4.6:  python3 make_image_vectors.py
All pictures are synthetic: noise, gradients, bars, a fractal, drawn text. No photographs.

  NAME.EXT + NAME.EXT.expected.ppm   a file to decode, and cv2.imdecode(IMREAD_COLOR) of it as binary PPM. cv2 cannot
                                     read TGA, so those expectations are the pixels the file was made from.
  resize_NAME.source.ppm + resize_NAME.WxH.ppm   cv2.resize(source, (W, H), interpolation=INTER_CUBIC).
Below four pixels a side this wheel's cv2 leaves IPP for 11-bit fixed point, one level off in 5-9% of values.
Expectations of those (tiny_*) are the convention computed in float64 here; the script checks that cv2 is within one
level of them.
"""
import os
import struct
import sys
import zlib

import cv2
import numpy as np

OUT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "images")
rng = np.random.default_rng(20240607)


def write(name, data):
    with open(os.path.join(OUT, name), "wb") as f:
        f.write(data)


def ppm(rgb):
    return b"P6\n%d %d\n255\n" % (rgb.shape[1], rgb.shape[0]) + np.ascontiguousarray(rgb, np.uint8).tobytes()


def cv2_decode(data):
    image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    assert image is not None
    return image[..., ::-1]


def save(name, data, expected=None):
    """Stores a file and its expected pixels; `expected` only where cv2 cannot read the format."""
    write(name, data)
    write(name + ".expected.ppm", ppm(cv2_decode(data) if expected is None else expected))


# ---- pictures ------------------------------------------------------------------------------------------------------
def gradient(h, w):
    y, x = np.mgrid[0:h, 0:w]
    return np.stack([x * 255 // max(w - 1, 1), y * 255 // max(h - 1, 1), (x + 2 * y) * 3 % 256], -1).astype(np.uint8)


def text(h, w):
    image = np.full((h, w, 3), (230, 225, 210), np.uint8)
    cv2.putText(image, "IQA 0.73", (2, h * 2 // 3), cv2.FONT_HERSHEY_SIMPLEX, h / 60, (20, 30, 140), 2, cv2.LINE_AA)
    return image


def fractal(h, w):
    y, x = np.mgrid[0:h, 0:w]
    c = (x / w * 3 - 2.2) + 1j * (y / h * 2.4 - 1.2)
    z = np.zeros_like(c)
    n = np.zeros(c.shape, int)
    for _ in range(40):
        inside = abs(z) < 2
        z[inside] = z[inside] ** 2 + c[inside]
        n += inside
    return np.stack([n * 6, (n * n) % 256, 255 - n * 5], -1).astype(np.uint8)


def noise(h, w, channels=3):
    return rng.integers(0, 256, (h, w, channels)).astype(np.uint8)


# ---- PNG by hand: cv2 writes neither interlaced nor palette files with transparency ---------------------------
def chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def pack_rows(values, depth):
    """Filter type 0 in front of each row; values (h, w, channels) as integers of `depth` bits."""
    out = b""
    for row in values:
        if depth == 16:
            out += b"\0" + row.astype(">u2").tobytes()
        elif depth == 8:
            out += b"\0" + row.astype(np.uint8).tobytes()
        else:
            bits = "".join(format(int(v), "0%db" % depth) for v in row.ravel())
            bits += "0" * (-len(bits) % 8)
            out += b"\0" + bytes(int(bits[i:i + 8], 2) for i in range(0, len(bits), 8))
    return out


def png(values, depth, colour, before=b"", interlaced=False):
    values = values.reshape(values.shape[0], values.shape[1], -1)
    h, w = values.shape[:2]
    if interlaced:
        raw = b""
        passes = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))
        for x0, y0, dx, dy in passes:
            part = values[y0::dy, x0::dx]
            if part.size:
                raw += pack_rows(part, depth)
    else:
        raw = pack_rows(values, depth)
    header = struct.pack(">IIBBBBB", w, h, depth, colour, 0, 0, int(interlaced))
    data = chunk(b"IDAT", zlib.compress(raw, 9))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + before + data + chunk(b"IEND", b"")


def encoded(extension, rgb, *options):
    ok, data = cv2.imencode(extension, rgb[..., ::-1] if rgb.ndim == 3 else rgb, list(options))
    assert ok
    return data.tobytes()


def make_png():
    save("rgb8.png", encoded(".png", fractal(30, 41)))
    save("gray8.png", png(gradient(13, 17)[..., 2], 8, 0))
    save("gray_alpha8.png", png(noise(13, 17, 2), 8, 4))
    save("rgba8.png", png(np.concatenate([gradient(13, 17), noise(13, 17, 1)], -1), 8, 6))
    save("gray16.png", png(rng.integers(0, 65536, (13, 17)), 16, 0))
    save("rgb16.png", png(rng.integers(0, 65536, (13, 17, 3)), 16, 2))
    save("rgba16.png", png(rng.integers(0, 65536, (7, 9, 4)), 16, 6))
    for depth in (1, 2, 4):
        save("gray%d.png" % depth, png(rng.integers(0, 1 << depth, (11, 13)), depth, 0))
    palette = chunk(b"PLTE", noise(1, 16).tobytes())
    indices = rng.integers(0, 16, (11, 13))
    save("palette8.png", png(indices, 8, 3, palette))
    save("palette4.png", png(indices, 4, 3, palette))
    save("palette_transparent.png", png(indices, 8, 3, palette + chunk(b"tRNS", bytes(range(0, 160, 16)))))
    save("palette_too_short.png", png(rng.integers(0, 32, (11, 13)), 8, 3, palette))
    save("gray_transparent.png", png(gradient(9, 9)[..., 0], 8, 0, chunk(b"tRNS", struct.pack(">H", 127))))
    save("rgb_transparent.png", png(gradient(9, 9), 8, 2, chunk(b"tRNS", struct.pack(">HHH", 127, 127, 3))))
    save("interlaced_rgb8.png", png(fractal(19, 23), 8, 2, interlaced=True))
    save("interlaced_gray16.png", png(rng.integers(0, 65536, (9, 5)), 16, 0, interlaced=True))
    save("interlaced_palette4.png", png(indices, 4, 3, palette, interlaced=True))
    for orientation in range(1, 9):
        block = exif(orientation, little=orientation % 2 == 0)
        save("exif%d.png" % orientation, png(gradient(5, 8), 8, 2, chunk(b"eXIf", block)))


# ---- JPEG ----------------------------------------------------------------------------------------------------------
def exif(orientation, little):
    e = "<" if little else ">"
    entries = struct.pack(e + "HHII", 0x0100, 4, 1, 640) + struct.pack(e + "HHIHH", 0x0112, 3, 1, orientation, 0)
    return (b"II*\0" if little else b"MM\0*") + struct.pack(e + "IH", 8, 2) + entries + struct.pack(e + "I", 0)


def with_exif(jpeg, block, first=b""):
    body = b"Exif\0\0" + block
    return jpeg[:2] + first + b"\xff\xe1" + struct.pack(">H", len(body) + 2) + body + jpeg[2:]


def four_component_jpeg(blocks, adobe):
    """Baseline JPEG of flat 8x8 blocks; blocks (rows, columns, 4) = sample values. cv2 cannot write CMYK."""
    rows, columns = blocks.shape[:2]
    out = b"\xff\xd8"
    if adobe is not None:
        out += b"\xff\xee\0\x0eAdobe\0\x64\0\0\0\0" + bytes([adobe])
    out += b"\xff\xdb\0\x43\0" + bytes([8] * 64)
    out += b"\xff\xc0" + struct.pack(">HBHHB", 20, 8, rows * 8, columns * 8, 4)
    for i in range(4):
        out += bytes([i + 1, 0x11, 0])
    # DC table: sizes 0..8 as codes of 4 bits; AC table: only "end of block", one bit.
    out += b"\xff\xc4" + struct.pack(">HB", 19 + 9, 0x00) + bytes([0, 0, 0, 9] + [0] * 12) + bytes(range(9))
    out += b"\xff\xc4" + struct.pack(">HB", 19 + 1, 0x10) + bytes([1] + [0] * 15) + b"\0"
    out += b"\xff\xda" + struct.pack(">HB", 14, 4) + bytes([1, 0, 2, 0, 3, 0, 4, 0, 0, 63, 0])
    bits, previous = "", [0] * 4
    for row in blocks:
        for block in row:
            for c, value in enumerate(block):
                dc = int(value) - 128
                difference, previous[c] = dc - previous[c], dc
                size = abs(difference).bit_length()
                bits += format(size, "04b")
                if size:
                    bits += format(difference if difference > 0 else difference + (1 << size) - 1, "0%db" % size)
                bits += "0"
    bits += "1" * (-len(bits) % 8)
    data = bytes(int(bits[i:i + 8], 2) for i in range(0, len(bits), 8))
    return out + data.replace(b"\xff", b"\xff\0") + b"\xff\xd9"


def make_jpeg():
    quality = (cv2.IMWRITE_JPEG_QUALITY, 90)
    for name, factor in (("444", 0x111111), ("422", 0x211111), ("420", 0x221111), ("440", 0x121111)):
        save("jpeg_%s.jpg" % name, encoded(".jpg", fractal(61, 83), *quality, cv2.IMWRITE_JPEG_SAMPLING_FACTOR, factor))
    save("jpeg_text.jpg", encoded(".jpg", text(60, 150), *quality))
    save("jpeg_progressive.jpg", encoded(".jpg", fractal(61, 83), *quality, cv2.IMWRITE_JPEG_PROGRESSIVE, 1))
    save("jpeg_restart.jpg", encoded(".jpg", fractal(61, 83), *quality, cv2.IMWRITE_JPEG_RST_INTERVAL, 3))
    save("jpeg_gray.jpg", encoded(".jpg", fractal(61, 83)[..., 0], *quality))
    small = encoded(".jpg", cv2.GaussianBlur(gradient(16, 24), (5, 5), 2), cv2.IMWRITE_JPEG_QUALITY, 97,
                    cv2.IMWRITE_JPEG_SAMPLING_FACTOR, 0x111111)
    for orientation in range(1, 9):
        save("exif%d.jpg" % orientation, with_exif(small, exif(orientation, little=orientation % 2 == 1)))
    blocks = rng.integers(20, 236, (3, 4, 4))
    save("jpeg_cmyk_adobe.jpg", four_component_jpeg(blocks, 0))
    save("jpeg_ycck_adobe.jpg", four_component_jpeg(blocks, 2))
    save("jpeg_cmyk_plain.jpg", four_component_jpeg(blocks, None))


# ---- BMP, PNM, TGA ---------------------------------------------------------------------------------------------------
def bmp(width, height, bits, rows, compression=0, masks=b"", palette=b""):
    offset = 54 + len(masks) + len(palette)
    return (b"BM" + struct.pack("<IHHI", offset + len(rows), 0, 0, offset) +
            struct.pack("<IiiHHIIiiII", 40, width, height, 1, bits, compression, len(rows), 0, 0,
                        len(palette) // 4, 0) +
            masks + palette + rows)


def tga(rgb, kind, bits, body, palette=b"", top_down=False):
    h, w = rgb.shape[:2]
    return struct.pack("<BBBHHBHHHHBB", 3, int(bool(palette)), kind, 0, len(palette) // 3, 24 if palette else 0,
                       0, 0, w, h, bits, 0x20 if top_down else 0) + b"id!" + palette + body


def run_length(pixels):
    """TGA packets of a list of equal-length byte strings: repeats where there are some, else raw packets of one."""
    out, i = b"", 0
    while i < len(pixels):
        n = 1
        while i + n < len(pixels) and n < 128 and pixels[i + n] == pixels[i]:
            n += 1
        out += bytes([0x80 | (n - 1) if n > 1 else 0]) + pixels[i]
        i += n
    return out


def make_others():
    picture = fractal(15, 21)
    save("rgb24.bmp", encoded(".bmp", picture))
    save("rgb24_top_down.bmp", bmp(5, -3, 24, noise(3, 16, 1).tobytes()))
    save("rgb32.bmp", bmp(6, 4, 32, noise(4, 6, 4).tobytes()))
    save("rgb555.bmp", bmp(6, 4, 16, noise(4, 12, 1).tobytes()))
    save("rgb565.bmp", bmp(6, 4, 16, noise(4, 12, 1).tobytes(), 3, struct.pack("<III", 0xF800, 0x7E0, 0x1F)))
    palette = noise(1, 16, 4).tobytes()
    save("palette8.bmp", bmp(6, 4, 8, rng.integers(0, 16, (4, 8)).astype(np.uint8).tobytes(), palette=palette))
    save("palette4.bmp", bmp(6, 4, 4, noise(4, 4, 1).tobytes(), palette=palette))
    save("palette1.bmp", bmp(11, 4, 1, noise(4, 4, 1).tobytes(), palette=palette[:8]))
    save("gray8.pgm", b"P5 # comment\n17 13\n# another\n255\n" + gradient(13, 17)[..., 0].tobytes())
    save("rgb8.ppm", ppm(noise(7, 9)))
    save("rgb_maxval100.ppm", b"P6\n9 7\n100\n" + rng.integers(0, 101, (7, 9, 3)).astype(np.uint8).tobytes())
    save("gray16.pgm", b"P5\n9 7\n65535\n" + rng.integers(0, 65536, (7, 9)).astype(">u2").tobytes())
    save("rgb16.ppm", b"P6\n9 7\n65535\n" + rng.integers(0, 65536, (7, 9, 3)).astype(">u2").tobytes())

    bgr = np.ascontiguousarray(picture[..., ::-1])
    save("rgb24.tga", tga(picture, 2, 24, bgr[::-1].tobytes()), picture)
    save("rgb24_top_down.tga", tga(picture, 2, 24, bgr.tobytes(), top_down=True), picture)
    bgra = np.concatenate([bgr, noise(15, 21, 1)], -1)
    save("rgba32.tga", tga(picture, 2, 32, bgra[::-1].tobytes()), picture)
    save("rgb24_rle.tga", tga(picture, 10, 24, run_length([p.tobytes() for p in bgr[::-1].reshape(-1, 3)])), picture)
    gray = np.repeat(picture[..., :1], 3, -1)
    save("gray8.tga", tga(gray, 3, 8, gray[::-1, :, 0].tobytes()), gray)
    save("gray8_rle.tga", tga(gray, 11, 8, run_length([bytes([v]) for v in gray[::-1, :, 0].ravel()])), gray)
    colours = noise(1, 16)[0]
    indices = rng.integers(0, 16, (15, 21)).astype(np.uint8)
    save("palette8.tga", tga(indices, 1, 8, indices[::-1].tobytes(), colours[:, ::-1].tobytes()), colours[indices])


# ---- resize ----------------------------------------------------------------------------------------------------------
def taps(n, m):
    """Row i: weights of the n source pixels for output i, float64."""
    a, weights = -0.75, np.zeros((m, n))
    for i in range(m):
        centre = (i + 0.5) * n / m - 0.5
        first = int(np.floor(centre))
        for k in range(-1, 3):
            d = abs(centre - (first + k))
            w = (a + 2) * d**3 - (a + 3) * d**2 + 1 if d <= 1 else a * d**3 - 5 * a * d**2 + 8 * a * d - 4 * a
            weights[i, min(max(first + k, 0), n - 1)] += w
    return weights


def make_resize():
    cases = {
        "noise_up": (noise(61, 97), (112, 131)),
        "noise_down": (noise(150, 160), (53, 37)),
        "fractal_down": (fractal(120, 150), (64, 64)),
        "gradient_mixed": (gradient(100, 30), (43, 97)),
        "text_down": (text(60, 150), (48, 48)),
        "wide": (noise(4, 2000), (40, 40)),
        "tall": (noise(2000, 4), (40, 40)),
        "same_size": (noise(20, 30), (30, 20)),
        "tiny_1x1": (noise(1, 1), (5, 7)),
        "tiny_1x7": (noise(1, 7), (23, 11)),
        "tiny_7x1": (noise(7, 1), (23, 11)),
        "tiny_3x2": (noise(3, 2), (31, 29)),
        "tiny_2x500": (noise(2, 500), (37, 29)),
        "to_1x1": (noise(40, 50), (1, 1)),
    }
    for name, (source, size) in cases.items():
        expected = cv2.resize(source, size, interpolation=cv2.INTER_CUBIC)
        lines, columns = taps(source.shape[0], size[1]), taps(source.shape[1], size[0])
        exact = np.einsum("yh,hwc,xw->yxc", lines, source.astype(float), columns)
        exact = np.clip(np.rint(exact), 0, 255).astype(np.uint8)
        difference = np.abs(exact.astype(int) - expected)
        print("%-16s cv2 against float64: %.4f%% differ, at most %d" %
              (name, 100 * (difference > 0).mean(), difference.max()))
        assert difference.max() <= 1
        write("resize_%s.source.ppm" % name, ppm(source))
        write("resize_%s.%dx%d.ppm" % (name, *size), ppm(exact if name.startswith("tiny") else expected))


if __name__ == "__main__":
    print("cv2 %s, numpy %s, python %s" % (cv2.__version__, np.__version__, sys.version.split()[0]))
    os.makedirs(OUT, exist_ok=True)
    make_png()
    make_jpeg()
    make_others()
    make_resize()
