"""The mixture of patches: its cells, its model, expectation-maximisation, features."""
