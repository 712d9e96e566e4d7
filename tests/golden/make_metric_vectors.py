"""Writes metric_vectors.txt, attribute_vectors.txt and logistic_vectors.txt: what other implementations say about
pictures and series that the tests make themselves.

Made with piq 0.8.0, IQA-pytorch 0.1, scikit-image 0.26.0, torch 2.15.0, scipy 1.17.1, numpy 2.4.6:
python3 make_metric_vectors.py

The pictures are integer arithmetic, the same here and in tests/metrics/metric_pictures.hpp. A line of the first file:

    WIDTH HEIGHT DISTORTION METRIC SOURCE TOLERANCE VALUE

and of the second, computed with NumPy in float64, of the distorted picture alone:

    WIDTH HEIGHT DISTORTION BRIGHTNESS CONTRAST COLOURFULNESS SHARPNESS NOISE

and of the third, the best of many starts of scipy.optimize.curve_fit on the series that logistic_series() and
tests/metrics/logistic_test.cpp make:

    SERIES N RMSE PLCC B1 B2 B3 B4 B5

SOURCE is a package, all in float64 on luma that is not rounded, or "definition": the published definition written down
here with scipy and numpy.fft, two-dimensional windows and whole pictures, where no package follows it (odd sizes,
downsampling, MATLAB's median in FSIM). TOLERANCE is 1e-9 where the definitions are the same: both sides work in
float64, sums of 1e5 terms. Elsewhere a package differs on purpose, and its tolerance says by how much:
  piq fsim           lower median instead of the mean of the two middle values, epsilon 2e-16 instead of 1e-4 in the
                     phase: 1e-5
  piq fsimc          also |x|^0.03 instead of the real part of the power of a negative similarity: 2e-4
  piq vif            constants of 1e-8 instead of 1e-10: 1e-8
  IQA-pytorch gmsd   1e-12 added below the root of a gradient: 2e-8
piq's gmsd has a population standard deviation and is multiplied by sqrt(n / (n - 1)) here.
"""
import os

import numpy as np
import piq
import skimage.metrics
import torch
from IQA_pytorch.GMSD import GMSD
from numpy.fft import fft2, ifft2, ifftshift
from scipy.ndimage import correlate
from scipy.optimize import curve_fit
from scipy.signal import convolve2d

OUT = os.path.dirname(os.path.abspath(__file__))
LINES, ATTRIBUTES, LOGISTICS = [], [], []


# ---- pictures, as in metric_pictures.hpp -----------------------------------------------------------------------------
def mix(x, y, c):
    h = (x * 374761393 + y * 668265263 + c * 2246822519) & 0xFFFFFFFF
    h = ((h ^ (h >> 13)) * 1274126177) & 0xFFFFFFFF
    return h ^ (h >> 16)


def value_noise(x, y, c, cell):
    x0, y0, fx, fy = x // cell, y // cell, x % cell, y % cell
    corner = lambda i, j: mix(x0 + i, y0 + j, c + 16 * cell) % 256
    top = corner(0, 0) * (cell - fx) + corner(1, 0) * fx
    bottom = corner(0, 1) * (cell - fx) + corner(1, 1) * fx
    return (top * (cell - fy) + bottom * fy) // (cell * cell)


def picture(w, h):
    y, x, c = np.meshgrid(np.arange(h), np.arange(w), np.arange(3), indexing="ij")
    value = (4 * value_noise(x, y, c, 64) + 2 * value_noise(x, y, c, 16) + value_noise(x, y, c, 4)) // 7
    disc = (2 * x - w) ** 2 + (2 * y - h) ** 2 < h * h // 4
    return np.minimum(value + 60 * disc * (c != 1), 255)


