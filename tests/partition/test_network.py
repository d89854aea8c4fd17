"""ReluNetwork: a plain forward pass in other words, torch, and the errors."""

import subprocess
import sys
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from geolib.partition import ReluNetwork


def random_network(rng, dims, *, n_outputs=None, negative_slope=0.0):
    weights = [rng.normal(size=(after, before)) for before, after in pairwise(dims)]
    biases = [rng.normal(size=width) for width in dims[1:]]
    readout = n_outputs and (rng.normal(size=(n_outputs, dims[-1])), rng.normal(size=n_outputs))
    return ReluNetwork(weights, biases, readout=readout, negative_slope=negative_slope)


def forward(network, x):
    """One point, one neuron at a time."""
    h, pattern = list(x), []
    for W, b in zip(network.weights, network.biases, strict=True):
        z = [sum(w * v for w, v in zip(row, h, strict=True)) + c for row, c in zip(W, b, strict=True)]
        pattern.append([value > 0 for value in z])
        h = [value if value > 0 else network.negative_slope * value for value in z]
    if network.readout is None:
        return h, pattern
    W, b = network.readout
    return [sum(w * v for w, v in zip(row, h, strict=True)) + c for row, c in zip(W, b, strict=True)], pattern


@given(
    seed=st.integers(0, 2**32 - 1),
    dims=st.lists(st.integers(1, 5), min_size=2, max_size=5),
    n_outputs=st.sampled_from([None, 1, 3]),
    negative_slope=st.sampled_from([0.0, 0.01, 0.9]),
)
def test_output_pattern_and_map_agree_with_the_plain_forward_pass(seed, dims, n_outputs, negative_slope):
    rng = np.random.default_rng(seed)
    network = random_network(rng, dims, n_outputs=n_outputs, negative_slope=negative_slope)
    x = rng.normal(size=(2, 3, dims[0]))
    outputs, patterns, (A, b) = network(x), network.pattern(x), network.affine_map(x)
    n_outputs = n_outputs or dims[-1]
    assert outputs.shape == b.shape == (2, 3, n_outputs)
    assert A.shape == (2, 3, n_outputs, dims[0])
    assert [p.shape for p in patterns] == [(2, 3, width) for width in dims[1:]]
    assert {p.dtype for p in patterns} == {np.dtype(bool)}
    for i in np.ndindex(2, 3):
        output, pattern = forward(network, x[i])
        np.testing.assert_allclose(outputs[i], output, rtol=1e-9, atol=1e-9)
        np.testing.assert_allclose(A[i] @ x[i] + b[i], output, rtol=1e-9, atol=1e-9)
        assert [p[i].tolist() for p in patterns] == pattern


def test_a_batch_gives_what_its_points_give():
    rng = np.random.default_rng(0)
    network = random_network(rng, [3, 4, 2], n_outputs=2)
    x = rng.normal(size=(5, 3))
    A, b = network.affine_map(x)
    for i in range(5):
        one = network.affine_map(x[i])
        np.testing.assert_allclose(A[i], one[0], rtol=1e-12)
        np.testing.assert_allclose(b[i], one[1], rtol=1e-12)


def test_a_preactivation_of_zero_is_inactive():
    network = ReluNetwork([[[1, 0], [-1, 0], [0, 0]]], [[0, 0, 0]])
    assert network.pattern([0.0, 5.0])[0].tolist() == [False, False, False]


def test_sizes_and_repr():
    network = ReluNetwork([np.ones((4, 3)), np.ones((2, 4))], [np.ones(4), np.ones(2)], readout=([[1, 1]], [0]))
    assert (network.input_dim, network.widths) == (3, (4, 2))
    assert repr(network) == "ReluNetwork(3 -> 4 -> 2 -> 1)"
    assert repr(ReluNetwork([[[1]]], [[0]], negative_slope=0.5)) == "ReluNetwork(1 -> 1, negative_slope=0.5)"


def test_a_network_keeps_its_own_float64_copy():
    W, b = np.ones((2, 2), dtype=np.float32), np.zeros(2, dtype=int)
    network = ReluNetwork([W], [b])
    W[:] = 7
    assert network.weights[0].dtype == network.biases[0].dtype == np.float64
    assert network.weights[0].tolist() == [[1, 1], [1, 1]]
    with pytest.raises(ValueError, match="read-only"):
        network.weights[0][0, 0] = 3


