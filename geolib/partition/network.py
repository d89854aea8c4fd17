"""A fully connected ReLU network, and the affine map it is around a point."""

from functools import cached_property

import numpy as np

from geolib.checks import finite_array, integer, one_line


class ReluNetwork:
    """A fully connected network with ReLU or leaky ReLU activations, in float64 and immutable.

    Such a network is a continuous piecewise affine map: f(x) = A_w x + b_w on each region w of its input (eq. 1 of
    arXiv 2407.02678). A region is where the *pattern*, which neurons are active, stays the same; a neuron is active
    where its pre-activation is > 0.

    The parameters stay as attributes: tuples of read-only arrays, `readout` a pair or None.

    Parameters
    ----------
    weights : sequence of array-like
        One per hidden layer: weights[k] has shape=[width_k, width_{k-1}], weights[0] has shape=[width_0, input_dim].
    biases : sequence of array-like
        One per hidden layer: biases[k] has shape=[width_k].
    readout : pair of array-like, optional
        An affine map (W, b) after the last activation: shape=[n_outputs, width of the last layer] and
        shape=[n_outputs]. Without it the network's output is its last hidden activation.
    negative_slope : float
        Slope of the activation where the pre-activation is <= 0, in [0, 1), for all layers: 0 is ReLU.

    Raises
    ------
    TypeError
        If something is not an array of real numbers.
    ValueError
        If shapes do not chain, a number is NaN or infinite, or the slope is outside [0, 1).

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

    def __init__(self, weights, biases, *, readout=None, negative_slope=0.0):
        for name, given in (("weights", weights), ("biases", biases)):
            if not np.iterable(given):
                raise TypeError(f"ReluNetwork: {name} is {one_line(given)}, expected a sequence, one per hidden layer")
        weights, biases = list(weights), list(biases)
        if not weights:
            raise ValueError("ReluNetwork: weights is empty, expected at least one hidden layer")
        if len(weights) != len(biases):
            raise ValueError(
                f"ReluNetwork: biases has {len(biases)} layers, but weights has {len(weights)}; expected one each"
            )
        layers = []
        for k, (W, b) in enumerate(zip(weights, biases, strict=True)):
            before = layers[-1][0].shape[0] if layers else None
            layers.append(_affine_layer(f"weights[{k}]", f"biases[{k}]", W, b, before))
        self.weights = tuple(W for W, _ in layers)
        self.biases = tuple(b for _, b in layers)
        self.readout = None
        if readout is not None:
            if not isinstance(readout, tuple | list) or len(readout) != 2:
                raise TypeError(f"ReluNetwork: readout is {type(readout).__name__}, expected a pair (W, b)")
            self.readout = _affine_layer("readout[0]", "readout[1]", *readout, self.widths[-1])
        slope = finite_array("ReluNetwork: negative_slope", negative_slope)
        if slope.shape != () or not 0 <= slope < 1:
            raise ValueError(f"ReluNetwork: negative_slope is {one_line(negative_slope)}, expected a number in [0, 1)")
        self.negative_slope = float(slope)

    @classmethod
    def from_torch(cls, sequential):
        """Copy a `torch.nn.Sequential` of Linear and ReLU or LeakyReLU layers, which must alternate.

        A last Linear becomes the readout; a Linear without bias has biases 0. Subclasses and hooks may compute
        something else than the weights say, so only torch's own layers without hooks are copied, and the copy is
        compared with the module in random points.

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
            If `sequential` is not a Sequential, holds a layer of another type (a subclass, or a parametrised or
            quantised layer), or its weights are not real numbers in memory.
        ValueError
            If layers do not alternate, no activation is there, slopes differ, hooks or a replaced `forward` are there,
            or the module computes something else than its copy.
        """
        from torch import nn

        if type(sequential) is not nn.Sequential:
            raise TypeError(f"from_torch: got {_kind(sequential)}, expected a torch.nn.Sequential")
        linears, slopes = [], []
        for i, layer in enumerate(sequential):
            kind = _kind(layer)
            if type(layer) not in (nn.Linear, nn.ReLU, nn.LeakyReLU):
                raise TypeError(f"from_torch: layer {i} is {kind}, expected Linear, ReLU or LeakyReLU")
            if (type(layer) is nn.Linear) != (i % 2 == 0):
                after = f"after {type(sequential[i - 1]).__name__}" if i else "at the start"
                wanted = "an activation" if i % 2 else "a Linear"
                raise ValueError(f"from_torch: layer {i} is {kind} {after}, expected {wanted} there")
            if type(layer) is nn.Linear:
                W = _numbers(f"weight of layer {i}", layer.weight)
                b = np.zeros(len(W)) if layer.bias is None else _numbers(f"bias of layer {i}", layer.bias)
                linears.append((W, b))
            else:
                slope = layer.negative_slope if type(layer) is nn.LeakyReLU else 0.0
                slopes.append(finite_array(f"from_torch: negative_slope of layer {i}", slope).tolist())
        if not slopes:
            raise ValueError(f"from_torch: no activation among the {len(sequential)} layers, expected at least one")
        if any(slope != slopes[0] for slope in slopes):
            raise ValueError(f"from_torch: negative slopes are {slopes}, expected the same for all layers")
        hidden, last = linears[: len(slopes)], linears[len(slopes) :]
        weights, biases = zip(*hidden, strict=True)
        network = cls(weights, biases, readout=last[0] if last else None, negative_slope=slopes[0])
        _compare(network, sequential)
        return network

    @property
    def input_dim(self):
        """Dimension of the input."""
        return self.weights[0].shape[1]

    @property
    def widths(self):
        """Number of neurons of each hidden layer, a tuple."""
        return tuple(W.shape[0] for W in self.weights)

    def __repr__(self):
        sizes = [self.input_dim, *self.widths] + ([] if self.readout is None else [len(self.readout[1])])
        slope = f", negative_slope={self.negative_slope}" if self.negative_slope else ""
        return f"ReluNetwork({' -> '.join(map(str, sizes))}{slope})"

    def __call__(self, x):
        """Output at each point.

        Parameters
        ----------
        x : array-like, shape=[..., input_dim]
            Points.

        Returns
        -------
        array, shape=[..., n_outputs]
            After the readout; without one, the last hidden activation.
        """
        *_, z = self._preactivations("ReluNetwork", x)
        h = gain(self, z > 0) * z
        if self.readout is None:
            return h
        W, b = self.readout
        return h @ W.T + b

    def pattern(self, x):
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

    def affine_map(self, x):
        """Affine map of the region of a point: f(y) = A y + b for every y in it.

        Parameters
        ----------
        x : array-like, shape=[..., input_dim]
            A point, or a batch. On a boundary the pattern of the point itself decides: a pre-activation of 0 is
            inactive.

        Returns
        -------
        A : array, shape=[..., n_outputs, input_dim]
        b : array, shape=[..., n_outputs]
            The map up to the readout; without one, up to the last hidden activation.
        """
        return map_of(self, tuple(z > 0 for z in self._preactivations("affine_map", x)))

    @cached_property
    def _rescaled(self):
        """The same regions and pieces: each layer times a power of 2, lest products of weights over- or underflow.

        The largest number of a layer comes near 1, unless its smallest would lose digits; of the readout, only slopes.
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
        h = finite_array(f"{caller}: x", x)
        if h.ndim == 0 or h.shape[-1] != self.input_dim:
            raise ValueError(f"{caller}: x has shape {h.shape}, but the network's input has dimension {self.input_dim}")
        for W, b in zip(self.weights, self.biases, strict=True):
            z = h @ W.T + b
            yield z
            h = gain(self, z > 0) * z


