"""The paper's own layer (arXiv 2401.17400), straight down: it shares nothing with `_reference`."""

import numpy as np


def paper_scores(image, kernels):
    """theta_k . x_u - |theta_k|^2/2 of a grey image (H, W), kernels (K, h, w): (K, rows, cols)."""
    n_kernels, h, w = kernels.shape
    rows, cols = image.shape[0] - h + 1, image.shape[1] - w + 1
    scores = np.empty((n_kernels, rows, cols))
    for k in range(n_kernels):
        for r in range(rows):
            for c in range(cols):
                patch = image[r : r + h, c : c + w]
                scores[k, r, c] = np.sum(kernels[k] * patch) - np.sum(kernels[k] ** 2) / 2
    return scores


def paper_em_pass(images, kernels):
    """One EM pass over grey images (n, H, W), padded already: kernels (K, h, w) -> (K, h, w)."""
    n_kernels, h, w = kernels.shape
    numerator, denominator = np.zeros(kernels.shape), np.zeros(n_kernels)
    for image in images:
        scores = paper_scores(image, kernels)
        gamma = np.exp(scores - np.max(scores))
        gamma /= np.sum(gamma)
        for k, r, c in np.ndindex(*gamma.shape):
            numerator[k] += gamma[k, r, c] * image[r : r + h, c : c + w]
            denominator[k] += gamma[k, r, c]
    return numerator / denominator[:, np.newaxis, np.newaxis]


def paper_features(images, kernels):
    """Log of sum_u exp(scores) / (K P) of grey images (n, H, W): (n, K)."""
    features = np.empty((len(images), len(kernels)))
    for i, image in enumerate(images):
        for k, scores in enumerate(paper_scores(image, kernels)):
            features[i, k] = np.log(np.sum(np.exp(scores - np.max(scores)))) + np.max(scores)
            features[i, k] -= np.log(len(kernels)) + np.log(scores.size)
    return features
