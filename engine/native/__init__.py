"""The int8 kernels: C sources, and the way from Python to them."""