class Partition:
    """What partitions of a line and of a plane have in common: patterns and maps of regions."""

    def __repr__(self):
        return f"{type(self).__name__}(n_regions={self.n_regions}, snapped={self.snapped})"

    @cached_property
    def patterns(self):
        """Activation pattern of each region: a list of tuples, laid out like `network.pattern` of one point."""
        return list(zip(*self.active, strict=True))

    def affine_map(self, i):
        """Affine map of region i: f(x) = A x + b for each input x in it.

        Parameters
        ----------
        i : int
            Index of a region, as in `patterns`.

        Returns
        -------
        A : array, shape=[n_outputs, input_dim]
        b : array, shape=[n_outputs]
            As `network.affine_map` gives them for a point inside.
        """
        i = integer("affine_map: i", i, -self.n_regions, self.n_regions - 1)
        return map_of(self.network, tuple(active[i] for active in self.active))


def _kind(module):
    """Name of a module's class; of a class that is not torch's own, with where it is from."""
    kind = type(module)
    return kind.__name__ if kind.__module__.startswith("torch.nn.modules.") else f"{kind.__module__}.{kind.__name__}"


def _numbers(name, tensor):
    import torch

    if not isinstance(tensor, torch.Tensor):
        raise TypeError(f"from_torch: {name} is {one_line(tensor)}, expected a tensor")
    plain = type(tensor) in (torch.Tensor, torch.nn.Parameter) and tensor.layout is torch.strided
    if not plain or tensor.is_meta or not tensor.is_floating_point():
        what = f"a {type(tensor).__name__} of {tensor.dtype} on {tensor.device}"
        raise TypeError(f"from_torch: {name} is {what}, expected a plain tensor of real numbers in memory")
    return tensor.detach().cpu().double().numpy()


