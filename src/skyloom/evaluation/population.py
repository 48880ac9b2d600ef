"""Class probabilities where classes are as frequent as in a population, not as in a training."""

from __future__ import annotations

from typing import Any

import numpy as np

_POPULATIONS = {
    "training": "classes as frequent as in the training ({}): where yours are not, set "
    "prediction.population.",
    "given": "the population that was given ({}).",
    "estimated": "a population that was estimated from these objects ({}).",
}
_LEAST = 1e-12  # probability that stands for none: no evidence is beyond a population


def reweight(probability: np.ndarray, trained: np.ndarray, population: np.ndarray) -> np.ndarray:
    """Class probabilities in a population whose classes have other shares.

    What the data say of an object is taken to be the same in both, only how frequent classes are
    is not (prior shift).

    Parameters
    ----------
    probability : numpy.ndarray, shape (..., n_classes)
        Of a classifier; not finite where there is none.
    trained : numpy.ndarray, shape (n_classes,)
        Shares of the classes, as the classifier was trained; equal ones where it weighed classes
        alike. Above 0.
    population : numpy.ndarray, shape (n_classes,)
        Shares in the population.

    Returns
    -------
    numpy.ndarray, shape (..., n_classes)
        In proportion to ``probability * population / trained``.

    References
    ----------
    Saerens, Latinne & Decaestecker (2002), Neural Computation 14, 21: equation 2.4.

    Examples
    --------
    >>> import numpy as np
    >>> # Trained on as many bent sources as others, where one in twenty is bent.
    >>> said = np.array([[0.8, 0.2]])
    >>> reweight(said, np.array([0.5, 0.5]), np.array([0.05, 0.95])).round(2)
    array([[0.17, 0.83]])
    """
    weighed = np.clip(probability, _LEAST, None) * (np.asarray(population) / np.asarray(trained))
    return weighed / weighed.sum(axis=-1, keepdims=True)


def estimate_population(
    probability: np.ndarray,
    trained: np.ndarray,
    *,
    tolerance: float = 1e-6,
    max_iterations: int = 10_000,
) -> np.ndarray:
    """Shares of the classes with the highest likelihood, by expectation and maximisation.

    Parameters
    ----------
    probability : numpy.ndarray, shape (n, n_classes)
        Of all objects of the population, by a calibrated classifier; at least one.
    trained : numpy.ndarray, shape (n_classes,)
        As in `reweight`.
    tolerance : float
        Change of a share at which the iteration ends.
    max_iterations : int
        At most.

    Returns
    -------
    numpy.ndarray, shape (n_classes,)
        The mean of the probabilities that `reweight` gives with them.

    References
    ----------
    Saerens, Latinne & Decaestecker (2002), Neural Computation 14, 21: equation 2.9.
    """
    shares = np.asarray(trained, float)
    for _ in range(max_iterations):
        before, shares = shares, reweight(probability, trained, shares).mean(axis=0)
        if np.abs(shares - before).max() < tolerance:
            break
    return shares


def shares_in_population(
    population: dict[str, float] | str | None,
    probability: np.ndarray,
    description: dict[str, Any],
) -> tuple[np.ndarray, np.ndarray]:
    """Shares of the classes in which a classifier was trained, and those that are asked for.

    Parameters
    ----------
    population : dict of str to float, "estimated", or None
        Share by class; from the objects themselves; or as trained.
    probability : numpy.ndarray, shape (n, n_classes)
        Of the classifier; not finite where an object was not classified.
    description : dict
        Of the classifier: ``class_names``, ``trained_shares``.

    Returns
    -------
    trained, shares : numpy.ndarray, shape (n_classes,)

    Raises
    ------
    ValueError
        If the population names other classes, or the classifier does not say how it was trained.
    """
    names = description["class_names"]
    if population is None:
        # Classifiers of an earlier version do not say it. Unless told otherwise they weighed
        # classes alike.
        trained = np.array(description.get("trained_shares", np.full(len(names), 1 / len(names))))
        return trained, trained
    if "trained_shares" not in description:
        msg = (
            "prediction.population cannot be used: the classifier does not say in which shares of "
            "the classes it was trained; train it again"
        )
        raise ValueError(msg)
    trained = np.array(description["trained_shares"])
    if population == "estimated":
        classified = probability[np.isfinite(probability).all(axis=1)]
        return trained, estimate_population(classified, trained) if len(classified) else trained
    if set(population) != set(names):
        msg = (
            f"prediction.population must have a share for each class of the classifier, "
            f"{names}; got {sorted(population)}"
        )
        raise ValueError(msg)
    return trained, np.array([population[name] for name in names])


def describe_population(
    population: dict[str, float] | str | None, shares: np.ndarray, names: list[str]
) -> dict[str, Any]:
    """For which population probabilities are, in plain numbers that can be kept beside them.

    Parameters
    ----------
    population
        As in `shares_in_population`.
    shares : numpy.ndarray, shape (n_classes,)
        From there.
    names : list of str
        Of the classes.

    Returns
    -------
    dict
        ``of`` (training, given or estimated) and ``shares`` by class.
    """
    of = population if isinstance(population, str) else "given" if population else "training"
    return {"of": of, "shares": dict(zip(names, map(float, shares), strict=True))}


def population_in_words(described: dict[str, Any]) -> str:
    """Sentences that say for which population probabilities are.

    Parameters
    ----------
    described : dict
        From `describe_population`.

    Returns
    -------
    str
    """
    shares = ", ".join(f"{name} {share:.3g}" for name, share in described["shares"].items())
    return f"Probabilities are for {_POPULATIONS[described['of']].format(shares)}"
