"""Neural networks as graphs of scalars or of arrays, and the same network by hand-derived matrix formulas."""

from nn import by_hand, initializers, losses
from nn.activations import ACTIVATIONS
from nn.diagram import draw_network
from nn.layers import MLP, Layer, Module, Neuron
from nn.losses import LOSSES
from nn.optim import SGD, Adam
from nn.training import fit

__all__ = [
    "ACTIVATIONS",
    "LOSSES",
    "MLP",
    "SGD",
    "Adam",
    "Layer",
    "Module",
    "Neuron",
    "by_hand",
    "draw_network",
    "fit",
    "initializers",
    "losses",
]