def _compare(network, sequential):
    """Raise unless a module computes what its copy does, with its weights in float64: rounding would hide much."""
    import torch
    from torch.nn.functional import leaky_relu, linear

    for i, module in enumerate((*sequential, sequential)):
        where = "the Sequential" if module is sequential else f"layer {i}"
        if module._forward_hooks or module._forward_pre_hooks:
            raise ValueError(f"from_torch: {where} has hooks, as weight_norm or pruning add them; expected none")
        if "forward" in vars(module):  # points may not tell: it may depend on their type or size
            raise ValueError(f"from_torch: {where} has a forward of its own, expected its class's")
    rng = np.random.default_rng(0)
    points = rng.normal(size=(64, network.input_dim)) * 10 ** rng.uniform(-2, 2, (64, 1))
    layers = [*zip(network.weights, network.biases, strict=True), *filter(None, [network.readout])]
    try:
        with torch.no_grad():
            sequential(torch.tensor(points).to(sequential[0].weight))  # as it is: layers of mixed types fail
            h = x = torch.tensor(points)
            for k, layer in enumerate(layers):
                h = linear(h, *map(torch.tensor, layer))
                h = h if 2 * k + 1 == len(sequential) else leaky_relu(h, network.negative_slope)
            wide = {name: weight.detach().cpu().double() for name, weight in sequential.named_parameters()}
            given = torch.func.functional_call(sequential, wide, (x,)).to(h)
    except Exception as error:  # whatever a forward of somebody's own may raise
        raise ValueError(f"from_torch: the module fails in a random point: {one_line(error)}") from None
    if not h.isfinite().all():
        raise ValueError("from_torch: the module's values overflow float64 in points up to 100, expected finite ones")
    if given.shape != h.shape or not torch.allclose(given, h, 1e-12, 1e-12 * float(h.abs().max())):
        raise ValueError("from_torch: the module computes something else than its weights say, expected the same")


def gain(network, active):
    """Slope of the activation: 1 where a neuron is active, `negative_slope` elsewhere; of a ReLU, `active` itself."""
    return np.where(active, 1.0, network.negative_slope) if network.negative_slope else active


def map_of(network, pattern):
    """Affine map (A, b) that a pattern selects, up to the readout; shapes as in `ReluNetwork.affine_map`."""
    A, b = np.eye(network.input_dim), np.zeros(network.input_dim)
    for W, c, active in zip(network.weights, network.biases, pattern, strict=True):
        slope = gain(network, active)
        A, b = slope[..., None] * (W @ A), slope * (b @ W.T + c)
    if network.readout is None:
        return A, b
    W, c = network.readout
    return W @ A, b @ W.T + c


def _affine_layer(W_name, b_name, W, b, fan_in):
    W, b = finite_array(f"ReluNetwork: {W_name}", W), finite_array(f"ReluNetwork: {b_name}", b)
    if W.ndim != 2 or W.size == 0:
        raise ValueError(f"ReluNetwork: {W_name} has shape {W.shape}, expected [width, inputs], neither of them 0")
    if fan_in is not None and W.shape[1] != fan_in:
        raise ValueError(f"ReluNetwork: {W_name} has shape {W.shape}, but the layer before has width {fan_in}")
    if b.shape != W.shape[:1]:
        raise ValueError(
            f"ReluNetwork: {b_name} has shape {b.shape}, but {W_name} has shape {W.shape}; expected {W.shape[:1]}"
        )
    return W, b
