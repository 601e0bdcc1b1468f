"""Sizes of networks that do not exist yet: narrower ones, and ones that carry their streams in relays.

They are estimates: only sizes are changed, and nothing is said of what the network would compute.
"""

from __future__ import annotations

from dataclasses import replace

from spikegen.hardware.loihi2.network import Form, Layer, Link, Network, Role, retimed

RELAY_BITS = 8  # weights behind a relay


def narrowed(network: Network, factor: float, fixed: frozenset[str]) -> Network:
    """``network`` with ``factor`` times as many channels in every layer but the input and those named in ``fixed``."""

    def width(layer: Layer) -> int:
        kept = layer.name in fixed or layer.name == network.input.name
        return layer.shape[0] if kept else max(1, round(layer.shape[0] * factor))

    layers = {layer.name: replace(layer, shape=(width(layer), *layer.shape[1:])) for layer in network.layers}
    layers[network.input.name] = network.input

    def scaled(link: Link) -> Link:
        source, target = layers[link.source], layers[link.target]
        if link.form is Form.DENSE:
            return replace(link, inputs=source.neurons, outputs=target.neurons)
        outputs = target.shape[0] * link.shuffle**2
        if link.groups == 1:
            return replace(link, inputs=source.shape[0], outputs=outputs)
        groups = max(1, source.shape[0] // link.inputs)
        return replace(link, groups=groups, outputs=max(1, outputs // groups))

    return Network(
        network.input, tuple(layers[layer.name] for layer in network.layers), tuple(map(scaled, network.links))
    )


def relayed(network: Network) -> Network:
    """``network`` with relays in place of kernels that were composed again and again, retimed.

    Where a layer hears all that an earlier layer of the same height and width hears (two sources at least) and more,
    the two read one stream. Here the stream is summed once, by a relay in front of the earlier layer, which that layer
    hears channel by channel and the later one through a 1x1 convolution of all channels (a shortcut, in general).
    """
    sources = {
        layer.name: frozenset(link.source for link in network.into(layer.name))
        for layer in network.layers
        if all(link.form is Form.CONV for link in network.into(layer.name))
    }
    base: dict[str, Layer] = {}
    for index, layer in enumerate(network.layers):
        heard = sources.get(layer.name, frozenset())
        earlier = [
            other
            for other in network.layers[:index]
            if other.shape[1:] == layer.shape[1:]
            and len(sources.get(other.name, ())) > 1
            and sources[other.name] <= heard
        ]
        if earlier:
            base[layer.name] = max(earlier, key=lambda other: len(sources[other.name]))
    streams = {
        other.name: Layer(f"{other.name} | stream", other.shape, Role.PARTIAL, other.population)
        for other in base.values()
    }
    layers: list[Layer] = []
    links: list[Link] = []
    for layer in network.layers:
        own = network.into(layer.name)
        if layer.name in base:
            stream = streams[base[layer.name].name]
            own = tuple(link for link in own if link.source not in sources[base[layer.name].name])
            shapes = stream.shape[0], layer.shape[0]
            own += (Link(stream.name, layer.name, Form.CONV, RELAY_BITS, *shapes),)
        if layer.name in streams:
            stream = streams[layer.name]
            layers.append(stream)
            links += [replace(link, target=stream.name) for link in own]
            own = (Link(stream.name, layer.name, Form.CONV, RELAY_BITS, 1, 1, groups=layer.shape[0]),)
        layers.append(layer)
        links += own
    return retimed(Network(network.input, tuple(layers), tuple(links)))