def distort(p, kind):
    h, w, _ = p.shape
    y, x, c = np.meshgrid(np.arange(h), np.arange(w), np.arange(3), indexing="ij")
    if kind == "noise":
        return np.clip(p + mix(x, y, c + 7) % 61 - 30, 0, 255)
    if kind == "blur":
        wide = np.pad(p, ((2, 2), (2, 2), (0, 0)), "edge")
        return (sum(wide[i:i + h, j:j + w] for i in range(5) for j in range(5)) + 12) // 25
    if kind == "contrast":
        return (3 * p + 260) // 5
    if kind == "blocks":
        return p[y // 8 * 8, x // 8 * 8, c]
    if kind == "tint":  # I and Q of opposite signs: negative similarities in FSIMc
        return 255 - p[..., ::-1]


# ---- definitions -----------------------------------------------------------------------------------------------------
def luma(p):
    return p.astype(float) @ np.array([.299, .587, .114])


def gaussian(n, sigma):
    d = np.arange(n) - (n - 1) / 2
    w = np.exp(-(d[:, None] ** 2 + d ** 2) / (2 * sigma ** 2))
    return w / w.sum()


def valid(a, w):
    return convolve2d(a, w[::-1, ::-1], "valid")


def imfilter_mean(a, f):  # MATLAB's imfilter(a, ones(f) / f^2, 'symmetric', 'same')
    return correlate(a, np.ones((f, f)) / f ** 2, mode="reflect", origin=-1 if f % 2 == 0 else 0)


def conv2_same(a, k):  # MATLAB's: the middle of the full convolution, the later one of two middles
    full, (kh, kw) = convolve2d(a, k), k.shape
    return full[kh // 2:kh // 2 + a.shape[0], kw // 2:kw // 2 + a.shape[1]]


def ssim_terms(a, b):
    w, c1, c2 = gaussian(11, 1.5), 6.5025, 58.5225
    ma, mb = valid(a, w), valid(b, w)
    va, vb, cov = valid(a * a, w) - ma ** 2, valid(b * b, w) - mb ** 2, valid(a * b, w) - ma * mb
    cs = (2 * cov + c2) / (va + vb + c2)
    return ((2 * ma * mb + c1) / (ma ** 2 + mb ** 2 + c1) * cs).mean(), cs.mean()


def automatic(a):
    return max(1, int(min(a.shape) / 256 + .5))


def ssim(a, b):
    f = automatic(a)
    return ssim_terms(*[imfilter_mean(v, f)[::f, ::f] if f > 1 else v for v in (a, b)])[0]


def ms_ssim(a, b):
    result = 1
    for i, weight in enumerate([.0448, .2856, .3001, .2363, .1333]):
        if i:
            a, b = [imfilter_mean(v, 2)[::2, ::2] for v in (a, b)]
        result *= max(ssim_terms(a, b)[i < 4], 0) ** weight
    return result


def gradient(a, k):
    return np.hypot(conv2_same(a, k), conv2_same(a, k.T))


def gmsd(a, b):
    a, b = [gradient(conv2_same(v, np.ones((2, 2)) / 4)[::2, ::2], np.array([[1, 0, -1]] * 3) / 3) for v in (a, b)]
    return ((2 * a * b + 170) / (a * a + b * b + 170)).std(ddof=1)


def vif(a, b):
    num = den = 0
    for scale in range(1, 5):
        n = 2 ** (5 - scale) + 1
        w = gaussian(n, n / 5)
        if scale > 1:
            a, b = valid(a, w)[::2, ::2], valid(b, w)[::2, ::2]
        ma, mb = valid(a, w), valid(b, w)
        va, vb, cov = valid(a * a, w) - ma ** 2, valid(b * b, w) - mb ** 2, valid(a * b, w) - ma * mb
        va[va < 0] = 0
        vb[vb < 0] = 0
        g = cov / (va + 1e-10)
        sv = vb - g * cov
        g[va < 1e-10] = 0
        sv[va < 1e-10] = vb[va < 1e-10]
        va[va < 1e-10] = 0
        g[vb < 1e-10] = 0
        sv[vb < 1e-10] = 0
        sv[g < 0] = vb[g < 0]
        g[g < 0] = 0
        sv[sv <= 1e-10] = 1e-10
        num += np.log10(1 + g ** 2 * va / (sv + 2)).sum()
        den += np.log10(1 + va / 2).sum()
    return num / den


def phase_congruency(a):
    rows, cols = a.shape
    grid = lambda n: np.arange(-(n - 1) / 2, (n - 1) / 2 + 1) / (n - 1) if n % 2 else np.arange(-n / 2, n / 2) / n
    x, y = np.meshgrid(grid(cols), grid(rows))
    radius, theta = ifftshift(np.hypot(x, y)), ifftshift(np.arctan2(-y, x))
    low_pass = 1 / (1 + (radius / .45) ** 30)
    radius[0, 0] = 1
    spectrum, energy_all, an_all = fft2(a), 0, 0
    for angle in np.arange(4) * np.pi / 4:
        ds = np.sin(theta) * np.cos(angle) - np.cos(theta) * np.sin(angle)
        dc = np.cos(theta) * np.cos(angle) + np.sin(theta) * np.sin(angle)
        spread = np.exp(-np.arctan2(ds, dc) ** 2 / (2 * (np.pi / 4 / 1.2) ** 2))
        filters = []
        for s in range(4):
            gabor = np.exp(-np.log(radius * 6 * 2 ** s) ** 2 / (2 * np.log(.55) ** 2)) * low_pass
            gabor[0, 0] = 0
            filters.append(gabor * spread)
        eo = [ifft2(spectrum * f) for f in filters]
        total = sum(eo)
        mean = total / (np.abs(total) + 1e-4)
        energy = sum((e * mean.conj()).real - np.abs((e * mean.conj()).imag) for e in eo)
        noise_power = -np.median(np.abs(eo[0]) ** 2) / np.log(.5) / (filters[0] ** 2).sum()
        impulse = [ifft2(f).real * np.sqrt(rows * cols) for f in filters]
        noise_energy = 2 * noise_power * sum((i ** 2).sum() for i in impulse)
        pairs = [(i, j) for i in range(4) for j in range(i + 1, 4)]
        noise_energy += 4 * noise_power * sum((impulse[i] * impulse[j]).sum() for i, j in pairs)
        tau = np.sqrt(noise_energy / 2)
        threshold = (tau * np.sqrt(np.pi / 2) + 2 * np.sqrt((2 - np.pi / 2) * tau ** 2)) / 1.7
        energy_all = energy_all + np.maximum(energy - threshold, 0)
        an_all = an_all + sum(np.abs(e) for e in eo)
    return energy_all / an_all


def fsim(p, q, chromatic):
    f = automatic(p[..., 0])
    yiq = np.array([[.299, .587, .114], [.596, -.274, -.322], [.211, -.523, .312]])
    planes = [[conv2_same(v, np.ones((f, f)) / f ** 2)[::f, ::f] for v in (r.astype(float) @ yiq.T).transpose(2, 0, 1)]
              for r in (p, q)]
    (a, i1, q1), (b, i2, q2) = planes
    pc1, pc2 = phase_congruency(a), phase_congruency(b)
    scharr = np.array([[3, 0, -3], [10, 0, -10], [3, 0, -3]]) / 16
    alike = lambda u, v, t: (2 * u * v + t) / (u * u + v * v + t)
    s = alike(pc1, pc2, .85) * alike(gradient(a, scharr), gradient(b, scharr), 160)
    if chromatic:
        colour = alike(i1, i2, 200) * alike(q1, q2, 200)
        print("   %.1f%% of colour similarities are negative" % (100 * (colour < 0).mean()))
        s = s * (colour.astype(complex) ** .03).real
    weight = np.maximum(pc1, pc2)
    return (s * weight).sum() / weight.sum()


# ---- values ----------------------------------------------------------------------------------------------------------
def tensor(a):
    a = a[None] if a.ndim == 2 else a.transpose(2, 0, 1)
    return torch.from_numpy(np.ascontiguousarray(a)).double()[None] / 255


def write(where, metric, source, tolerance, value):
    LINES.append("%s %s %s %g %.11g" % (where, metric, source, tolerance, float(value)))
    print(LINES[-1])


def values(w, h, kind):
    p, where = picture(w, h), "%d %d %s" % (w, h, kind)
    q = distort(p, kind)
    a, b, even = luma(p), luma(q), w % 2 == 0 and h % 2 == 0
    write(where, "psnr", "scikit-image", 1e-9, skimage.metrics.peak_signal_noise_ratio(p, q, data_range=255))
    write(where, "ssim", "definition", 1e-9, ssim(a, b))
    if automatic(a) == 1:
        write(where, "ssim", "scikit-image", 1e-9, skimage.metrics.structural_similarity(
            a, b, gaussian_weights=True, sigma=1.5, use_sample_covariance=False, data_range=255))
    elif even:
        write(where, "ssim", "piq", 1e-9, piq.ssim(tensor(a), tensor(b)))
    if min(w, h) >= 176:
        write(where, "ms_ssim", "definition", 1e-9, ms_ssim(a, b))
        if w % 16 == 0 and h % 16 == 0:
            write(where, "ms_ssim", "piq", 1e-9, piq.multi_scale_ssim(tensor(a), tensor(b)))
    write(where, "gmsd", "definition", 1e-9, gmsd(a, b))
    if even:
        n = w * h // 4
        write(where, "gmsd", "piq", 1e-9, piq.gmsd(tensor(a), tensor(b)) * (n / (n - 1)) ** .5)
        write(where, "gmsd", "IQA-pytorch", 2e-8, GMSD(1).double()(tensor(b), tensor(a), as_loss=False))
    write(where, "vif", "definition", 1e-9, vif(a, b))
    write(where, "vif", "piq", 1e-8, piq.vif_p(tensor(b), tensor(a)))
    write(where, "fsim", "definition", 1e-9, fsim(p, q, False))
    write(where, "fsimc", "definition", 1e-9, fsim(p, q, True))
    if automatic(a) == 1 and kind != "tint":
        write(where, "fsim", "piq", 1e-5, piq.fsim(tensor(a), tensor(b), chromatic=False))
        write(where, "fsimc", "piq", 2e-4, piq.fsim(tensor(p), tensor(q), chromatic=True))


def attributes(w, h, kind):
    p = distort(picture(w, h), kind).astype(float)
    g, rg, yb = luma(p), p[..., 0] - p[..., 1], (p[..., 0] + p[..., 1]) / 2 - p[..., 2]
    lap = 4 * g[1:-1, 1:-1] - g[:-2, 1:-1] - g[2:, 1:-1] - g[1:-1, :-2] - g[1:-1, 2:]
    found = [g.mean(), g.std(), np.hypot(rg.std(), yb.std()) + .3 * np.hypot(rg.mean(), yb.mean()),
             np.log(lap.var() + 1), np.median(np.abs(lap))]
    ATTRIBUTES.append("%d %d %s " % (w, h, kind) + " ".join("%.11g" % v for v in found))
    print(ATTRIBUTES[-1])


# ---- five-parameter logistic -----------------------------------------------------------------------------------------
def logistic(x, b1, b2, b3, b4, b5):
    return b1 * (.5 - 1 / (1 + np.exp(np.clip(b2 * (x - b3), -700, 700)))) + b4 * x + b5


def logistic_series(kind, n):
    i = np.arange(n)
    x, noise = mix(i, 0, 1) % 10001 / 10000, mix(i, 1, 1) % 2001 / 1000 - 1
    if kind == "rising":
        return x, 20 + 60 / (1 + np.exp(-9 * (x - .4))) + 4 * noise
    if kind == "falling":
        return 100 * x, 1 - .7 / (1 + np.exp(-14 * (x - .6))) - .2 * x + .05 * noise
    if kind == "saturating":
        return x - 5, 1 - np.exp(-4 * x) + .02 * noise


def fit_logistic(kind, n):
    x, y = logistic_series(kind, n)
    best = None
    for steepness in (.5, 1, 2, 5, 10):
        for quantile in (.1, .3, .5, .7, .9):
            height = np.ptp(y) * np.sign(np.corrcoef(x, y)[0, 1])
            start = [height, steepness / x.std(), np.quantile(x, quantile), 0, y.mean()]
            try:
                b, _ = curve_fit(logistic, x, y, start, maxfev=20000, ftol=1e-14, xtol=1e-14, gtol=1e-14)
            except RuntimeError:
                continue
            error = np.sqrt(((logistic(x, *b) - y) ** 2).mean())
            if best is None or error < best[0]:
                best = error, b
    error, b = best
    if b[1] < 0:
        b[:2] *= -1
    correlation = np.corrcoef(logistic(x, *b), y)[0, 1]
    LOGISTICS.append("%s %d %.10g %.10g " % (kind, n, error, correlation) + " ".join("%.8g" % v for v in b))
    print(LOGISTICS[-1])


def write_file(name, columns, lines):
    with open(os.path.join(OUT, name), "w") as f:
        f.write("# %s; written by make_metric_vectors.py\n" % columns + "\n".join(lines) + "\n")


if __name__ == "__main__":
    torch.set_num_threads(1)
    for kind in ("noise", "blur", "contrast", "blocks", "tint"):
        values(208, 192, kind)
    values(121, 97, "noise")   # odd; 97 is prime
    values(131, 64, "blur")    # 131: a length that needs a chirp transform
    values(520, 392, "blur")   # shrunk by 2
    values(523, 391, "blocks")  # shrunk by 2, odd
    values(641, 642, "noise")  # shrunk by 3
    for kind in ("noise", "blur", "contrast", "blocks", "tint"):
        attributes(71, 53, kind)
        attributes(64, 31, kind)
    attributes(3, 3, "noise")
    attributes(4, 3, "noise")
    for kind in ("rising", "falling", "saturating"):
        fit_logistic(kind, 60)
        fit_logistic(kind, 500)
    write_file("metric_vectors.txt", "WIDTH HEIGHT DISTORTION METRIC SOURCE TOLERANCE VALUE", LINES)
    write_file("attribute_vectors.txt", "WIDTH HEIGHT DISTORTION BRIGHTNESS CONTRAST COLOURFULNESS SHARPNESS NOISE",
               ATTRIBUTES)
    write_file("logistic_vectors.txt", "SERIES N RMSE PLCC B1 B2 B3 B4 B5", LOGISTICS)
