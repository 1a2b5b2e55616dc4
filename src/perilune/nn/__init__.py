"""The neural network, written from scratch in NumPy."""

from perilune.nn.adam import Adam, clip_by_global_norm
from perilune.nn.gradcheck import check_layer, check_loss, check_network, gradcheck
from perilune.nn.initializers import initialize
from perilune.nn.layers import LayerNorm, Tanh, mlp
from perilune.nn.losses import huber, mse
from perilune.nn.network import Dense, Network, ReLU
from perilune.nn.optimizers import SGD, AdamW, RMSProp

__all__ = [
    "SGD",
    "Adam",
    "AdamW",
    "Dense",
    "LayerNorm",
    "Network",
    "RMSProp",
    "ReLU",
    "Tanh",
    "check_layer",
    "check_loss",
    "check_network",
    "clip_by_global_norm",
    "gradcheck",
    "huber",
    "initialize",
    "mlp",
    "mse",
]
