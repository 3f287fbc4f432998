"""The convolution: where patches lie, correlation and its adjoint, pooling."""
