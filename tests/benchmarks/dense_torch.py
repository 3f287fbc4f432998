"""A dense torch twin of the paper's EM pass: what a well-tuned deep-learning framework can do.

The model is that of L. Liang, "Efficient Learning of Convolution Weights as Gaussian Mixture Model
Posteriors" (arXiv 2401.17400): grey images, one patch per image, a softmax over all kernels and
positions. Both halves of a pass are convolutions, and nothing is skipped, so this is the yardstick
that a faster algorithm has to beat on equal terms, and an independent check of its numbers.

The formulation was chosen by time, on MNIST images, 64 kernels of 20 x 20, padding 2, float32, two
cores with AVX-512, torch 2.13, each at its own best batch size (16 to 512 images):

E-step, relative to ``conv2d`` with its own padding (oneDNN, at the sgemm peak of the machine):

- ``conv2d`` on images padded beforehand                               1.1
- ``conv2d`` in channels-last layout, or on column stripes as channels   1.1
- patches copied out of a strided view, one matmul                     1.4
- ``conv2d`` without oneDNN                                            1.6
- ``torch.fft``                                                        2.5
- ``unfold`` and matmul                                                5

M-step, relative to the posterior maps as the filters of a ``conv2d`` whose input channels are the
images of the batch, so that the sum over channels is the sum over images:

- the same in channels-last layout                                     1.2
- ``conv2d`` with one group per image, then a sum over images          1.7
- ``torch.nn.grad.conv2d_weight``                                      1.7
- ``unfold`` (or a strided view) and matmul, or no oneDNN              3 to 5
- ``torch.fft``                                                        5

The fastest of each is used here; the two take the same time and are all but a tenth of a pass.
"""

import math

import torch
import torch.nn.functional as F


