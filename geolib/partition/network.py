"""A fully connected ReLU network, and its affine map around a point."""

from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike

from geolib.checks import finite_array, integer, one_line
from geolib.partition.rounding import ROUNDING, carry

if TYPE_CHECKING:
    import torch


class ReluNetwork:
    """A fully connected network with ReLU or leaky ReLU activations, in float64 and immutable.

    Such a network is a continuous piecewise affine map: f(x) = A_w x + b_w on each region w of its input (eq. 1 of
    arXiv 2407.02678). A region is where the *pattern*, which neurons are active, stays the same; a neuron is active
    where its pre-activation is > 0.

    The parameters are also attributes: `weights` and `biases` are tuples of read-only arrays, `readout` a pair or None.

    Parameters
    ----------
    weights : sequence of array-like
        One per hidden layer: weights[k] has shape=[width_k, width_{k-1}], weights[0] has shape=[width_0, input_dim].
    biases : sequence of array-like
        One per hidden layer: biases[k] has shape=[width_k].
    readout : pair of array-like, optional
        An affine map (W, b) after the last activation: shape=[n_outputs, width of the last layer] and
        shape=[n_outputs]. Without a readout the output is the last hidden activation.
    negative_slope : float
        Slope of the activation where the pre-activation is <= 0, in [0, 1), for all layers: 0 is ReLU.

    Raises
    ------
    TypeError
        If an argument is not an array of real numbers, or not a sequence or pair of them.
    ValueError
        If shapes do not chain, a number is NaN or infinite or an integer that float64 does not hold (some beyond 2^53),
        or the slope is outside [0, 1).

    Examples
    --------
    The absolute value, ``|x| = relu(x) + relu(-x)``:

    >>> network = ReluNetwork([[[1], [-1]]], [[0, 0]], readout=([[1, 1]], [0]))
    >>> network([[-3], [2]])
    array([[3.],
           [2.]])
    >>> network.affine_map([-3])
    (array([[-1.]]), array([0.]))
    """

    def __init__(
        self, weights: Sequence, biases: Sequence, *, readout: Sequence | None = None, negative_slope: float = 0
    ):
        for name, given in (("weights", weights), ("biases", biases)):
            if not np.iterable(given):
                raise TypeError(f"ReluNetwork: {name} is {one_line(given)}, but an array for each layer was expected")
        weights, biases = list(weights), list(biases)
        if not weights:
            raise ValueError("ReluNetwork: weights is empty, but at least one hidden layer was expected")
        if len(weights) != len(biases):
            raise ValueError(f"ReluNetwork: biases has {len(biases)} layers, but {len(weights)} were expected")
        layers = []
        for k, (W, b) in enumerate(zip(weights, biases, strict=True)):
            before = layers[-1][0].shape[0] if layers else None
            layers.append(_affine_layer(f"weights[{k}]", f"biases[{k}]", W, b, before))
        self.weights = tuple(W for W, _ in layers)
        self.biases = tuple(b for _, b in layers)
        self.readout = None
        if readout is not None:
            if not isinstance(readout, tuple | list) or len(readout) != 2:
                raise TypeError(f"ReluNetwork: readout is {type(readout).__name__}, but a pair (W, b) was expected")
            self.readout = _affine_layer("readout[0]", "readout[1]", readout[0], readout[1], self.widths[-1])
        slope, given = finite_array("ReluNetwork: negative_slope", negative_slope), one_line(negative_slope)
        if slope.shape != () or not 0 <= slope < 1:
            raise ValueError(f"ReluNetwork: negative_slope is {given}, but a number in [0, 1) was expected")
        self.negative_slope = float(slope)

    @classmethod
    def from_torch(cls, sequential: "torch.nn.Sequential") -> "ReluNetwork":
        """Copy a `torch.nn.Sequential` of Linear and ReLU or LeakyReLU layers, which must alternate.

        A final Linear becomes the readout; a Linear without bias gets biases 0. Subclasses and hooks may compute
        something other than their weights say, so only torch's own layers without hooks are copied, and the copy is
        compared with the module at random points.

        Parameters
        ----------
        sequential : torch.nn.Sequential
            Begins with a Linear; all its activations share one negative slope.

        Returns
        -------
        ReluNetwork
            The same function, in float64.

        Raises
        ------
        TypeError
            If `sequential` is not a Sequential, contains a layer of another type (a subclass, or a parametrised or
            quantised layer), or its weights are not real numbers in memory.
        ValueError
            If layers do not alternate, there is no activation, slopes differ, there are hooks or a replaced `forward`,
            or the module computes something other than its copy.
        """
        from torch import nn

        if type(sequential) is not nn.Sequential:
            raise TypeError(f"from_torch: sequential is {_kind(sequential)}, but a torch.nn.Sequential was expected")
        linears, slopes = [], []
        for i, layer in enumerate(sequential):
            kind = _kind(layer)
            if type(layer) not in (nn.Linear, nn.ReLU, nn.LeakyReLU):
                raise TypeError(f"from_torch: layer {i} is {kind}, but Linear, ReLU or LeakyReLU was expected")
            if (type(layer) is nn.Linear) != (i % 2 == 0):
                after = f"after {type(sequential[i - 1]).__name__}" if i else "at the start"
                wanted = "an activation" if i % 2 else "a Linear"
                raise ValueError(f"from_torch: layer {i} is {kind} {after}, but {wanted} was expected there")
            if type(layer) is nn.Linear:
                W = _numbers(f"weight of layer {i}", layer.weight)
                b = np.zeros(len(W)) if layer.bias is None else _numbers(f"bias of layer {i}", layer.bias)
                linears.append((W, b))
            else:
                slope = layer.negative_slope if type(layer) is nn.LeakyReLU else 0.0
                slopes.append(finite_array(f"from_torch: negative_slope of layer {i}", slope).tolist())
        if not slopes:
            raise ValueError("from_torch: sequential has no activation, but at least one was expected")
        if any(slope != slopes[0] for slope in slopes):
            raise ValueError(f"from_torch: negative slopes are {slopes}, but one for all layers was expected")
        hidden, last = linears[: len(slopes)], linears[len(slopes) :]
        weights, biases = zip(*hidden, strict=True)
        network = cls(weights, biases, readout=last[0] if last else None, negative_slope=slopes[0])
        _compare(network, sequential)
        return network

    @property
    def input_dim(self) -> int:
        """Dimension of the input."""
        return self.weights[0].shape[1]

    @property
    def widths(self) -> tuple[int, ...]:
        """Number of neurons of each hidden layer, a tuple."""
        return tuple(W.shape[0] for W in self.weights)

    def __repr__(self):
        sizes = [self.input_dim, *self.widths] + ([] if self.readout is None else [len(self.readout[1])])
        slope = f", negative_slope={self.negative_slope}" if self.negative_slope else ""
        return f"ReluNetwork({' -> '.join(map(str, sizes))}{slope})"

    def __call__(self, x: ArrayLike) -> np.ndarray:
        """Output at each point.

        Parameters
        ----------
        x : array-like, shape=[..., input_dim]
            Points.

        Returns
        -------
        array, shape=[..., n_outputs]
            After the readout; without one, the last hidden activation.

        Raises
        ------
        ValueError
            If the output, or a hidden activation that it depends on, is beyond float64.
        """
        *_, z = self._preactivations("ReluNetwork", x)
        h = _activations("ReluNetwork", self, z)
        return h if self.readout is None else _held("ReluNetwork: x", _sums(h, *self.readout))

    def pattern(self, x: ArrayLike) -> tuple[np.ndarray, ...]:
        """Which neurons are active, that is, have a pre-activation > 0.

        Parameters
        ----------
        x : array-like, shape=[..., input_dim]
            Points.

        Returns
        -------
        tuple of bool arrays
            One per hidden layer, shape=[..., width_k].

        Examples
        --------
        >>> network = ReluNetwork([[[1, 0], [0, 1]], [[1, 1]]], [[0, 0], [-1]])
        >>> network.pattern([2, -3])
        (array([ True, False]), array([ True]))
        """
        return tuple(z > 0 for z in self._preactivations("pattern", x))

    def affine_map(self, x: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
        """Affine map of the region of a point: f(y) = A y + b for every y in that region.

        Parameters
        ----------
        x : array-like, shape=[..., input_dim]
            A point, or a batch of points. On a boundary the pattern of the point itself decides: a neuron with
            pre-activation 0 is inactive.

        Returns
        -------
        A : array, shape=[..., n_outputs, input_dim]
        b : array, shape=[..., n_outputs]
            The map of the output: after the readout, or without one the last hidden activation.
        """
        return map_of(self, tuple(z > 0 for z in self._preactivations("affine_map", x)))

    @cached_property
    def _rescaled(self):
        """A network with the same regions and pieces, whose products of weights do not over- or underflow.

        Each layer is multiplied by a power of 2 that brings its largest number near 1, unless its smallest one would
        lose digits. The readout loses its offsets, which move no region and no piece.
        """
        layers, total = [], 0
        readout = [] if self.readout is None else [(self.readout[0], np.zeros_like(self.readout[1]))]
        for W, b in (*zip(self.weights, self.biases, strict=True), *readout):
            slopes, offsets = np.frexp(W[W != 0])[1], np.frexp(b[b != 0])[1] - total
            largest = np.concatenate([slopes, offsets, [1] * (not (W.any() or b.any()))]).max()
            size = min(largest - 1, max(slopes.min(initial=0) + 1021, 0), offsets.min(initial=0) + 1021)
            size = int(max(size, largest - 1000))
            total += size
            layers.append((np.ldexp(W, -size), np.ldexp(b, -total)))
        readout = layers.pop() if readout else None
        return ReluNetwork(*zip(*layers, strict=True), readout=readout, negative_slope=self.negative_slope)

    def _preactivations(self, caller, x):
        h = points = check_points(f"{caller}: x", x, self)
        for W, b in zip(self.weights, self.biases, strict=True):
            z = _sums(h, W, b) if h is points else _sums(_activations(caller, self, h), W, b)
            yield z
            h = z


class Partition:
    """Base of partitions of a line and of a plane: patterns and affine maps of the regions."""

    def __repr__(self):
        return f"{type(self).__name__}(n_regions={self.n_regions}, snapped={self.snapped})"

    @cached_property
    def patterns(self: Any) -> list[tuple[np.ndarray, ...]]:
        """Activation pattern of each region: a list of tuples with the layout of `network.pattern` for one point."""
        return list(zip(*self.active, strict=True))

    def affine_map(self: Any, i: int) -> tuple[np.ndarray, np.ndarray]:
        """Affine map of region i: f(x) = A x + b for each input x in the region.

        Parameters
        ----------
        i : int
            Index of a region, as in `patterns`.

        Returns
        -------
        A : array, shape=[n_outputs, input_dim]
        b : array, shape=[n_outputs]
            As `network.affine_map` returns them for a point inside the region.
        """
        i = integer("affine_map: i", i, -self.n_regions, self.n_regions - 1)
        return map_of(self.network, tuple(active[i] for active in self.active))


def _kind(module):
    """Name of a module's class, preceded by its module's name if it is not torch's own."""
    kind = type(module)
    return kind.__name__ if kind.__module__.startswith("torch.nn.modules.") else f"{kind.__module__}.{kind.__name__}"


def _numbers(name, tensor):
    import torch

    if not isinstance(tensor, torch.Tensor):
        raise TypeError(f"from_torch: {name} is {one_line(tensor)}, but a tensor was expected")
    plain = type(tensor) in (torch.Tensor, torch.nn.Parameter) and tensor.layout is torch.strided
    if not plain or tensor.is_meta or not tensor.is_floating_point():
        what = f"a {type(tensor).__name__} of {tensor.dtype} on {tensor.device}"
        raise TypeError(f"from_torch: {name} is {what}, but a plain tensor of real numbers in memory was expected")
    return tensor.detach().cpu().double().numpy()


def _compare(network, sequential):
    """Raise unless a module computes the same as its copy; in float64, because rounding would hide differences."""
    import torch
    from torch.nn.functional import leaky_relu, linear

    for i, module in enumerate((*sequential, sequential)):
        where = "the Sequential" if module is sequential else f"layer {i}"
        if module._forward_hooks or module._forward_pre_hooks:
            raise ValueError(f"from_torch: {where} has hooks, as weight_norm adds them, but none were expected")
        if "forward" in vars(module):  # random points may miss it: it may depend on the type or the size of the input
            raise ValueError(f"from_torch: {where} has a forward of its own, but its class's was expected")
    rng = np.random.default_rng(0)
    points = rng.normal(size=(64, network.input_dim)) * 10 ** rng.uniform(-2, 2, (64, 1))
    layers = [*zip(network.weights, network.biases, strict=True), *filter(None, [network.readout])]
    try:
        with torch.no_grad():
            sequential(torch.tensor(points).to(sequential[0].weight))  # in its own type: layers of mixed types fail
            h = x = torch.tensor(points)
            for k, layer in enumerate(layers):
                h = linear(h, *map(torch.tensor, layer))
                h = h if 2 * k + 1 == len(sequential) else leaky_relu(h, network.negative_slope)
            wide = {name: weight.detach().cpu().double() for name, weight in sequential.named_parameters()}
            given = torch.func.functional_call(sequential, wide, (x,)).to(h)
    except Exception as error:  # a forward of somebody's own may raise anything
        raise ValueError(f"from_torch: sequential fails at a random point: {one_line(error)}") from None
    if not h.isfinite().all():
        raise ValueError("from_torch: sequential overflows at points up to 100, but finite values were expected")
    if given.shape != h.shape or not torch.allclose(given, h, 1e-12, 1e-12 * float(h.abs().max())):
        raise ValueError("from_torch: sequential computes something else, but what its weights say was expected")


def check_network(caller, network):
    """Raise unless `network` is a ReluNetwork; `caller` opens the message."""
    if not isinstance(network, ReluNetwork):
        raise TypeError(f"{caller}: network is {type(network).__name__}, but a ReluNetwork was expected")


def check_points(name, x, network, *, single=False):
    """Return points of a network's input as an array, or with `single` one point; `name` opens the message."""
    points, dim = finite_array(name, x), network.input_dim
    if points.shape[-1:] != (dim,) or (single and points.ndim > 1):
        raise ValueError(f"{name} has shape {points.shape}, but [{'..., ' * (not single)}{dim}] was expected")
    return points


def gain(network, active):
    """Slope of the activation: 1 where a neuron is active, `negative_slope` elsewhere; for ReLU `active` itself."""
    return np.where(active, 1, network.negative_slope) if network.negative_slope else active


def _sums(h, W, b):
    """Compute W h + b, infinite only where the value itself is beyond float64, and not only one of its terms."""
    with np.errstate(over="ignore", invalid="ignore"):
        z = h @ W.T + b
        if not np.isfinite(z).all():
            scaled = np.ldexp(h, -520) @ np.ldexp(W, -520).T + np.ldexp(b, -1040)
            z = np.where(np.isfinite(z), z, np.ldexp(scaled, 1040))
    return z


def _activations(caller, network, z):
    """Activations of a layer, which for ReLU are 0 where a pre-activation is -inf."""
    return _held(f"{caller}: x", np.where(z > 0, z, network.negative_slope * z if network.negative_slope else 0.0))


def _held(name, values):
    """Return values, unless float64 does not hold one of them."""
    if not np.isfinite(values).all():
        raise ValueError(f"{name} leads to values beyond float64, but smaller ones were expected")
    return values


def output_slopes(network, slopes, patterns):
    """Slopes of the output along a direction, and bounds on their rounding errors, both shape=[n, n_outputs].

    Slopes are computed without offsets, so that large offsets cost them no digits.

    Parameters
    ----------
    network : ReluNetwork
    slopes : array, shape=[1, input_dim]
        The direction.
    patterns : iterable of pairs
        For each layer, the rows of the layer before that its rows continue, and which neurons are active on its rows.
    """
    errors = np.zeros_like(slopes)
    for W, (place, active) in zip(network.weights, patterns, strict=True):
        slope = gain(network, active)
        slopes, errors = (slope * part[place] for part in _slopes_after(W, slopes, errors))
    return (slopes, errors) if network.readout is None else _slopes_after(network.readout[0], slopes, errors)


def _slopes_after(W, slopes, errors):
    return slopes @ W.T, carry(W, np.zeros(1), errors + ROUNDING * np.abs(slopes))


def map_of(network, pattern):
    """Affine map (A, b) of the output on the region with this pattern; shapes as in `ReluNetwork.affine_map`."""
    A, b = np.eye(network.input_dim), np.zeros(network.input_dim)
    with np.errstate(over="ignore", invalid="ignore"):
        for W, c, active in zip(network.weights, network.biases, pattern, strict=True):
            slope = gain(network, active)
            A, b = (np.where(s, s * part, 0.0) for s, part in ((slope[..., None], W @ A), (slope, _sums(b, W, c))))
            _held("affine_map: network", A), _held("affine_map: network", b)
        if network.readout is not None:
            A, b = network.readout[0] @ A, _sums(b, *network.readout)
    return _held("affine_map: network", A), _held("affine_map: network", b)


def _affine_layer(W_name, b_name, W, b, fan_in):
    W, b = finite_array(f"ReluNetwork: {W_name}", W), finite_array(f"ReluNetwork: {b_name}", b)
    if W.ndim != 2 or W.size == 0:
        raise ValueError(f"ReluNetwork: {W_name} has shape {W.shape}, but [width > 0, inputs > 0] was expected")
    if fan_in is not None and W.shape[1] != fan_in:
        raise ValueError(f"ReluNetwork: {W_name} has shape {W.shape}, but {(len(W), fan_in)} was expected")
    if b.shape != W.shape[:1]:
        raise ValueError(f"ReluNetwork: {b_name} has shape {b.shape}, but {W.shape[:1]} was expected")
    return W, b