EYE = np.eye(2)
MASKED = np.ma.array(EYE, mask=[[True, False], [False, False]])


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (([], []), ValueError, "weights is empty, but at least one hidden layer was expected"),
        ((None, None), TypeError, "weights is None, but an array for each layer was expected$"),
        (([EYE], 3), TypeError, "biases is 3, but an array for each layer was expected$"),
        (([EYE, EYE], [[0, 0]]), ValueError, "biases has 1 layers, but 2 were expected"),
        (
            ([EYE, np.ones((4, 3))], [[0, 0], np.ones(4)]),
            ValueError,
            r"weights\[1\] has shape \(4, 3\), but \(4, 2\) was expected",
        ),
        (([EYE], [[0, 0, 0]]), ValueError, r"biases\[0\] has shape \(3,\), but \(2,\) was expected"),
        ((EYE, EYE), ValueError, r"weights\[0\] has shape \(2,\), but \[width > 0, inputs > 0\]"),
        (([np.ones((0, 2))], [[]]), ValueError, r"weights\[0\] has shape \(0, 2\)"),
        (([[[1, np.nan]]], [[0]]), ValueError, r"weights\[0\] holds nan at \(0, 1\), but finite"),
        (([EYE], [[0, -np.inf]]), ValueError, r"biases\[0\] holds -inf at \(1,\), but finite"),
        (([MASKED], [[0, 0]]), TypeError, r"weights\[0\] is masked_array.* real numbers without masked entries"),
        (([list(MASKED)], [[0, 0]]), TypeError, r"weights\[0\] is \[masked_array.* without masked entries"),
        (
            ([EYE * (1 + 0j)], [[0, 0]]),
            TypeError,
            r"weights\[0\] is array\(.*, but an array of real numbers was expected",
        ),
        (([[[1, 2j]]], [[0]]), TypeError, r"weights\[0\] is \[\[1, 2j\]\], but an array of real numbers was expected"),
        (([[["a"]]], [[0]]), TypeError, r"weights\[0\] is \[\['a'\]\], but an array of real numbers was expected"),
        (([[[1, 2], [3]]], [[0, 0]]), TypeError, r"weights\[0\] is \[\[1, 2\], \[3\]\], but an array"),
        (([[[10**400]]], [[0]]), TypeError, r"weights\[0\] is \[\[1000.*\.\.\., but an array"),
    ],
)
def test_wrong_layers_are_named(arguments, error, message):
    with pytest.raises(error, match=f"^ReluNetwork: {message}"):
        ReluNetwork(*arguments)


@pytest.mark.parametrize(
    ("readout", "error", "message"),
    [
        ((np.ones((1, 3)), [0]), ValueError, r"readout\[0\] has shape \(1, 3\), but \(1, 2\) was expected"),
        ((np.ones((1, 2)), [0, 0]), ValueError, r"readout\[1\] has shape \(2,\), but \(1,\) was expected"),
        (([[1, np.inf]], [0]), ValueError, r"readout\[0\] holds inf at \(0, 1\)"),
        (np.ones((1, 2)), TypeError, r"readout is ndarray, but a pair \(W, b\) was expected"),
    ],
)
def test_wrong_readouts_are_named(readout, error, message):
    with pytest.raises(error, match=f"^ReluNetwork: {message}"):
        ReluNetwork([EYE], [[0, 0]], readout=readout)


@pytest.mark.parametrize(
    ("slope", "error", "message"),
    [
        (-0.1, ValueError, r"is -0\.1, but a number in \[0, 1\)"),
        (1, ValueError, r"is 1, but a number in \[0, 1\)"),
        (np.nan, ValueError, "holds nan, but finite numbers were expected"),
        ([0.1, 0.2], ValueError, r"is \[0\.1, 0\.2\], but a number"),
        ("relu", TypeError, "is 'relu', but"),
    ],
)
def test_wrong_slopes_are_named(slope, error, message):
    with pytest.raises(error, match=f"^ReluNetwork: negative_slope {message}"):
        ReluNetwork([EYE], [[0, 0]], negative_slope=slope)


