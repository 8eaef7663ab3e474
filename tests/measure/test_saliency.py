from __future__ import annotations

import torch
from small import SIZE_PX, labelled, tiny_network

from medddist.measure.saliency import grad_cam
from medddist.method.networks import initial_parameters


def test_heat_maps_are_scaled_and_one_a_image():
    network = tiny_network()
    heat = grad_cam(network.loaded(initial_parameters(network, 0)), labelled(6)[0], labelled(6)[1])
    assert heat.shape == (6, SIZE_PX, SIZE_PX) and heat.min() >= 0
    assert all(one.max() in (0, 1) for one in heat)


def test_the_definition_on_a_linear_layer_set_by_hand():
    """Only map 0 speaks for class 1, with weight 1 everywhere; so the heat is that map, cut off at
    zero and scaled.
    """
    network = tiny_network()
    theta = initial_parameters(network, 0)
    module = network.loaded(theta)
    with torch.no_grad():
        module.linear.weight.zero_()
        module.linear.weight[1, : module.linear.in_features // 4] = 1.0
    images = labelled(3)[0]
    theta = torch.cat([value.flatten() for value in module.parameters()])
    expected = module.features(images)[:, :1]
    expected = torch.nn.functional.interpolate(
        expected.relu(), (SIZE_PX, SIZE_PX), mode="bilinear"
    )[:, 0]
    expected = expected / expected.amax((1, 2), keepdim=True)
    torch.testing.assert_close(
        grad_cam(network.loaded(theta), images, torch.ones(3, dtype=torch.long)), expected
    )