class DenseTorchEM:
    """EM for a mixture of convolution kernels, one patch per image, by dense convolutions.

    Parameters
    ----------
    kernels : array or tensor of shape (K, ph, pw) or (K, 1, ph, pw)
        Starting kernels. Their dtype, float32 or float64, is the dtype of the computation.
    padding : int
        Zero padding on every side of the images.
    noise_variance : float
        Variance of the noise, or where it starts if `learn_variance`.
    learn_variance : bool
        Learn the variance from kernels and background together.
    weights : array or tensor of shape (K,), optional
        Starting weights of the kernels; uniform by default.
    learn_weights : bool
        Learn the weights. The paper keeps them uniform.
    batch_size : int
        Images per convolution. On MNIST 16 to 128 take the same time, 256 a quarter more.

    Attributes
    ----------
    kernels, weights, noise_variance : the current parameters
    objectives : list of float
        Objective at the start of each pass, see `step`.
    log_likelihoods : list of float
        The same with the background: the log-likelihood per image. It never falls.
    """

    def __init__(
        self,
        kernels,
        *,
        padding=0,
        noise_variance=1.0,
        learn_variance=False,
        weights=None,
        learn_weights=False,
        batch_size=48,
    ):
        kernels = torch.as_tensor(kernels)
        self.kernels = kernels.reshape(len(kernels), 1, *kernels.shape[-2:]).clone()
        self.padding = padding
        self.noise_variance = float(noise_variance)
        self.learn_variance = learn_variance
        if weights is None:
            weights = torch.full((len(kernels),), 1 / len(kernels), dtype=torch.float64)
        weights = torch.as_tensor(weights, dtype=torch.float64, device=kernels.device)
        self.weights = weights.clone()
        self.learn_weights = learn_weights
        self.batch_size = batch_size
        self.objectives = []
        self.log_likelihoods = []

    @torch.inference_mode()
    def fit(self, images, n_passes):
        """Run `n_passes` passes of EM over the images, (n, h, w) or (n, 1, h, w)."""
        images = self._as_images(images)
        energy = _energy(images, self.batch_size)
        for _ in range(n_passes):
            self.step(images, energy)
        return self

    @torch.inference_mode()
    def step(self, images, energy=None):
        """Run one pass of EM; return the objective of the parameters it started from.

        The objective is the mean over images of log sum_(k, u) exp l(k, u), the log-likelihood of
        an image less that of pure noise. `energy`, the sum of squared pixels, is a constant of the
        data: pass it to save its computation.
        """
        images = self._as_images(images)
        if energy is None:
            energy = _energy(images, self.batch_size)
        K, _, ph, pw = self.kernels.shape
        sums = torch.zeros((K, 1, ph, pw), dtype=torch.float64, device=images.device)
        counts = torch.zeros(K, dtype=torch.float64, device=images.device)
        log_normalizer = 0.0
        for batch, scores in self._score_maps(images):
            # softmax, not exp: with a learned variance, torch's exp takes 5 times as long, on the
            # arguments that underflow. In place: at the default batch size no memory then goes back
            # to the system between batches, whose page faults would cost a fifth of a pass.
            flat = scores.flatten(1)
            top = flat.amax(1)
            posterior = torch.softmax(flat, 1, out=flat)
            # The normalizer, read off where it is known best: at the most probable (k, u).
            log_normalizers = top - posterior.amax(1).log()
            log_normalizer += float(log_normalizers.sum(dtype=torch.float64))
            posterior = posterior.view_as(scores)
            counts += posterior.sum((2, 3)).sum(0)
            sums += self._filter(batch, posterior)

        n_values = len(images) * math.prod(size + 2 * self.padding for size in images.shape[2:])
        objective = log_normalizer / len(images)
        background = -0.5 * energy / self.noise_variance
        background -= 0.5 * n_values * math.log(2 * math.pi * self.noise_variance)
        self.objectives.append(objective)
        self.log_likelihoods.append(objective + background / len(images))
        self._m_step(sums, counts, energy, n_values)
        return objective

    def _filter(self, batch, posterior):
        """The posterior maps as filters over the images, summed over the batch: (K, 1, ph, pw)."""
        # (1, n, h, w) * (K, n, rows, cols) -> (1, K, ph, pw): images are the input channels.
        sums = F.conv2d(batch.transpose(0, 1), posterior.transpose(0, 1), padding=self.padding)
        return sums.transpose(0, 1)

    @torch.inference_mode()
    def score(self, images):
        """Return the objective of the current parameters, see `step`."""
        images = self._as_images(images)
        total = 0.0
        for _, scores in self._score_maps(images):
            total += float(scores.flatten(1).logsumexp(1).sum(dtype=torch.float64))
        return total / len(images)

    @torch.inference_mode()
    def features(self, images):
        """Return log sum_u exp l(k, u) per image and kernel, shape (n, K)."""
        images = self._as_images(images)
        return torch.cat([s.flatten(2).logsumexp(2) for _, s in self._score_maps(images)])

    def _as_images(self, images):
        images = torch.as_tensor(images, dtype=self.kernels.dtype, device=self.kernels.device)
        return images.reshape(len(images), 1, *images.shape[-2:])

    def _score_maps(self, images):
        """Yield each batch of images with its l(k, u), (n, K, rows, cols): a biased convolution."""
        n_positions = math.prod(
            size + 2 * self.padding - width + 1
            for size, width in zip(images.shape[2:], self.kernels.shape[2:], strict=True)
        )
        weight = self.kernels / self.noise_variance
        bias = -0.5 * self.kernels.double().square().sum((1, 2, 3)) / self.noise_variance
        bias += self.weights.log() - math.log(n_positions)
        bias = bias.to(weight.dtype)
        for batch in images.split(self.batch_size):
            yield batch, F.conv2d(batch, weight, bias, padding=self.padding)

    def _m_step(self, sums, counts, energy, n_values):
        used = counts > 0
        means = sums[used] / counts[used, None, None, None]
        # A kernel that took part in no image stays where it is.
        self.kernels[used] = means.to(self.kernels.dtype)
        if self.learn_weights:
            self.weights = counts / counts.sum()
        if self.learn_variance:
            explained = float((counts[used] * means.square().sum((1, 2, 3))).sum())
            self.noise_variance = (energy - explained) / n_values


class GroupedTorchEM(DenseTorchEM):
    """The same with the M-step as it is mostly written: a convolution with one group per image."""

    def _filter(self, batch, posterior):
        n, K = posterior.shape[:2]
        filters = posterior.reshape(n * K, 1, *posterior.shape[2:])
        sums = F.conv2d(batch.transpose(0, 1), filters, padding=self.padding, groups=n)
        return sums.reshape(n, K, *sums.shape[2:]).sum(0)[:, None]


def _energy(images, batch_size):
    """Sum of the squared pixels."""
    return sum(float(b.square().sum(dtype=torch.float64)) for b in images.split(batch_size))