@pytest.mark.parametrize(("method", "name"), [("__call__", "ReluNetwork"), ("pattern",) * 2, ("affine_map",) * 2])
def test_wrong_points_are_named(method, name):
    evaluate = getattr(ReluNetwork([EYE], [[0, 0]]), method)
    with pytest.raises(ValueError, match=rf"^{name}: x has shape \(3,\), but \[..., 2\] was expected"):
        evaluate([1, 2, 3])
    with pytest.raises(ValueError, match=rf"^{name}: x has shape \(\), but"):
        evaluate(1)
    with pytest.raises(ValueError, match=rf"^{name}: x holds nan at \(0, 1\), but finite"):
        evaluate([[0, np.nan]])


@pytest.mark.whole
def test_the_package_needs_no_torch():
    code = "import sys, geolib.partition; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


class TestFromTorch:
    @pytest.fixture
    def nn(self):
        return pytest.importorskip("torch").nn

    @pytest.mark.parametrize("kind", ["bfloat16", "float16", "float32", "float64"])
    def test_three_per_cent_are_seen_in_any_precision(self, nn, kind, monkeypatch):
        import torch

        module = nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 1)).to(getattr(torch, kind))
        network, whole = ReluNetwork.from_torch(module), nn.Linear.forward
        np.testing.assert_array_equal(network.weights[0], module[0].weight.detach().double().numpy())
        monkeypatch.setattr(nn.Linear, "forward", lambda self, x: (1 + 0.03 * (self is module[0])) * whole(self, x))
        with pytest.raises(
            ValueError, match=r"^from_torch: sequential computes something else, but what its weights say"
        ):
            ReluNetwork.from_torch(module)

    @pytest.mark.parametrize("error", [KeyError("k"), ZeroDivisionError, AssertionError("two\nlines")])
    def test_what_a_forward_raises_is_one_line(self, nn, error, monkeypatch):
        module = nn.Sequential(nn.Linear(2, 3), nn.ReLU())

        def fail(self, x):
            raise error

        monkeypatch.setattr(nn.Linear, "forward", fail)
        with pytest.raises(ValueError, match=r"^from_torch: sequential fails at a random point: [^\n]*$"):
            ReluNetwork.from_torch(module)

    def test_weights_and_slopes_that_are_none(self, nn):
        import torch

        module = nn.Sequential(nn.Linear(2, 3).double(), nn.LeakyReLU(torch.tensor(0.1)))
        assert ReluNetwork.from_torch(module).negative_slope == pytest.approx(0.1)
        module[0].weight.data *= 1e308
        with pytest.raises(ValueError, match=r"^from_torch: sequential overflows at points up to 100"):
            ReluNetwork.from_torch(module)
        module[0].weight = None
        with pytest.raises(TypeError, match=r"^from_torch: weight of layer 0 is None, but a tensor was expected$"):
            ReluNetwork.from_torch(module)
        with pytest.raises(ValueError, match=r"negative_slope is \[0.1\], but a number"):
            ReluNetwork.from_torch(nn.Sequential(nn.Linear(2, 3), nn.LeakyReLU([0.1])))

    @pytest.mark.parametrize("bias", [True, False])
    @pytest.mark.parametrize("readout", [True, False])
    @pytest.mark.parametrize("leaky", [True, False])
    def test_computes_the_same_function(self, nn, bias, readout, leaky):
        import torch

        torch.manual_seed(0)
        act = (lambda: nn.LeakyReLU(0.1)) if leaky else nn.ReLU
        layers = [nn.Linear(3, 8, bias=bias), act(), nn.Linear(8, 5, bias=bias), act(), nn.Linear(5, 2, bias=bias)]
        sequential = nn.Sequential(*layers[: 5 if readout else 4]).double()
        network = ReluNetwork.from_torch(sequential)
        x = torch.randn(20, 3, dtype=torch.float64)
        assert (network.readout is not None) == readout
        np.testing.assert_allclose(network(x.numpy()), sequential(x).detach().numpy(), rtol=1e-12, atol=1e-14)

    def test_copies_single_precision_exactly(self, nn):
        linear = nn.Linear(2, 3)
        network = ReluNetwork.from_torch(nn.Sequential(linear, nn.ReLU()))
        assert network.weights[0].tolist() == linear.weight.tolist()
        assert network.biases[0].tolist() == linear.bias.tolist()

    def test_names_what_it_cannot_read(self, nn):
        def refuses(error, message, *layers):
            with pytest.raises(error, match=f"^from_torch: {message}"):
                ReluNetwork.from_torch(nn.Sequential(*layers))

        two = nn.Linear(2, 2)
        refuses(TypeError, "layer 1 is Tanh, but Linear, ReLU or LeakyReLU was expected", two, nn.Tanh())
        refuses(TypeError, "layer 2 is Dropout, but", two, nn.ReLU(), nn.Dropout())
        refuses(
            ValueError, "layer 2 is LeakyReLU after ReLU, but a Linear was expected", two, nn.ReLU(), nn.LeakyReLU()
        )
        refuses(ValueError, "layer 1 is Linear after Linear, but an activation was expected", two, two, nn.ReLU())
        refuses(ValueError, "layer 0 is ReLU at the start, but a Linear was expected", nn.ReLU(), two)
        refuses(ValueError, "sequential has no activation, but at least one was expected", two)
        refuses(ValueError, "sequential has no activation")
        refuses(
            ValueError, r"negative slopes are \[0\.0, 0\.2\], but one for all", two, nn.ReLU(), two, nn.LeakyReLU(0.2)
        )

    @pytest.mark.parametrize("dtype", ["float64", "float32", "bfloat16", "float16"])
    def test_deep_and_wide_modules_pass_the_comparison_in_every_precision(self, nn, dtype):
        import torch

        torch.manual_seed(0)
        layers = [layer for _ in range(12) for layer in (nn.Linear(50, 50), nn.LeakyReLU(0.1, inplace=True))]
        sequential = nn.Sequential(*layers, nn.Linear(50, 3)).to(getattr(torch, dtype))
        state = torch.get_rng_state()
        network = ReluNetwork.from_torch(sequential)
        assert torch.equal(torch.get_rng_state(), state)
        assert network.weights[3].tolist() == sequential[6].weight.double().tolist()
        with torch.autocast("cpu", dtype=torch.bfloat16):
            ReluNetwork.from_torch(sequential)

    def test_refuses_what_computes_something_else(self, nn):
        import torch
        from torch.nn.utils.prune import l1_unstructured

        class Residual(nn.Sequential):
            def forward(self, x):
                return x + super().forward(x)

        class Scaled(nn.Linear):
            def forward(self, x):
                return 2 * super().forward(x)

        def refuses(error, message, module):
            with pytest.raises(error, match=f"^from_torch: {message}") as info:
                ReluNetwork.from_torch(module)
            assert "\n" not in str(info.value)

        def plain():
            return nn.Sequential(nn.Linear(2, 4), nn.ReLU(), nn.Linear(4, 2))

        refuses(TypeError, r"sequential is [\w.]+\.Residual, but a torch\.nn\.Sequential", Residual(*plain()))
        refuses(TypeError, r"layer 0 is [\w.]+\.Scaled, but Linear", nn.Sequential(Scaled(2, 4), nn.ReLU()))
        weight_normed = nn.Sequential(nn.utils.parametrizations.weight_norm(nn.Linear(2, 4)), nn.ReLU())
        refuses(TypeError, r"layer 0 is torch\.nn\.utils\.parametrize\.ParametrizedLinear, but", weight_normed)
        pruned = plain()
        l1_unstructured(pruned[2], "weight", 0.5)
        refuses(ValueError, "layer 2 has hooks", pruned)
        hooked = plain()
        handle = hooked[1].register_forward_hook(lambda module, given, output: output + 1)
        refuses(ValueError, "layer 1 has hooks", hooked)
        handle.remove()
        ReluNetwork.from_torch(hooked)
        hooked.register_forward_pre_hook(lambda module, given: (2 * given[0],))
        refuses(ValueError, "the Sequential has hooks", hooked)
        replaced = plain()
        replaced[1].forward = torch.tanh
        refuses(ValueError, "layer 1 has a forward of its own", replaced)
        far = plain()
        far.forward = lambda x: nn.Sequential.forward(far, x).where(x.abs().max() < 1e3, 0)
        refuses(ValueError, "the Sequential has a forward of its own", far)
        handle = nn.modules.module.register_module_forward_hook(lambda module, given, output: 2 * output)
        try:
            refuses(ValueError, "sequential computes something else", plain())
        finally:
            handle.remove()
        refuses(
            ValueError, "sequential fails at a random point", plain().append(nn.ReLU()).append(nn.Linear(2, 1).half())
        )

    def test_refuses_what_are_no_real_numbers_in_memory(self, nn):
        import torch

        def refuses(message, *layers):
            with pytest.raises(TypeError, match=f"^from_torch: {message}"):
                ReluNetwork.from_torch(nn.Sequential(*layers))

        plain = "but a plain tensor of real numbers in memory"
        refuses(rf"weight of layer 0 is .*complex64 on cpu, {plain}", nn.Linear(2, 3, dtype=torch.complex64), nn.ReLU())
        refuses(rf"weight of layer 0 is .*float32 on meta, {plain}", nn.Linear(2, 3, device="meta"), nn.ReLU())
        sparse = nn.Linear(2, 3)
        sparse.weight = nn.Parameter(sparse.weight.detach().to_sparse())
        refuses(f"weight of layer 0 is .*{plain}", sparse, nn.ReLU())

        class Quantized(nn.Linear):
            pass

        Quantized.__name__ = "Linear"
        refuses(r"layer 0 is [\w.]+\.Linear, but Linear, ReLU", Quantized(2, 3), nn.ReLU())

    def test_tensors_that_numpy_cannot_read_are_told_how(self, nn):
        import torch

        linear = nn.Linear(2, 3)
        for weight in (linear.weight, linear.weight.detach().bfloat16(), list(linear.weight)):
            with pytest.raises(
                TypeError, match=r"^ReluNetwork: weights\[0\] is .*as tensor\.detach\(\)\.cpu\(\)\.float"
            ):
                ReluNetwork([weight], [[0, 0, 0]])
        with pytest.raises(
            TypeError, match=r"^ReluNetwork: weights\[0\] is .*, but an array of real numbers was expected$"
        ):
            ReluNetwork([torch.eye(2, dtype=torch.complex64)], [[0, 0]])
        assert ReluNetwork([torch.eye(2)], [torch.zeros(2)]).weights[0].tolist() == [[1, 0], [0, 1]]

    def test_leaves_shapes_and_slopes_to_the_constructor(self, nn):
        with pytest.raises(ValueError, match=r"weights\[1\] has shape \(4, 5\), but \(4, 3\) was expected"):
            ReluNetwork.from_torch(nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(5, 4), nn.ReLU()))
        with pytest.raises(ValueError, match="negative_slope is -1"):
            ReluNetwork.from_torch(nn.Sequential(nn.Linear(2, 3), nn.LeakyReLU(-1.0)))

    def test_wants_a_sequential(self, nn):
        with pytest.raises(TypeError, match=r"from_torch: sequential is Linear, but a torch\.nn\.Sequential"):
            ReluNetwork.from_torch(nn.Linear(2, 2))


def test_an_inactive_neuron_may_overflow():
    network = ReluNetwork([[[-1e308], [1.0]], [[1.0, 1]]], [[-1e308, 0.0], [0.0]])
    assert network([5.0]) == [5]
    assert [on.tolist() for on in network.pattern([5.0])] == [[False, True], [True]]
    A, b = network.affine_map([5.0])
    assert (A.tolist(), b.tolist()) == ([[1]], [0])
    assert ReluNetwork([[[1e308, -1e308]]], [[1.0]])([1e10, 1e10]) == [1]


@pytest.mark.parametrize("call", ["__call__", "pattern", "affine_map"])
def test_an_active_neuron_that_overflows_is_refused(call):
    network = ReluNetwork([[[1e308]], [[1.0]]], [[1e308], [0.0]])
    with pytest.raises(ValueError, match=r"^\w+: x leads to values beyond float64, but smaller ones were expected$"):
        getattr(network, call)([5.0])


@pytest.mark.parametrize("number", [2**53 + 1, -(2**60) - 1, np.uint64(2**63 + 1)])
def test_whole_numbers_that_float64_rounds_are_refused(number):
    expected = r"holds -?\d+, but integers that float64 holds were expected$"
    for arguments in (([[[number]]], [[0]]), ([[[1]]], [[number]])):
        with pytest.raises(ValueError, match=rf"^ReluNetwork: \w+\[0\] {expected}"):
            ReluNetwork(*arguments)
    with pytest.raises(ValueError, match=rf"^ReluNetwork: x {expected}"):
        ReluNetwork([[[1]]], [[0]])([number])
    assert ReluNetwork([[[2**60]]], [[0]]).weights[0] == 2**60


def test_time_spans_are_no_numbers():
    with pytest.raises(TypeError, match=r"^ReluNetwork: weights\[0\] is array.*, but an array of real numbers was"):
        ReluNetwork([np.ones((1, 1), "m8[s]")], [[0]])
